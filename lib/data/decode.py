"""Member bytes -> uint8 arrays, one function per file format."""
from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from lib.data.registry import Dataset, Source

Arrays = dict[str, np.ndarray]


def decode(data: Dataset, source: Source, members: Sequence[bytes]) -> Arrays:
    """The arrays of `data`, in the registry's shapes, from the bytes of `source.members`, in order.

    Those of one array are concatenated.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for member, raw in zip(source.members, members, strict=True):
        read = _READERS[source.decoder](raw)
        for name, array in (read if isinstance(read, dict) else {member.array: read}).items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(parts[name]).reshape(array.shape) for name, array in data.arrays.items()}


def _csv(raw: bytes) -> Arrays:
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


def _bytes(raw: bytes) -> np.ndarray:
    """The file as it is."""
    return np.frombuffer(raw, np.uint8)


_READERS = {"bytes": _bytes, "csv": _csv, "idx": _idx, "png_strips": _png_or_json}
