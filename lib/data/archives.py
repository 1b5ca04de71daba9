"""Arrays from the registered members of an archive or a folder: read into memory, checked, never extracted to disk."""
from __future__ import annotations

import hashlib
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.data.decode import Arrays, decode
from lib.data.registry import DataCorrupt, Dataset, Member, Source, check, is_safe_path
from lib.files import file_digest

Entry = tuple[str, int, Callable[[], bytes] | None]
"""Name, size, and how to read it: None for whatever is not a regular file (links, folders, devices)."""


def read(path: Path, data: Dataset, source: Source) -> Arrays:
    """The arrays of `data` from the source's members, which lie in an archive or a folder at `path`.

    Raises:
        FileNotFoundError: a member is not in the folder.
        DataCorrupt: the archive or a member differs from its pinned hash, a member is missing or no regular
            file, a name in the archive leaves it, or the archive cannot be read.
    """
    if path.is_dir():
        found = {m.path: _checked(m, (path / m.path).read_bytes(), str(path)) for m in source.members}
    else:
        found = _unpacked(path, source)
    return decode(data, source, [found[member.path] for member in source.members])


def _unpacked(archive: Path, source: Source) -> dict[str, bytes]:
    where, wanted, found = f"{archive.name} ({source})", {member.path: member for member in source.members}, {}
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
                found[name] = _checked(wanted[name], read_bytes(), where)
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise DataCorrupt(f"{where}: not a readable archive, truncated? ({error})") from error
    if missing := wanted.keys() - found:
        raise DataCorrupt(f"{where}: no member {', '.join(sorted(missing))}")
    return found


def _checked(member: Member, data: bytes, where: str) -> bytes:
    check(f"{where}: {member.path} has sha256", hashlib.sha256(data).hexdigest(), member.sha256)
    return data


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
