"""Where the project stands, digests, locks, and atomic files: a file appears under its name whole or not at all."""
from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
ROOT = CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
BUILD = Path(os.environ.get("BOOK_BUILD", ROOT / "_build")).resolve()
"""Everything generated lives here; `BOOK_BUILD` moves it (the tests do)."""


def digest(*parts: object) -> str:
    """SHA-256 (hex) of JSON-serialisable parts; `0`, `0.0` and `"0"` differ."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def pinned(value: str) -> str:
    """A text that names a folder, seen from `ROOT`, with a digest of its files behind it, `folder#<16 digits>`.

    However it is written, `m`, `m/` or `./m`; any other text as it is. Files of folders inside do not count.
    """
    if not names_folder(value):
        return value
    root, folder = ROOT.resolve(), (ROOT / unpinned(value)).resolve()
    found = sorted((path, path.stat()) for path in folder.iterdir() if path.is_file())
    told = [(path.name, _digest_while(path.resolve(), stat.st_size, stat.st_mtime_ns)) for path, stat in found]
    return f"{folder.relative_to(root) if folder.is_relative_to(root) else folder}#{digest(told)[:16]}"


def names_folder(value: object) -> bool:
    """Whether a value is a text that names a folder, seen from `ROOT`."""
    return isinstance(value, str) and bool(unpinned(value)) and (ROOT / unpinned(value)).is_dir()


def unpinned(value: str) -> str:
    """The folder of what `pinned` gave."""
    return re.sub("#[0-9a-f]{16}$", "", value)


@functools.cache
def _digest_while(path: Path, _size: int, _mtime_ns: int) -> str:
    return file_digest(path)


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename it into place.

    A kill at any moment leaves the old file or the new one, never a part of either.
    """
    path = place_for_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def place_for_file(path: str | Path) -> Path:
    """`path`, or an error where no file can be written under that name; ask before the work whose result goes there."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file in it")
    if (above := next(folder for folder in path.absolute().parents if folder.exists())).is_file():
        raise NotADirectoryError(f"{path}: {above} is a file, not a folder")
    return path


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock file `path` inside the block; who comes second waits, and the system frees it when its holder ends.

    A child that inherits it holds it too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` atomically."""
    return write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """What a JSON file holds; a byte order mark is none of it."""
    return json.loads(path.read_text(encoding="utf-8-sig"))


def write_json(path: Path, data: object) -> Path:
    """Write `data` to `path` atomically as readable JSON."""
    return write_text(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")
