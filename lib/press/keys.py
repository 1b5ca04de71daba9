"""What code depends on: the library files it reaches through its imports, and a digest of what they do.

Docstrings and comments do nothing, so they are in no key.
"""
from __future__ import annotations

import ast
import os
from functools import cache, lru_cache
from pathlib import Path

from lib.files import PACKAGE, digest, file_digest

PRESS = "press"
"""The folder of the package that runs studies; no run's key covers it."""
BESIDE = (".toml", ".yml", ".json", ".txt")
"""How data files end that belong to the module of their name."""


def source_closure(code: str, without: str | None = None) -> list[Path]:
    """Files of this package that Python `code` can reach through its imports, sorted.

    Follows absolute and relative imports from module to module. A data file belongs to the module of its name
    (`data/registry.toml` to `data/registry.py`).

    Args:
        without: a folder of the package whose files are left out and not followed.
    """
    found: set[Path] = set()
    todo = list(_imports(code, package=""))
    while todo:
        for path in _module_files(todo.pop()):
            if path not in found and path.relative_to(PACKAGE).parts[0] != without:
                found.add(path)
                todo += _imports_of_file(path, _stamp(path))
                found |= {p for p in map(path.with_suffix, BESIDE) if p.is_file()}
    return sorted(found)


def closure_digest(code: str, without: str | None = None) -> str:
    """SHA-256 over the names of `source_closure(code, without)` and what each file does.

    Known until a file of the package comes, goes or changes, whichever it is: one that comes may take another's place.
    """
    stamps = frozenset((path, *_stamp(path)) for folder, _, names in os.walk(PACKAGE)
                       for name in names if name.endswith((".py", *BESIDE)) for path in [os.path.join(folder, name)])
    return _closure_digest(code, without, stamps)


@lru_cache(64)
def _closure_digest(code: str, without: str | None, _then: frozenset[tuple[str, int, int]]) -> str:
    return digest([(p.relative_to(PACKAGE).as_posix(), _meaning(p, _stamp(p))) for p in source_closure(code, without)])


def _stamp(path: str | Path) -> tuple[int, int]:
    """What tells one state of a file from another; taken before it is read."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size


@cache
def _meaning(path: Path, _then: tuple[int, int]) -> str:
    """A digest of a file: of the syntax tree without docstrings for Python, of the bytes for anything else."""
    if path.suffix != ".py":
        return file_digest(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        for body in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, body, None), list):
                setattr(node, body, [s for s in statements if not _is_text(s)])
    return digest(ast.dump(tree))


def _is_text(statement: ast.stmt) -> bool:
    """A string that stands alone: a docstring of a module, class, function or attribute."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def _imports_of_file(path: Path, _then: tuple[int, int]) -> tuple[str, ...]:
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
