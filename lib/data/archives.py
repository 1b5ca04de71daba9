"""Registered members out of a downloaded archive: read into memory, checked, never extracted to disk."""
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

from lib.data.registry import DataCorrupt, Member, Source, is_safe_path
from lib.files import file_digest

Entry = tuple[str, int, Callable[[], bytes] | None]
"""Name, size, and how to read it: None for whatever is not a regular file (links, folders, devices)."""


def read_archive(archive: Path, source: Source) -> list[bytes]:
    """The bytes of the source's members, in the registry's order, from its verified archive.

    Raises:
        DataCorrupt: the archive or a member differs from its pinned hash, a member is missing or no regular
            file, a name in the archive leaves it, or the archive cannot be read.
    """
    check_archive(archive, source)
    wanted = {member.path: member for member in source.members}
    found: dict[str, bytes] = {}
    try:
        for name, size, read in _ENTRIES[source.provider](archive):
            if not is_safe_path(name):
                raise DataCorrupt(f"{archive.name} ({source}): member name {name!r} leaves the archive; refused")
            if name in wanted:
                found[name] = _read(wanted[name], size, read, where=f"{archive.name} ({source})")
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise DataCorrupt(f"{archive.name} ({source}): not a readable archive, truncated? ({error})") from error
    return [_present(found, member, f"{archive.name} ({source})") for member in source.members]


def read_folder(folder: Path, source: Source) -> list[bytes]:
    """The bytes of the source's members, in the registry's order, from a folder they lie in.

    Raises:
        FileNotFoundError: a member is not there.
        DataCorrupt: a member differs from its pinned hash.
    """
    return [check_member(member, (folder / member.path).read_bytes(), str(folder)) for member in source.members]


def check_archive(archive: Path, source: Source) -> None:
    """Raise DataCorrupt unless `archive` has the pinned hash (where one is pinned)."""
    if source.archive_sha256 and (found := file_digest(archive)) != source.archive_sha256:
        raise DataCorrupt(
            f"{archive.name} ({source}): {archive.stat().st_size} bytes with sha256 {found[:16]}, registry pins "
            f"{source.archive_bytes} bytes with {source.archive_sha256[:16]}; not used"
        )


def check_member(member: Member, data: bytes, where: str) -> bytes:
    """`data` unchanged; raise DataCorrupt unless it has the member's pinned hash."""
    found = hashlib.sha256(data).hexdigest()
    if found != member.sha256:
        pinned = member.sha256[:16]
        raise DataCorrupt(f"{where}: {member.path} has sha256 {found[:16]}, registry pins {pinned}; not used")
    return data


def _read(member: Member, size: int, read: Callable[[], bytes] | None, where: str) -> bytes:
    if read is None:
        raise DataCorrupt(f"{where}: {member.path} is not a regular file; refused")
    if size != member.bytes:
        raise DataCorrupt(f"{where}: {member.path} has {size} bytes, registry pins {member.bytes}; not used")
    return check_member(member, read(), where)


def _present(found: dict[str, bytes], member: Member, where: str) -> bytes:
    if member.path not in found:
        raise DataCorrupt(f"{where}: no member {member.path}")
    return found[member.path]


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
