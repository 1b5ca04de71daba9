"""Arrays from the registered members of an archive or a folder: read into memory, checked, never extracted to disk."""
from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from lib.data.registry import DataCorrupt, Dataset, Source, check, is_safe_path
from lib.files import file_digest

Arrays = dict[str, np.ndarray]
Entry = tuple[str, int, Callable[[], bytes] | None]
"""Name, size, and how to read it: None for whatever is not a regular file (links, folders, devices)."""


def read(path: Path, data: Dataset, source: Source) -> Arrays:
    """The arrays of `data`, in the registry's shapes, from the source's members in an archive or a folder at `path`.

    Members of one array are concatenated in their order.

    Raises:
        FileNotFoundError: a member is not in the folder.
        DataCorrupt: the archive or a member differs from its pinned hash, a member is missing or no regular
            file, a name in the archive leaves it, or the archive cannot be read.
    """
    if path.is_dir():
        where, found = str(path), {member.path: (path / member.path).read_bytes() for member in source.members}
    else:
        where = f"{path.name} ({source})"
        found = _unpacked(path, source, where)
    parts: dict[str, list[np.ndarray]] = {}
    for member in source.members:
        raw = found[member.path]
        check(f"{where}: {member.path} has sha256", hashlib.sha256(raw).hexdigest(), member.sha256)
        arrays = _READERS[source.decoder](raw)
        for name, array in (arrays if isinstance(arrays, dict) else {member.array: arrays}).items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(parts[name]).reshape(array.shape) for name, array in data.arrays.items()}


def _unpacked(archive: Path, source: Source, where: str) -> dict[str, bytes]:
    """Bytes of the source's members by path."""
    wanted, found = {member.path: member for member in source.members}, {}
    if source.archive_sha256:
        size = archive.stat().st_size
        check(f"{where}: {size} bytes with sha256", file_digest(archive), source.archive_sha256)
    try:
        for name, size, read_bytes in _ENTRIES[source.provider](archive):
            if not is_safe_path(name):
                raise DataCorrupt(f"{where}: member name {name!r} leaves the archive; refused")
            if name in wanted and read_bytes is None:
                raise DataCorrupt(f"{where}: {name} is not a regular file; refused")
            if name in wanted:
                check(f"{where}: {name} has", f"{size} bytes", f"{wanted[name].bytes} bytes")
                found[name] = read_bytes()
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise DataCorrupt(f"{where}: not a readable archive, truncated? ({error})") from error
    if missing := wanted.keys() - found:
        raise DataCorrupt(f"{where}: no member {', '.join(sorted(missing))}")
    return found


def _tar(archive: Path | io.BytesIO) -> Iterator[Entry]:
    where = {"fileobj": archive} if isinstance(archive, io.BytesIO) else {"name": archive}
    with tarfile.open(mode="r:*", **where) as tar:
        for info in tar:
            if info.name == ".":
                continue
            name = info.name.removeprefix("./")
            yield name, info.size, (lambda info=info: tar.extractfile(info).read()) if info.isreg() else None


def _zip(archive: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(archive) as wheel:
        for info in wheel.infolist():
            regular = not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16)
            yield info.filename, info.file_size, (lambda info=info: wheel.read(info)) if regular else None


def _deb(archive: Path) -> Iterator[Entry]:
    """Entries of the data tar of a Debian package: an `ar` file of 60-byte headers, each followed by its data."""
    raw = archive.read_bytes()
    at = 8
    while raw.startswith(b"!<arch>\n") and at + 60 <= len(raw):
        name, size = raw[at : at + 16].decode().strip(), int(raw[at + 48 : at + 58])
        if name.startswith("data.tar"):
            yield from _tar(io.BytesIO(raw[at + 60 : at + 60 + size]))
            return
        at += 60 + size + size % 2
    raise tarfile.ReadError("no data.tar inside")


_ENTRIES: dict[str, Callable[[Path], Iterator[Entry]]] = {"npm": _tar, "pip": _zip, "apt": _deb}


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


_READERS = {"bytes": partial(np.frombuffer, dtype=np.uint8), "csv": _csv, "idx": _idx, "png_strips": _png_or_json}
"""What a member's bytes are by decoder: its array, or several by name."""
