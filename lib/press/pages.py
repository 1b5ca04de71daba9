"""The book's executable pages: where each one's rooms are, and whether its last execution still stands.

A page is a study (`book/studies/<slug>.md`, with parameters) or an instrument (`book/instruments/<name>.md`, without).
An execution stands while the facts it was made from do (`Request.facts`), its prose apart.
"""
from __future__ import annotations

import ast
import importlib
import json
import re
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lib import files, params
from lib.files import BUILD, ROOT, digest, file_digest, read_json
from lib.press import claims, provenance
from lib.press.claims import SETTLING
from lib.press.keys import closure_digest

DEFAULT_PROFILE = "quick"
"""The profile whose values stand in the chapters' parameters cells, and that stands in where a study lacks another."""

SWEEP = "sweep_"
"""How the names of sweep files begin, which lie beside the profiles."""

RUNNING_TAGS = ("parameters", "raises-exception", "skip-execution")
"""Cell tags that change what an execution does; every other tag is presentation."""


KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
"""The kernel every page runs in; `jobs.KERNEL_ENVIRONMENT` makes it this environment's."""


_CELL = re.compile(r"^.*(```|~~~|:::) *\{code-cell\}.*$", re.MULTILINE | re.IGNORECASE)
_SHOWN = re.compile(r"<!--.*?(?:-->|\Z)|(?<!`)(`{1,2}|`{4,})(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
"""A comment, or code in a line of text; of three backticks it would be a cell that does not begin a line."""


class PageError(ValueError):
    """A page, or one of its rooms, is missing or unusable; the message says which and what to do."""


@dataclass(frozen=True)
class Page:
    """One executable page. `name` is the study's slug, or `instruments/<name>`."""

    name: str

    @property
    def is_study(self) -> bool:
        return not self.name.startswith("instruments/")

    @property
    def source(self) -> Path:
        return ROOT / "book" / f"{'studies/' if self.is_study else ''}{self.name}.md"

    def params_file(self, profile: str) -> Path:
        return ROOT / "params" / self.name / f"{profile}.yaml"

    def profiles(self) -> list[str]:
        """Names of the study's parameter files; none for an instrument, whose execution stands for every profile."""
        files = sorted((ROOT / "params" / self.name).glob("*.yaml")) if self.is_study else []
        return [path.stem for path in files if not path.stem.startswith(SWEEP)]

    def standing(self, profile: str) -> str:
        """The profile this page is run and shown at where the book is asked for `profile`.

        A study without it, where another study has it, stands in at the default; so does every instrument.
        """
        if profile in self.profiles() or (self.is_study and profile not in profiles()):
            return profile
        return DEFAULT_PROFILE

    def params_class(self) -> type[params.Params]:
        """The study's frozen Params; importing it imports the study's library.

        Raises:
            PageError: the protocol module is missing, cannot be imported or has no Params.
        """
        try:
            return importlib.import_module(f"lib.studies.{self.name}.protocol").Params
        except (ImportError, AttributeError, SyntaxError) as error:
            raise PageError(f"lib/studies/{self.name}/protocol.py: {type(error).__name__}: {error}") from error

    def claims(self) -> list[dict[str, Any]]:
        """What a chapter reads of its claims: the fields that decide its verdicts, and printed figures."""
        return [{**claim.deciding(), "prints": claim.prints} for claim in claims.of_study(self.name).values()]


def all_pages() -> list[Page]:
    """Every page with code: studies in the order of their claims, so that a chapter is soon done, then instruments."""
    folders = [("studies", ""), ("instruments", "instruments/")]
    sources = [(prefix, path) for folder, prefix in folders for path in sorted((ROOT / "book" / folder).glob("*.md"))]
    pages = [Page(prefix + path.stem) for prefix, path in sources if "jupytext:" in _header(_text(path))]
    order = {name: at for at, name in enumerate(claims.STUDIES)}
    return sorted(pages, key=lambda page: order.get(page.name, len(order)))


def profiles() -> list[str]:
    """Every profile some study has."""
    return sorted({name for folder in (ROOT / "params").iterdir() for name in Page(folder.name).profiles()})


def find_page(name: str) -> Page:
    """The page called `name`.

    Raises:
        PageError: no such page; lists the pages there are.
    """
    pages = {page.name: page for page in all_pages()}
    if name not in pages:
        raise PageError(f"{name}: no such page; {params.meant(name, pages)}the book has: {', '.join(pages)}")
    return pages[name]


def _header(text: str) -> str:
    """The lines that a page begins with, from --- to ---; empty where it has none."""
    found = re.match(r"---\n.*?\n---\n", text, re.DOTALL)
    return found[0] if found else ""


def _text(path: Path) -> str:
    """What a page says, whatever an editor put before it and ends its lines with."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PageError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


@dataclass(frozen=True)
class Request:
    """One page at one profile, with the reader's overrides (`-p name=value`) on top of the parameter file."""

    page: Page
    profile: str
    overrides: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    """Where all outputs lie together, of a sweep's point; else they lie under `_build`, by label."""

    @property
    def label(self) -> str:
        """Folder of the outputs: the profile, or `profile+name=value,...`: an override never replaces the book's."""
        if not self.page.is_study:
            return DEFAULT_PROFILE
        if not self.overrides:
            return self.profile
        text = ",".join(f"{k}={json.dumps(v, separators=',:')}" for k, v in sorted(self.overrides.items()))
        readable = re.sub(r'"(?!(?:true|false|null)")([A-Za-z_][\w-]*)"', r"\1", text)  # still one text per value
        safe = re.fullmatch(r"[\w.,=+\[\]-]{1,80}", readable)
        return f"{self.profile}+{readable if safe else digest(text)[:12]}"

    @property
    def exploring(self) -> bool:
        """Whether a reader chose the values: then a check that they break is told, and the page still made whole."""
        return bool(self.overrides) or self.profile not in ("smoke", *SETTLING)

    @property
    def output(self) -> Path:
        return self._place("executed", "ipynb")

    @property
    def results(self) -> Path:
        return self._place("results", "json")

    @property
    def partial(self) -> Path:
        return self._place("partial", "ipynb")

    def _place(self, kind: str, suffix: str) -> Path:
        if self.folder:
            return self.folder / f"{kind}.{suffix}"
        return BUILD / kind / self.label / f"{self.page.name}.{suffix}"

    @cached_property
    def raw_values(self) -> dict[str, Any]:
        """Parameter file and overrides as read, unchecked."""
        if not self.page.is_study:
            if self.overrides:
                raise PageError(f"{self.page.name}: an instrument takes no parameters; drop -p")
            return {}
        if self.profile.startswith(SWEEP):
            name = self.profile.removeprefix(SWEEP)
            raise PageError(f"{self.profile}: a sweep, no profile; make sweep STUDY={self.page.name} SWEEP={name}")
        return {**params.read_yaml(self.page.params_file(self.profile)), **self.overrides}

    @property
    def facts_of_values(self) -> str:
        """The one of its facts that its parameters are; of what may name a folder, the value that Params make of it."""
        folders = [name for name, value in self.raw_values.items() if files.names_folder(value)]
        checked = self.checked_values() if folders else {}
        return digest({**self.raw_values, **{name: checked[name] for name in folders}})

    def checked_values(self) -> dict[str, Any]:
        """The parameters the kernel gets: checked by the study's Params and in plain form.

        Raises:
            ParameterError: names the file, the key and the remedy.
        """
        if not self.page.is_study:
            return self.raw_values
        path, values = self.page.params_file(self.profile), self.raw_values
        where = f"{path.relative_to(ROOT)}{' with -p' if self.overrides else ''}"
        checked = params.check(self.page.params_class(), values, where)
        if getattr(checked, "device", "cpu") == "cuda" and provenance.device() == "cpu":
            raise params.ParameterError(f"{where}: device: no CUDA device is seen here; write device: auto or cpu")
        if getattr(checked, "profile", self.profile) != self.profile:
            raise params.ParameterError(f"{where}: profile: says {checked.profile!r}; write `profile: {self.profile}`")
        return json.loads(checked.model_dump_json())

    def stored(self) -> dict[str, Any] | None:
        """The last whole execution (notebook JSON), None if there is none that can be read."""
        try:
            notebook = read_json(self.output)
            return notebook if notebook["metadata"]["book"]["facts"]["page"] and notebook["cells"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything an execution depends on, here and now; computed once, and handed to the worker.

        page: bytes of the chapter, prose included; code: its cells and the tags that change what running does; values:
        parameter file and overrides; library: what the files do that the cells reach; claims: the decision rules;
        environment: versions and device.

        Raises:
            PageError: a cell is not Python; ParameterError: no such parameter file, or not readable.
        """
        page, stored = file_digest(self.page.source), self.stored()
        then = stored["metadata"]["book"]["facts"] if stored else {}
        code = _code(stored) if then.get("page") == page else None  # what jupytext would read is known, if untouched
        if code is None or digest(code) != then.get("code"):
            code = _code(read_page(self.page.source))
        return {
            "page": page, "code": digest(code), "values": self.facts_of_values,
            "library": closure_digest(without_magics(code[0])), "claims": digest(self.page.claims()),
            "environment": provenance.environment(),
        }

    def changed(self) -> list[str] | None:
        """Names of the facts in which the last execution differs from now; None if there is none.

        `execution` stands for code cells of the stored notebook that are not those it was made from.
        """
        stored = self.stored()
        if stored is None:
            return None
        then = stored["metadata"]["book"]["facts"]
        changed = [name for name, fact in self.facts.items() if then.get(name) != fact]
        return changed + ["execution"] * (digest(_code(stored)) != then.get("code"))

    def write_results(self, book: dict[str, Any]) -> None:
        """Lay the verdict records kept inside the executed notebook beside it, if they are not there already."""
        records = book.get("results")
        if records is None:
            self.results.unlink(missing_ok=True)
        elif not self.results.is_file() or _read_json(self.results) != records:
            files.write_json(self.results, records)


def made_as(page: Page, label: str) -> Request:
    """The request whose outputs lie under `label`, by what the execution there says of itself."""
    request = Request(page, label)
    book = (request.stored() or {"metadata": {"book": {}}})["metadata"]["book"]
    return Request(page, book.get("profile", label), book.get("overrides", {}))


def read_page(path: Path) -> Any:
    """A chapter as a notebook with stable cell ids, for the kernel of this environment whatever its header names.

    Raises:
        PageError: a code cell is not Python, is taken from another file, has options that are none, or stands where it
            would be taken for text; names the file, the cell and the line.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # jsonschema does without, and would build it for a CPU-second
    import jupytext  # not needed where every page stands

    text = _text(path)
    try:
        notebook = jupytext.reads(text, fmt="md:myst")
    except Exception as error:  # of jupytext, YAML or nbformat
        said = " ".join(str(error).split())[:200]
        told = (f"its header: {said}; copy the lines between --- from another page" if _header_fails(text) else
                f"{said}; write options of a cell as in `:tags: [check]`")
        raise PageError(f"{path.relative_to(ROOT)}: {told}") from None
    notebook.metadata["kernelspec"] = dict(KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{path.stem.replace('_', '-')[:40]}-{number:03d}"
        if cell.cell_type == "markdown" and (lost := _lost(cell.source)):
            raise PageError(f"{path.relative_to(ROOT)}: {lost} would never be run where it stands; begin it "
                            "with ```{code-cell} at the start of a line, inside nothing else")
        if "load" in cell.metadata:
            raise PageError(f"{path.relative_to(ROOT)}: a cell has `:load: {cell.metadata['load']}`; write its code in "
                            "the cell, or import it from lib, so that the page is run again when it changes")
    try:
        without_magics([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    except PageError as error:
        raise PageError(f"{path.relative_to(ROOT)}: {error}") from None
    return notebook


def _header_fails(text: str) -> bool:
    import jupytext

    try:
        jupytext.reads(_header(text), fmt="md:myst")
    except Exception:
        return True
    return False


def _lost(text: str) -> str:
    """How the first cell in Markdown begins that is inside another block, indented, or behind a fence that is none.

    What only shows a cell is passed over: literal blocks, code in a line of text, comments.
    """
    from jupytext.myst import get_parser

    for token in get_parser().parse(text):
        name = token.info.strip().lower() if token.type == "fence" else ""
        if name.startswith("{code-cell}"):
            return token.markup + token.info
        if token.type not in ("fence", "myst_line_comment") and (found := _CELL.search(_SHOWN.sub("", token.content))):
            return found[0].strip()
        if re.match(r"\{(?!code|sourcecode)", name) and (inside := _lost(token.content)):
            return inside
    return ""


def without_magics(code: list[str]) -> str:
    """Cells as one Python text; in a cell that is not plain Python, lines of IPython magic are dropped.

    Raises:
        PageError: a cell is not Python even so; says which and where.
    """
    return "\n".join(cell if _syntax_error(cell) is None else _without_magics(cell, at) for at, cell in enumerate(code))


def _without_magics(cell: str, at: int) -> str:
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in cell.splitlines()]
    error = _syntax_error("\n".join(lines))
    if error is not None:
        shown = lines[min(error.lineno or 1, len(lines)) - 1].strip()
        raise PageError(f"code cell {at + 1}, line {error.lineno}: {error.msg}: {shown}")
    return "\n".join(lines)


def _syntax_error(cell: str) -> SyntaxError | None:
    try:
        ast.parse(cell)
    except SyntaxError as error:
        return error
    return None


def _code(notebook: Any) -> tuple[list[str], list[list[str]]]:
    """Sources of the code cells a chapter has, without those papermill put in, and the tags of each that matter."""
    cells = [(cell, cell["metadata"].get("tags", [])) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    own = [("".join(cell["source"]), tags) for cell, tags in cells if "injected-parameters" not in tags]
    return [source for source, _ in own], [[tag for tag in RUNNING_TAGS if tag in tags] for _, tags in own]


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError:
        return None
