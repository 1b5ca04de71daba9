"""What code can reach: the library files behind a page or a run, and their digest."""
from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from lib.files import PACKAGE, digest, file_digest


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
