"""The house's floors: which room may import which, and whom each module of the library serves."""
from __future__ import annotations

import ast
import re
from pathlib import Path

from layout import library_files

from lib.press.keys import source_closure

FLOORS = (
    ("files", "rng", "live", "params", "torchvision_import", "watch"), ("tensors", "checkpoints", "schedules"),
    ("loop",), ("ensembles", "metrics", "data"), ("activations", "models", "training"), ("topoloss", "sparse_coders"),
    ("spd",), ("figures", "dashboard"), ("studies", "press"),
)
"""Rooms of `lib` from the ground up. A room imports rooms of lower floors alone, so that none can form a ring."""
OPEN_TO_PAGES = (
    "press.prose", "press.runs", "press.provenance", "press.claims", "press.verdicts", "press.calibration",
    "press.explore",
)
"""What a page may use of the press, beside the library: numbers in its prose, runs made once, what it was made with,
how claims are judged."""
OPEN_TO_STUDIES = ("press.runs", "press.ledger")
"""What a study may import of the press; the press imports no study, it runs them by name."""


def climbing_imports(root: Path) -> list[str]:
    """Imports inside `lib` that do not go down: to a higher floor, to a room beside, from study to study."""
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    problems = []
    for path in library_files(root):
        inside = path.relative_to(root / "lib").with_suffix("").parts
        own = inside[0]
        for module in sorted(_library_imports(path)):
            room, *rest = module.split(".")
            if own not in floor or room not in floor:
                unknown = own if own not in floor else room
                problems.append(f"{path.relative_to(root)}: {unknown} stands on no floor of tests/floors.py")
            elif own == room == "studies":
                if rest and rest[0] != inside[1]:
                    problems.append(f"{path.relative_to(root)}: study {inside[1]} imports study {rest[0]}")
            elif own == "studies" and room == "press":
                if not f"{module}.".startswith(tuple(f"{name}." for name in OPEN_TO_STUDIES)):
                    problems.append(f"{path.relative_to(root)}: a study imports lib.{module} of the press")
            elif own != room and floor[room] >= floor[own]:
                problems.append(f"{path.relative_to(root)}: {own} (floor {floor[own]}) imports lib.{module} "
                                f"(floor {floor[room]})")
    return problems


def page_imports(root: Path) -> list[str]:
    """Pages that import what is not theirs: an instrument a study, a chapter another study or the press's machinery."""
    problems = []
    for page in sorted((root / "book").glob("*/*.md")):
        allowed = OPEN_TO_PAGES if page.parent.name == "instruments" else (
            *OPEN_TO_PAGES, *OPEN_TO_STUDIES, f"studies.{page.stem}")
        for name in re.findall(r"^import lib\.(.+)$", _imports_of(page), re.MULTILINE):
            inside = name.startswith(("studies.", "press."))
            if inside and not f"{name}.".startswith(tuple(f"{room}." for room in allowed)):
                problems.append(f"{page.relative_to(root)} imports lib.{name}")
    return problems


def _library_imports(path: Path) -> set[str]:
    """Dotted names under `lib` a file imports anywhere, without the `lib.`: `from lib import a` counts as a, a text
    that is such a name as if it were imported, and a relative import as one of everything."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if not node.level else {"lib.(relative)"}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value} if re.fullmatch(r"lib(\.\w+)+", node.value) else set()
    return {name.removeprefix("lib.") for name in found if name.startswith("lib.")}


FOR_STRANGERS = (
    "activations.patching", "activations.language", "dashboard.page", "metrics.monosemanticity",
    "metrics.polysemanticity", "models.causal_lm", "models.image_models", "models.lm_files", "training.language",
    "sparse_coders.interchange", "sparse_coders.report",
)
"""Modules of the library that one study at most uses today and that stay, because anybody might: at most twelve. A
recipe of the README imports each; every other module has two studies, an instrument page, or one of these to serve."""


def lone_modules(root: Path) -> list[str]:
    """Modules of the library that should stand in a study's room, and entries of the list that should not be there."""
    pages, lib = sorted((root / "book").glob("*/*.md")), root / "lib"
    studies = [_reached(_imports_of(page)) for page in pages if page.parent.name == "studies"]
    instruments = _reached("\n".join(_imports_of(page) for page in pages if page.parent.name == "instruments"))
    listed = _reached("\n".join(f"import lib.{name}" for name in FOR_STRANGERS))
    lone = {path for path in library_files(root) if path.relative_to(lib).parts[0] not in ("studies", "press")
            and path.name not in ("__init__.py", "__main__.py") and path not in instruments
            and sum(path in study for study in studies) < 2}
    problems = [f"lib/{path.relative_to(lib)}: one study at most uses it: it belongs in that study's room"
                for path in sorted(lone - listed)]
    recipes = _imports_of(root / "README.md").split()
    for name in FOR_STRANGERS:
        if lib / f"{name.replace('.', '/')}.py" not in lone:
            problems.append(f"lib.{name} is for strangers no longer: take it off the list")
        if f"lib.{name}" not in recipes:
            problems.append(f"lib.{name} is for strangers, but no recipe of the README imports it")
    return problems


def _imports_of(page: Path) -> str:
    """`import lib.x` lines for whatever the Python blocks of a page or of the README import."""
    text = page.read_text(encoding="utf-8")
    cells = re.findall(r"^```(?:\{code-cell\}[^\n]*|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = re.findall(r"^from (lib[\w.]*) import (\([^)]*\)|[^\n]*)", "\n".join(cells), re.MULTILINE)
    names = {f"{module}.{name}" for module, names in found for name in re.findall(r"(\w+)(?: as \w+)?", names)}
    return "\n".join(f"import {name}" for name in sorted(names | {module for module, _ in found}))


def _reached(code: str) -> set[Path]:
    return set(source_closure(code))
