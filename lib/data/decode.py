"""Member bytes -> uint8 arrays, one function per file format."""
from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from lib.data.registry import Dataset, Source


def decode(data: Dataset, source: Source, members: Sequence[bytes]) -> dict[str, np.ndarray]:
    """The arrays of `data` from its members' bytes, in the registry's shapes.

    Args:
        members: bytes of `source.members`, in order; those of one array are concatenated.
    Raises:
        ValueError: the bytes are not of the source's format or do not fill the registered shape.
    """
    if source.decoder == "csv":
        parts = _csv(members[0])
    else:
        read = {"idx": _idx, "png_strips": _png_or_json}[source.decoder]
        parts = _concatenate(source, members, read)
    return {name: parts[name].reshape(array.shape) for name, array in data.arrays.items()}


def _concatenate(
    source: Source, members: Sequence[bytes], read: Callable[[bytes], np.ndarray]
) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for member, raw in zip(source.members, members, strict=True):
        parts.setdefault(member.array, []).append(read(raw))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _csv(raw: bytes) -> dict[str, np.ndarray]:
    """Gzipped rows of integers: pixels, then the label."""
    table = np.loadtxt(io.StringIO(gzip.decompress(raw).decode()), delimiter=",", dtype=np.uint8)
    return {"images": np.ascontiguousarray(table[:, :-1]), "labels": np.ascontiguousarray(table[:, -1])}


def _idx(raw: bytes) -> np.ndarray:
    """The IDX format of MNIST, gzipped or not: 00 00 08 ndim, ndim big-endian sizes, uint8 values."""
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"not an IDX file of bytes: starts with {raw[:4].hex()}")
    shape = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def _png_or_json(raw: bytes) -> np.ndarray:
    """A PNG with one image per row of pixels [n, h * w, 3], or a JSON list of labels [n]."""
    if raw[:1] == b"[":
        return np.array(json.loads(raw), dtype=np.uint8)
    with Image.open(io.BytesIO(raw)) as strip:
        return np.asarray(strip)
