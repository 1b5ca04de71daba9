"""What the tree promises, as functions of a root that return problems, one line each (empty: all is well)."""
from __future__ import annotations

import ast
import importlib.util
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import jupytext
import yaml

from lib import params
from lib.press.claims import STUDIES

PROFILES = ("smoke", "quick", "full")
ROOMS = {
    "chapter": "book/studies/{}.md",
    "parameters": "params/{}",
    "protocol": "lib/studies/{}/protocol.py",
    "test": "tests/studies/{0}/test_{0}.py",
    "reference": "tests/reference/{}.ipynb",
}
HEADER = (
    ("Reproduces", r"# Reproduces: \S", "what it reproduces"),
    ("Command", r"# Command: .*{slug}.*\b(second|minute|hour)", "the command with its study and its time"),
    ("Expected", r"# Expected: \S", "the expected headline"),
)
PRINTING = ("**/__main__.py", *(f"press/{name}.py" for name in (
    "scaffold", "display", "jobs", "lab", "reference", "sweep/carry")))
"""Command lines and what they show on a terminal; no other module of the library prints."""
LARGEST = 49152
"""Bytes of a reference notebook: a chapter's code and the few outputs that are compared, no more."""

OUTSIDE = re.compile(
    r"(?<![\w.-])/(?:wor[k]|roo[t]|hom[e]/\w+|Use[r]s/\w+|tm[p]/research)(?:/|\b(?![\w-]))"
    r"|pytho[n]hosted|py[p]i\.org/simple|regis[t]ry\.\w+\.(?:org|com)|(?:extra-)?inde[x]-url|\bfil[e]:///\w"
)
"""Paths of one machine and hosts or folders packages came from; a letter in brackets keeps this file itself clean."""


def slugs(root: Path) -> list[str]:
    """Every study with at least one room, or a line in the table of contents."""
    folders = [path for place in ("params", "lib/studies", "tests/studies") for path in (root / place).glob("*/")]
    files = [path for place in ("book/studies/*.md", "tests/reference/*.ipynb") for path in root.glob(place)]
    found = {path.stem for path in folders + files if path.name != "__pycache__"}
    return sorted(found | in_contents(root))


def in_contents(root: Path) -> set[str]:
    """Slugs of the chapters in the table of contents."""
    text = (root / "book" / "_toc.yml").read_text(encoding="utf-8")
    return {page.removeprefix("studies/") for page in _files(yaml.safe_load(text)) if page.startswith("studies/")}


def _files(toc: object) -> Iterator[str]:
    if isinstance(toc, dict):
        yield from (value for key, value in toc.items() if key == "file")
        for value in toc.values():
            yield from _files(value)
    elif isinstance(toc, list):
        for item in toc:
            yield from _files(item)


def missing_rooms(root: Path, slug: str) -> list[str]:
    """Rooms of one study that do not exist."""
    files = [place.format(slug) for room, place in ROOMS.items() if room != "parameters"]
    files += [f"params/{slug}/{profile}.yaml" for profile in PROFILES]
    problems = [f"{slug}: {file} is missing{_remedy(file, slug)}" for file in files if not (root / file).is_file()]
    return problems + [f"{slug}: book/_toc.yml does not list studies/{slug}"] * (slug not in in_contents(root))


def _remedy(file: str, slug: str) -> str:
    return f"; make reference STUDY={slug}" if file.endswith(".ipynb") else ""


def parameter_problems(root: Path, slug: str) -> list[str]:
    """Parameter files without their story or refused by the study, and a parameters cell that is not quick.yaml.

    What is missing altogether is told by `missing_rooms`.
    """
    problems = []
    if not (root / ROOMS["protocol"].format(slug)).is_file():
        return problems
    for path in sorted((root / "params" / slug).glob("*.yaml")):
        name = path.relative_to(root)
        problems += [f"{name}: {problem}" for problem in _header_problems(path, slug)]
        if path.stem.startswith("sweep_"):  # a plan of many runs, which the study's own test checks point by point
            continue
        try:
            values = params.load(params_class(root, slug), path)
        except params.ParameterError as error:
            problems.append(str(error))
        else:
            said = getattr(values, "profile", path.stem)
            problems += [f"{name}: profile says {said!r}"] * (said != path.stem)
    return problems + _cell_problems(root, slug) + _trained_too_little(root, slug)


def _trained_too_little(root: Path, slug: str) -> list[str]:
    """Lengths of training at `long` that are not at least twice quick's; a source's own recipe keeps its."""
    quick, long = (root / "params" / slug / f"{name}.yaml" for name in ("quick", "long"))
    if not (quick.is_file() and long.is_file()):
        return []
    once, more = params.read_yaml(quick), params.read_yaml(long)
    lengths = [name for name in once if re.fullmatch(r"(?!published_|recipe_).*(steps|epochs)", name)]
    return [f"{long.relative_to(root)}: {name} is {more.get(name)}, expected at least twice quick's {once[name]}"
            for name in lengths if more.get(name, 0) < 2 * once[name]]


def _header_problems(path: Path, slug: str) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines() + [""] * 3
    return [
        f"line {number} must be `# {word}: ...` with {what}"
        for number, (line, (word, pattern, what)) in enumerate(zip(lines, HEADER, strict=False), start=1)
        if not re.match(pattern.replace("{slug}", slug), line)
    ]


def params_class(root: Path, slug: str) -> type[params.Params]:
    """`Params` of the protocol lying under `root`, which need not be this checkout."""
    name = f"layout_of_{abs(hash(root))}_{slug}"
    spec = importlib.util.spec_from_file_location(name, root / ROOMS["protocol"].format(slug))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Params


def _cell_problems(root: Path, slug: str) -> list[str]:
    chapter, file = root / "book" / "studies" / f"{slug}.md", root / "params" / slug / "quick.yaml"
    if not (chapter.is_file() and file.is_file()):
        return []
    cells = [c for c in jupytext.read(chapter, fmt="md:myst").cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        return [f"{chapter.relative_to(root)}: {len(cells)} cells are tagged parameters, expected one"]
    try:
        cell = _assignments(cells[0].source)
    except ValueError as error:
        return [f"{chapter.relative_to(root)}: parameters cell: {error}"]
    quick = params.read_yaml(file)
    if list(cell) != list(quick):
        return [f"{slug}: the parameters cell has {', '.join(cell)}; quick.yaml has {', '.join(quick)}"]
    # repr tells 1, 1.0 and True apart, inside lists too
    return [
        f"{slug}: {name} is {value!r} in the parameters cell, {quick[name]!r} in quick.yaml"
        for name, value in cell.items()
        if repr(value) != repr(quick[name])
    ]


def _assignments(source: str) -> dict[str, object]:
    """`name = literal` lines as a mapping.

    Raises:
        ValueError: a line is anything else.
    """
    values = {}
    for node in ast.parse(source).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not isinstance(target, ast.Name):
            raise ValueError(f"line {node.lineno} is not `name = value`")
        values[target.id] = ast.literal_eval(node.value)
    return values


def claim_problems(root: Path) -> list[str]:
    """Claims of a study the book does not have."""
    claims = yaml.safe_load((root / "book" / "claims.yml").read_text(encoding="utf-8"))
    strangers = [claim for claim in claims if claim.get("study") not in STUDIES]
    return [f"claims.yml: {claim.get('id')}: unknown study {claim.get('study')!r}" for claim in strangers]


def git(root: Path, *arguments: str, text: str = "") -> list[str]:
    """NUL-separated output of a git command; `check-ignore` exits with 1 where nothing is ignored."""
    done = subprocess.run(["git", *arguments], cwd=root, input=text, capture_output=True, text=True)
    if done.returncode > 1:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return [part for part in done.stdout.split("\0") if part]


def ignored_library_files(root: Path) -> list[str]:
    """Files under lib/ (caches excepted) that the ignore rules would keep out of git, tracked already or not."""
    files = [path.relative_to(root).as_posix() for path in (root / "lib").rglob("*") if path.is_file()]
    text = "\0".join(file for file in files if "__pycache__" not in file)
    return git(root, "check-ignore", "--no-index", "--stdin", "-z", text=text)


def outside_mentions(root: Path, files: Iterable[str]) -> list[str]:
    """Lines of tracked text that name a path of one machine or a package host."""
    problems = []
    for file in files:
        if (root / file).is_file():
            text = (root / file).read_text(encoding="utf-8", errors="ignore")
            problems += [
                f"{file}:{number}: {found[0]}"
                for number, line in enumerate(text.splitlines(), start=1)
                if (found := OUTSIDE.search(line))
            ]
    return problems


def notebook_problems(root: Path, files: Iterable[str]) -> list[str]:
    """Tracked notebooks that are not small references."""
    notebooks = [root / file for file in files if file.endswith(".ipynb") and (root / file).is_file()]
    home = root / "tests" / "reference"
    strays = [path for path in notebooks if path.parent != home]
    large = [path for path in notebooks if path.stat().st_size > LARGEST]
    problems = [f"{path.relative_to(root)}: only tests/reference holds notebooks" for path in strays]
    return problems + [f"{path.relative_to(root)}: {path.stat().st_size} bytes, at most {LARGEST}" for path in large]


def loose_asserts(root: Path) -> list[str]:
    """Asserts of chapters that would end a reader's own run, or tell it nothing: outside `check` cells, or bare."""
    problems = []
    for page in sorted((root / "book" / "studies").glob("*.md")):
        cells = [cell for cell in jupytext.read(page, fmt="md:myst").cells if cell.cell_type == "code"]
        for number, cell in enumerate(cells, start=1):
            asserts = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
            where = f"{page.relative_to(root)}: code cell {number}"
            if asserts and "check" not in cell.metadata.get("tags", []):
                problems.append(f"{where}: asserts, and is not tagged check")
            problems += [f"{where}: an assert says no values" for node in asserts if node.msg is None]
    return problems


CHAPTER = {"lines": 700, "code cells": 30, "lines in the median code cell": 8, "columns of code": 88, "figures": 8,
           "intervals in a paragraph": 3}
"""What a chapter may have at most; its parameters cell, which is generated, may be wider."""


def chapter_problems(root: Path, slug: str) -> list[str]:
    """Bounds a chapter exceeds, and parts it lacks: the answer under its title, the helpers every chapter uses."""
    path = root / ROOMS["chapter"].format(slug)
    text, cells = path.read_text(encoding="utf-8"), jupytext.read(path, fmt="md:myst").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    own = [cell.source for cell in code if "parameters" not in cell.metadata.get("tags", [])]
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    paragraphs = re.split(r"\n\s*\n|\n(?=- )", prose)
    found = {
        "lines": len(text.splitlines()), "code cells": len(code),
        "lines in the median code cell": statistics.median(sum(map(bool, map(str.strip, c.splitlines()))) for c in own),
        "columns of code": max(len(line) for source in own for line in source.splitlines()),
        "figures": len(re.findall(r"^ +figure:$|\{glue:figure\}", text, re.MULTILINE)),
        "intervals in a paragraph": max(paragraph.count("{ci}`") for paragraph in paragraphs),
    }
    problems = [f"{found[what]} {what}, at most {most}" for what, most in CHAPTER.items() if found[what] > most]
    if not re.search(r"^# .*\n\n(?![#:`$(]).*\n?(?:.+\n)*?.*\{(?:ci|glue:text|verdict)\}`", text, re.MULTILINE):
        problems.append("no computed sentence under the title answers it")
    wanted = {"begin(study, globals())": 1, "quote(globals())": 1, "ledger.table()": 1, "tell(": 0, "_low": 0}
    counts = {what: text.count(what) for what in wanted}
    problems += [f"{what} stands {counts[what]} times, expected {n}" for what, n in wanted.items() if counts[what] != n]
    return [f"{path.relative_to(root)}: {problem}" for problem in problems]


def library_problems(root: Path) -> list[str]:
    """Habits of the library that can be read off its source."""
    lib = root / "lib"
    printing = {path for pattern in PRINTING for path in lib.glob(pattern)}
    problems = []
    for path in library_files(root):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = [*_undocumented(tree), *_swallowed_imports(tree)]
        found += [] if path in printing else _prints(tree)
        found += [] if path == lib / "figures" / "style.py" else _colours(tree)
        problems += [f"{path.relative_to(root)}:{line}: {what}" for line, what in found]
    return problems


Found = Iterator[tuple[int, str]]


def _undocumented(tree: ast.Module) -> Found:
    for node in tree.body:
        named = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        overload = named and any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
        if named and not overload and not node.name.startswith("_") and not ast.get_docstring(node):
            yield node.lineno, f"{node.name} has no docstring"


def _swallowed_imports(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        # a handler that ends by raising an error of its own hides nothing
        if isinstance(node, ast.ExceptHandler) and node.type and not isinstance(node.body[-1], ast.Raise):
            names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
            if names & {"ImportError", "ModuleNotFoundError"}:
                yield node.lineno, "except ImportError hides a missing dependency; declare it"


def _prints(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node.lineno, "only command lines print"


def _colours(tree: ast.Module) -> Found:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if found := re.search(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b", node.value):
                yield node.lineno, f"colour {found[0]}: colours belong to lib/figures/style.py"


def library_files(root: Path) -> list[Path]:
    """Python files of `lib` but its own `__init__` and the scaffold's template."""
    lib = root / "lib"
    template = set((lib / "press" / "template").rglob("*.py"))
    return [path for path in sorted(lib.rglob("*.py")) if path not in template and path != lib / "__init__.py"]


def namesakes(root: Path) -> list[str]:
    """Test files of one name in two folders: pytest collects only the first."""
    seen: dict[str, Path] = {}
    problems = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        if other := seen.get(path.name):
            problems.append(f"{path.relative_to(root)}: {other.relative_to(root)} has that name already; rename one")
        seen.setdefault(path.name, path)
    return problems
