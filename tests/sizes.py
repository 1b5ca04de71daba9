"""How large the house is: `make sizes` prints it, tests/test_layout.py holds its wings."""
from __future__ import annotations

import ast
import re
import statistics
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import layout

from lib.files import ROOT

BOUNDS = {"library": 13_618, "press": 4_488, "press/sweep": 1_355}
"""Lines a wing may have at most, docstrings included; a study's room has `ROOM`."""
ROOM = 2_000
LINES, PARAMETERS = 60, 9
"""Of a function, and of a public one."""


class Function(NamedTuple):
    """A function or method of `lib`."""

    where: str
    lines: int
    parameters: int
    is_public: bool


class Chapter(NamedTuple):
    """A page with code."""

    name: str
    lines: int
    cells: list[int]
    """Lines of each code cell, blank ones and options apart."""


def wings(root: Path) -> dict[str, int]:
    """Lines of the library (all of `lib` but the other two), of the press, of its sweeps, and of each study's room."""
    counts: Counter[str] = Counter()
    for path in layout.library_files(root):
        first, *rest = path.relative_to(root / "lib").parts
        own = {"press": "press", "studies": f"studies/{rest[0]}"} if len(rest) > (first == "studies") else {}
        own |= {"press": "press/sweep"} if rest[:1] == ["sweep"] else {}
        counts[own.get(first, "library")] += len(_lines(path))
    return dict(counts)


def too_large(root: Path) -> list[str]:
    """Wings beyond their bounds, one line each."""
    return [f"{wing}: {n} lines, at most {BOUNDS.get(wing, ROOM)}"
            for wing, n in wings(root).items() if n > BOUNDS.get(wing, ROOM)]


def functions(root: Path) -> list[Function]:
    """Every function and method of `lib`; parameters without self and cls."""
    found = []
    for path in layout.library_files(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                count = sum(a.arg not in ("self", "cls") for a in arguments)
                where = f"{path.relative_to(root)}:{node.lineno} {node.name}"
                lines = node.end_lineno - node.lineno + 1
                found.append(Function(where, lines, count, not node.name.startswith("_")))
    return found


def unwieldy(root: Path) -> list[str]:
    """Functions with more lines, and public ones with more parameters, than they may have, one line each."""
    every = functions(root)
    long = [f"{f.where}: {f.lines} lines, at most {LINES}" for f in every if f.lines > LINES]
    return long + [f"{f.where}: {f.parameters} parameters, at most {PARAMETERS}" for f in every
                   if f.is_public and f.parameters > PARAMETERS]


def chapters(root: Path) -> list[Chapter]:
    """Every page with code cells, studies first."""
    pages = [*sorted(root.glob("book/studies/*.md")), *sorted(root.glob("book/instruments/*.md"))]
    return [Chapter(path.stem, len(_lines(path)), _cells(path.read_text(encoding="utf-8"))) for path in pages]


def _cells(text: str) -> list[int]:
    cells = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    code = [re.sub(r"\A---\n.*?\n---\n", "", cell, flags=re.DOTALL) for cell in cells]
    return [sum(bool(line.strip()) and not line.startswith(":") for line in cell.splitlines()) for cell in code]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def main(root: Path = ROOT) -> None:
    """Print wings, functions, signatures and chapters."""
    print("lines")
    for wing, n in wings(root).items():
        print(f"  {wing:36s} {n:6d} of {BOUNDS.get(wing, ROOM)}")
    every = functions(root)
    lengths = sorted(f.lines for f in every)
    median, ninety = statistics.median(lengths), lengths[int(0.9 * len(lengths))]
    print(f"functions: {len(every)}, median {median:g} lines, 90 % within {ninety}; the longest")
    for function in sorted(every, key=lambda f: -f.lines)[:5]:
        print(f"  {function.lines:4d} {function.where}")
    print("signatures: public functions with most parameters")
    for function in sorted((f for f in every if f.is_public), key=lambda f: -f.parameters)[:5]:
        print(f"  {function.parameters:4d} {function.where}")
    print("chapters: lines, code cells, median lines of a cell")
    for chapter in chapters(root):
        median = statistics.median(chapter.cells) if chapter.cells else 0
        print(f"  {chapter.name:36s} {chapter.lines:5d} {len(chapter.cells):4d} {median:5g}")


if __name__ == "__main__":
    main()
