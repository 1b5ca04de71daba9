"""Content keys and atomic files: what makes a cached result safe to reuse.

A key is the SHA-256 of everything a result depends on; a file appears under its name whole or not at all.
"""
from __future__ import annotations

import ast
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
ROOT = CHECKOUT if (CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
BUILD = Path(os.environ.get("BOOK_BUILD", ROOT / "_build")).resolve()
"""Everything generated lives here; `BOOK_BUILD` moves it (the tests do)."""


def digest(*parts: object) -> str:
    """SHA-256 (hex) of JSON-serialisable parts; `0`, `0.0` and `"0"` differ.

    Raises:
        TypeError: a part has no JSON form.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename it into place.

    A kill at any moment leaves the old file or the new one, never a part of either.
    """
    path = Path(path)
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


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` atomically."""
    return write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def write_json(path: Path, data: object) -> Path:
    """Write `data` to `path` atomically as readable JSON."""
    return write_text(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each package, None where it is not installed."""
    return {name: _version(name) for name in packages}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def source_closure(code: str) -> list[Path]:
    """Files of this package that Python `code` can reach through its imports, sorted.

    Follows absolute and relative imports from module to module. Beside each module reached in a
    subpackage, the subpackage's non-Python files (such as `data/registry.toml`) belong to the closure.
    """
    found: set[Path] = set()
    todo = list(_imports(code, package=""))
    while todo:
        for path in _module_files(todo.pop()):
            if path not in found:
                found.add(path)
                todo += _imports_of_file(path, path.stat().st_mtime_ns)
                if path.parent != PACKAGE:
                    found |= {p for p in path.parent.iterdir() if p.suffix in (".toml", ".yml", ".json")}
    return sorted(found)


def closure_digest(code: str) -> str:
    """SHA-256 over the names and bytes of `source_closure(code)`."""
    return digest([(p.relative_to(PACKAGE).as_posix(), file_digest(p)) for p in source_closure(code)])


@cache
def _imports_of_file(path: Path, _mtime: int) -> tuple[str, ...]:
    if path.suffix != ".py":
        return ()
    inside = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = ".".join(inside[:-1])  # the package relative imports start from, for modules and __init__ alike
    return tuple(_imports(path.read_text(encoding="utf-8"), package))


def _imports(code: str, package: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == PACKAGE.name}


def _module_files(name: str) -> list[Path]:
    """The files importing dotted `name` executes: each package's `__init__.py` on the way, then the module."""
    files, folder = [], PACKAGE.parent
    for part in name.split("."):
        folder = folder / part
        candidates = (folder / "__init__.py", folder.with_suffix(".py"))
        files += [p for p in candidates if p.is_file()]
    return files
