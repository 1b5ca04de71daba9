"""Where a data set's arrays come from: explicit path, verified cache, installed package, download; else an error."""
from __future__ import annotations

import hashlib
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from lib import files
from lib.data import archives, fetch
from lib.data.decode import decode
from lib.data.registry import DataCorrupt, Dataset, DatasetUnavailable, Source, dataset

Arrays = dict[str, np.ndarray]

INSTALLABLE = ("pip", "apt")
"""Providers whose packages may be installed already; such a copy is read in place, not cached."""

_verified: set[tuple[str, int, int]] = set()
"""Cache files (path, mtime in ns, size) whose arrays this process has hashed already."""


def resolve(name: str, path: Path | str | None = None, download: bool | None = None) -> Arrays:
    """The decoded, verified arrays of data set `name`; what was read from an archive is kept in the cache.

    Args:
        path: an archive of one of the registered packages, or a folder holding its members; nothing else is tried.
        download: whether package clients may be run; by default unless `BOOK_OFFLINE=1`.
    Returns:
        One array per name in the registry, of the registered dtype and shape.
    Raises:
        DataError: unknown name (lists the accepted ones).
        DatasetUnavailable: no source has it; says where it looked and the command that gets it.
        DataCorrupt: an archive, a member or a decoded array differs from the pinned hash.
    """
    data = dataset(name)
    if path is not None:
        return store(data, _explicit(data, Path(path)))
    looked: list[str] = []
    if (cached := _cached(data, looked)) is not None:
        return cached
    for source in (s for s in data.sources if s.provider in INSTALLABLE):
        try:
            return check(data, _installed(data, source), f"the installed {source.package}")
        except FileNotFoundError as error:
            looked.append(str(error))
    if not (fetch.allowed() if download is None else download):
        raise _unavailable(data, [*looked, "downloads are off (BOOK_OFFLINE=1, or the caller said so)"])
    for source in data.sources:
        try:
            return store(data, _downloaded(data, source))
        except fetch.FetchError as error:
            looked.append(str(error))
    raise _unavailable(data, looked)


def cache_path(name: str) -> Path:
    """Where the decoded arrays of data set `name` are kept."""
    return files.BUILD / "data" / f"{name}.npz"


def check(data: Dataset, arrays: Arrays, where: str) -> Arrays:
    """`arrays` unchanged; raise DataCorrupt unless names, dtypes, shapes and hashes are the registry's."""
    for key, pinned in data.arrays.items():
        array = arrays[key]
        if (str(array.dtype), array.shape) != (pinned.dtype, pinned.shape):
            raise DataCorrupt(f"{data.name} from {where}: {key} is {array.dtype} {array.shape}, "
                              f"registry pins {pinned.dtype} {pinned.shape}")
        found = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        if found != pinned.sha256:
            raise DataCorrupt(f"{data.name} from {where}: {key} has sha256 {found[:16]}, "
                              f"registry pins {pinned.sha256[:16]}; not used")
    return arrays


def store(data: Dataset, arrays: Arrays) -> Arrays:
    """Keep verified `arrays` in the cache, whole or not at all."""
    check(data, arrays, "its source")
    path = files.write_atomically(cache_path(data.name), lambda temporary: np.savez(temporary, **arrays))
    _verified.add(_stamp(path))
    return arrays


def megabytes(n: int) -> str:
    """`n` bytes as text: "0.1 MB", "139 MB"."""
    return f"{n / 1e6:.1f} MB" if n < 1e7 else f"{n / 1e6:.0f} MB"


def _cached(data: Dataset, looked: list[str]) -> Arrays | None:
    path = cache_path(data.name)
    if not path.is_file():
        looked.append("no copy in the cache")
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in data.arrays}
        if _stamp(path) not in _verified:
            check(data, arrays, "the cache")
            _verified.add(_stamp(path))
        return arrays
    except (DataCorrupt, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        looked.append(f"the cached copy is damaged or of another registry ({error})")
        return None


def _unavailable(data: Dataset, looked: list[str]) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"{data.title} ({data.name}) is not available; looked: {'; '.join(looked)}. Get it with `{data.command}`, or "
        f"from a downloaded archive with `python -m lib.data fetch {data.name} --path FILE` "
        f"({megabytes(data.download_bytes)} download, {megabytes(data.bytes)} on disk; licence: {data.licence})"
    )


def _stamp(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def _explicit(data: Dataset, path: Path) -> Arrays:
    """Arrays from a downloaded archive or a folder of members; the last source's complaint if none fits."""
    if not path.exists():
        raise DatasetUnavailable(f"{data.name}: no file or folder {path}")
    problem: Exception | None = None
    for source in (s for s in data.sources if s.members):
        read = archives.read_folder if path.is_dir() else archives.read_archive
        try:
            return decode(data, source, read(path, source))
        except (DataCorrupt, FileNotFoundError) as error:
            problem = error
    raise DataCorrupt(f"{data.name}: {path} fits none of {', '.join(map(str, data.sources))} ({problem})")


def _installed(data: Dataset, source: Source) -> Arrays:
    """Arrays from the members of an installed package, which need not be the pinned version if the bytes agree."""
    if source.provider == "pip":
        try:
            package = distribution(source.package)
        except PackageNotFoundError as error:
            raise FileNotFoundError(f"{source.package} is not installed") from error
        root, version = Path(str(package.locate_file(""))), package.version
    else:
        root, version = Path("/"), "of another build"
    try:
        return decode(data, source, archives.read_folder(root, source))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no installed {source.package} with {source.members[0].path}") from error
    except DataCorrupt as error:
        if version == source.version:
            raise
        raise FileNotFoundError(f"installed {source.package} is version {version}, registry pins "
                                f"{source.version} ({error})") from error


def _downloaded(data: Dataset, source: Source) -> Arrays:
    with tempfile.TemporaryDirectory(prefix="book-data-") as folder:
        if source.provider == "torchvision":
            return fetch.fetch_torchvision(data, source, Path(folder))
        return decode(data, source, archives.read_archive(fetch.fetch_archive(source, Path(folder)), source))
