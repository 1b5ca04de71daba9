"""Where a data set's arrays come from: explicit path, verified cache, installed package, download; else an error."""
from __future__ import annotations

import hashlib
import tempfile
import zipfile
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from lib import files
from lib.data import archives, fetch
from lib.data.archives import Arrays
from lib.data.registry import DataCorrupt, Dataset, DatasetUnavailable, Missing, Source, check, megabytes
from lib.live import Progress

INSTALLABLE = ("pip", "apt")
"""Providers whose packages may be installed already; such a copy is read in place, not cached."""

_verified: set[tuple[str, int, int]] = set()
"""Cache files (path, mtime in ns, size) whose arrays this process has hashed already."""


def resolve(data: Dataset, path: Path | str | None = None, download: bool | None = None) -> Arrays:
    """The decoded, verified arrays of `data`; what was read from an archive is kept in the cache.

    Args:
        path: an archive of one of the registered packages, or a folder holding its members; nothing else is tried.
        download: whether package clients may be run; by default unless `BOOK_OFFLINE=1`.
    Raises:
        DatasetUnavailable: no source has it; says where it looked and the command that gets it.
        DataCorrupt: an archive, a member or a decoded array differs from the pinned hash.
    """
    if path is not None:
        return store(data, _given(data, Path(path)))
    places = [_cached, *(partial(_installed, source=s) for s in data.sources if s.provider in INSTALLABLE)]
    allowed = fetch.allowed() if download is None else download
    places += [partial(_downloaded, source=s) for s in data.sources] if allowed else []
    looked: list[str] = []
    for place in places:
        try:
            return place(data)
        except Missing as error:
            looked.append(str(error))
    looked += [] if allowed else ["downloads are off (BOOK_OFFLINE=1, or the caller said so)"]
    raise DatasetUnavailable(
        f"{data.title} ({data.name}) is not available; looked: {'; '.join(looked)}. Get it with `{data.command}`, or "
        f"from a downloaded archive with `python -m lib.data fetch {data.name} --path FILE` "
        f"({megabytes(data.download_bytes)} download, {megabytes(data.bytes)} on disk; licence: {data.licence})"
    )


def as_file(data: Dataset) -> Path:
    """A data set that is one file, as a file under its own suffix beside the cache; errors as `resolve`."""
    [(suffix, array)] = data.arrays.items()
    place = cache_path(data.name).with_suffix(f".{suffix}")
    if not place.is_file() or files.file_digest(place) != array.sha256:
        files.write_atomically(place, resolve(data)[suffix].tofile)
    return place


def cache_path(name: str) -> Path:
    """Where the decoded arrays of data set `name` are kept."""
    return files.BUILD / "data" / f"{name}.npz"


def store(data: Dataset, arrays: Arrays) -> Arrays:
    """Keep `arrays` in the cache once they are verified, whole or not at all."""
    arrays = _checked(data, arrays, "its source")
    path = files.write_atomically(cache_path(data.name), lambda temporary: np.savez(temporary, **arrays))
    _verified.add(_stamp(path))
    return arrays


def _checked(data: Dataset, arrays: Arrays, where: str) -> Arrays:
    """The registered arrays; DataCorrupt unless their dtypes, shapes and hashes are the registry's."""
    for key, pinned in data.arrays.items():
        what, array = f"{data.name} from {where}: {key}", arrays[key]
        check(f"{what} is", f"{array.dtype} {array.shape}", f"{pinned.dtype} {pinned.shape}")
        check(f"{what} has sha256", hashlib.sha256(np.ascontiguousarray(array)).hexdigest(), pinned.sha256)
    return {key: arrays[key] for key in data.arrays}


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def _given(data: Dataset, path: Path) -> Arrays:
    """Arrays from a downloaded archive or a folder of members; the last source's complaint if none fits."""
    if not path.exists():
        raise DatasetUnavailable(f"{data.name}: no file or folder {path}")
    problem: Exception | None = None
    for source in (s for s in data.sources if s.members):
        try:
            return archives.read(path, data, source)
        except (DataCorrupt, FileNotFoundError) as error:
            problem = error
    raise DataCorrupt(f"{data.name}: {path} fits none of {', '.join(map(str, data.sources))} ({problem})")


def _cached(data: Dataset) -> Arrays:
    path = cache_path(data.name)
    if not path.is_file():
        raise Missing("no copy in the cache")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in data.arrays}
        if _stamp(path) not in _verified:
            _checked(data, arrays, "the cache")
            _verified.add(_stamp(path))
        return arrays
    except (DataCorrupt, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Missing(f"the cached copy is damaged or of another registry ({error})") from error


def _installed(data: Dataset, source: Source) -> Arrays:
    """Arrays from the members of an installed package, which need not be the pinned version if the bytes agree."""
    root, version = Path("/"), "of another build"
    try:
        if source.provider == "pip":
            package = distribution(source.package)
            root, version = Path(str(package.locate_file(""))), package.version
        arrays = archives.read(root, data, source)
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise Missing(f"no installed {source.package} with {source.members[0].path}") from error
    except DataCorrupt as error:
        if version == source.version:
            raise
        pinned = f"registry pins {source.version} ({error})"
        raise Missing(f"installed {source.package} is version {version}, {pinned}") from error
    return _checked(data, arrays, f"the installed {source.package}")


def _downloaded(data: Dataset, source: Source) -> Arrays:
    told = f"{data.name}: fetching {megabytes(source.archive_bytes or data.download_bytes)}"
    with tempfile.TemporaryDirectory(prefix="book-data-") as folder, Progress(1, told) as progress:
        progress.show()
        if source.provider == "torchvision":
            return store(data, fetch.fetch_torchvision(source, Path(folder)))
        return store(data, archives.read(fetch.fetch_archive(source, Path(folder)), data, source))
