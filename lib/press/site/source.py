"""What the site is made of: `_build/src`, laid out from the book folder and the executed notebooks."""
from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lib.files import BUILD, ROOT, digest, file_digest, read_json, write_text
from lib.live import PASSING
from lib.press.keys import closure_digest
from lib.press.pages import Page, Request
from lib.press.provenance import versions
from lib.press.site.figure_data import TOLD_BESIDE, tables

RENDERERS = ("jupyter-book", "sphinx", "sphinx-book-theme", "pydata-sphinx-theme", "myst-nb", "plotly")
PIXEL_RATIO = 2  # figures are stored at twice the size they are shown at
CODE = re.compile(r"^(```|:::)\{code-cell\}", re.MULTILINE)
CITED = ("CITATION.cff", "LICENSE")
"""Files of the checkout that the site carries too."""
VERDICT = re.compile(r"\{verdict\}`([^`]*)`")
INTERVAL = re.compile(r"\{ci\}`(\w+)(:[^`]+)`")

Words = Callable[[], Mapping[str, str]]
"""Gives the word of every claim by id; called only by a page that shows one."""


class SiteError(RuntimeError):
    """The site cannot be built; the message says what is missing or wrong and what to do."""


@dataclass(frozen=True)
class Site:
    """One book folder rendered from the executions of one profile, everything generated under `build`."""

    book: Path
    profile: str
    build: Path = BUILD
    is_draft: bool = False
    """Rendered while pages are being run: those not executed yet show their headings, and warnings end nothing."""

    @property
    def html(self) -> Path:
        return self.build / "html"

    @property
    def source(self) -> Path:
        return self.build / "src"

    @property
    def beside(self) -> Path:
        """What `assemble` lays out for beside the rendered pages, by its place there."""
        return self.source / "_beside"

    def pages(self) -> list[str]:
        """Pages of `_toc.yml` in reading order, as paths without suffix."""
        import yaml

        return list(_files(yaml.safe_load((self.book / "_toc.yml").read_text(encoding="utf-8"))))

    def text(self, page: str) -> str:
        """A page's Markdown; empty if there is none (`problems` reports it)."""
        path = self.book / f"{page}.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def notebooks(self) -> dict[str, Path]:
        """Pages with code, and where each one's execution lies."""
        requests = {page: self.request(page) for page in self.pages() if CODE.search(self.text(page))}
        return {page: self.build / request.output.relative_to(BUILD) for page, request in requests.items()}

    def request(self, page: str) -> Request:
        """Whose execution is shown on a page with code: the profile's, or what stands in for it."""
        executable = Page(page.removeprefix("studies/"))
        return Request(executable, executable.standing(self.profile))

    def standing(self, page: str) -> str:
        """What a study shows in place of the profile asked for; empty where it has that profile."""
        request = self.request(page)
        stands = request.page.is_study and request.profile != self.profile
        return f"{request.profile}; it has no profile {self.profile}" if stands else ""

    def problems(self) -> list[str]:
        """Why the site cannot be built yet, one line each."""
        missing = [page for page in self.pages() if not self.text(page)]
        absent = [f"{page}: in _toc.yml, but {self.book / page}.md does not exist" for page in missing]
        return absent + [] if self.is_draft else absent + [
            f"{page}: not executed at profile {self.request(page).profile}; run: "
            f"python -m lib.press run {page.removeprefix('studies/')} --profile {self.request(page).profile}"
            for page, notebook in self.notebooks().items()
            if not notebook.is_file()
        ]

    def fragments(self) -> list[str]:
        """Names of the generated fragments that some page includes."""
        text = "".join(map(self.text, self.pages()))
        return [name for name in FRAGMENTS if f"_generated/{name}" in text]

    def stamp(self) -> str:
        """Digest of everything the rendered site depends on."""
        shown = {self.profile, *(self.request(page).profile for page in self.notebooks())}
        results = sorted(p for label in shown for p in (self.build / "results" / label).rglob("*.json"))
        results += sorted((self.build / "sweeps").glob("*/tables/*.parquet"))
        sources = sorted(p for p in self.book.rglob("*") if p.is_file() and ".ipynb_checkpoints" not in p.parts)
        return digest(
            [(p.relative_to(self.book).as_posix(), file_digest(p)) for p in sources],
            [(page, self.standing(page), p.is_file() and file_digest(p)) for page, p in self.notebooks().items()],
            [(p.relative_to(self.build).as_posix(), file_digest(p)) for p in results],
            [(p.relative_to(ROOT).as_posix(), file_digest(p))
             for name in ("README.md", *CITED, "params/*/*.yaml") for p in sorted(ROOT.glob(name))],
            closure_digest("import lib.press.site.__main__, lib.press.plotly_mime"),
            self.profile, self.is_draft, versions(RENDERERS),
        )


def assemble(site: Site) -> None:
    """Lay out `_build/src`: the book folder, with each page that has code replaced by its executed notebook.

    Raises:
        SiteError: a fragment cannot be generated (names it and passes on the reason), or two figures have one name.
    """
    shutil.rmtree(site.source, ignore_errors=True)
    shutil.copytree(site.book, site.source, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    site.beside.mkdir()
    for name in CITED:
        shutil.copy(ROOT / name, site.beside)
    words, notebooks = cache(lambda: _words(site)), site.notebooks()
    for page, notebook in notebooks.items():
        if not notebook.is_file():
            write_text(site.source / f"{page}.md", with_roles(awaited(site.text(page)), page, words))
            continue
        (site.source / f"{page}.md").unlink()
        executed = read_json(notebook)
        _lay_beside(site, page, executed)
        write_text(site.source / f"{page}.ipynb", json.dumps(for_page(executed, page, words, site.standing(page))))
    for page in set(site.pages()) - set(notebooks):
        write_text(site.source / f"{page}.md", with_roles(site.text(page), page, words))
    for name in site.fragments():
        try:
            FRAGMENTS[name](site, site.source / "_generated" / name)
        except (ValueError, RuntimeError) as error:  # what is wrong and what to do
            raise SiteError(f"_generated/{name}: {error}") from error


def _lay_beside(site: Site, page: str, executed: dict[str, Any]) -> None:
    """Lay out what goes with a page: its figures' numbers, its parameters and its records."""
    for name, numbers in tables(executed):
        path = site.beside / Path(page).parent / "figures" / f"{name}.csv"
        if path.exists():
            raise SiteError(f"{page}: a second figure named {name}; name one of them anew in book/{page}.md")
        write_text(path, numbers)
    request = site.request(page)
    for source, place in ((request.page.params_file(request.profile), f"params/{request.page.name}"),
                          (site.build / request.results.relative_to(BUILD), f"results/{request.label}")):
        if source.is_file():
            (site.beside / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, site.beside / place)


def for_page(notebook: dict[str, Any], page: str = "", words: Words = dict, standing: str = "") -> dict[str, Any]:
    """An executed notebook made ready for its page: pills, no progress, width and `alt` of each PNG.

    standing: what the page shows in place of the profile asked for; it is said under the title.
    """
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = with_roles("".join(cell["source"]), page, words)
        shown = cell["metadata"].get("mystnb", {})
        if caption := shown.get("figure", {}).get("caption"):
            shown.setdefault("image", {}).setdefault("alt", plain(caption))
            shown["figure"]["caption"] = with_roles(caption, page, words)
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if not output.get("metadata", {}).get(PASSING)]
        for output in cell.get("outputs", []):
            for mime in TOLD_BESIDE:
                output.get("data", {}).pop(mime, None)
            if png := output.get("data", {}).get("image/png"):
                size = output.setdefault("metadata", {}).setdefault("image/png", {})
                size.setdefault("width", png_width("".join(png)) // PIXEL_RATIO)
    if standing:
        first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        note = f"\n\n:::{{note}}\nShown at profile {standing}.\n:::"
        first["source"] = re.sub(r"^# .*$", rf"\g<0>{note}", first["source"], count=1, flags=re.MULTILINE)
    return notebook


def awaited(text: str) -> str:
    """A chapter that is still being run: its labels and headings, so that links lead there, and a note saying so."""
    prose = re.sub(r"^(`{3,}|~{3,}).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    outline = "\n\n".join(re.findall(r"^(?:#+ .*|\([\w-]+\)=)$", prose, re.MULTILINE))
    return re.sub(r"^# .*$", rf"\g<0>\n\n{AWAITED}", outline, count=1, flags=re.MULTILINE)


AWAITED = ":::{note}\nThis page is still being computed. Load it again later; these are its headings.\n:::"


def with_roles(text: str, page: str, words: Words) -> str:
    """Markdown with the book's own roles in place.

    {verdict}`SP-1` is the claim's verdict, which leads to its page; {ci}`effect:.2f` a number and its ends.

    Raises:
        SiteError: no such claim; names the page and the id.
    """
    def pill(found: re.Match[str]) -> str:
        from lib.press.site import claims_table

        if found[1] not in words():
            raise SiteError(f"{page}: {found[0]}: no such claim in book/claims.yml")
        return claims_table.pill(found[1], words()[found[1]], page)

    return INTERVAL.sub(r"{glue:text}`\1\2` [{glue:text}`\1_low\2`, {glue:text}`\1_high\2`]", VERDICT.sub(pill, text))


def _words(site: Site) -> Mapping[str, str]:
    from lib.press.site import claims_table

    try:
        return claims_table.words(site.profile)
    except ValueError as error:  # what is wrong and what to do
        raise SiteError(str(error)) from error


def png_width(encoded: str) -> int:
    """Width in pixels of a base64-encoded PNG: bytes 16 to 19 of the file, big-endian."""
    return int.from_bytes(base64.b64decode(encoded[:32])[16:20], "big")


def plain(markdown: str) -> str:
    """Markdown without roles, emphasis, code and math marks: what a screen reader should say."""
    return " ".join(re.sub(r"\{[\w:-]+\}|[`*$\\]", "", markdown).split())


def executions_table(site: Site) -> str:
    """Markdown table: one row per executed page."""
    rows = ["| page | profile | finished (UTC) | seconds | machine | versions |", "|---|---|---|--:|---|---|"]
    for page, path in site.notebooks().items():
        if not path.is_file():
            continue  # of a draft
        book = read_json(path)["metadata"].get("book", {})
        finished = str(book.get("finished", "unknown"))[:16].replace("T", " ")
        used = dict(book.get("facts", {}).get("environment", {}))
        machine = [used.pop("device", "cpu"), book.get("processor", "unknown")]
        versions_used = ", ".join(f"{name} {number}" for name, number in used.items() if number)
        seconds = f"{book['seconds']:.1f}" if "seconds" in book else "unknown"
        machine = machine[1] if machine[0] == "cpu" else " / ".join(machine)
        profile = site.standing(page) or (site.profile if site.request(page).page.is_study else "every")
        cells = [f"{{doc}}`/{page}`", profile, finished, seconds, machine, versions_used]
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _verdicts(site: Site, path: Path) -> None:
    """The table of claims, and the pages that its rows lead to."""
    from lib.press.site import claim_pages, claims_table

    chapters = {page.removeprefix("studies/"): site.text(page) for page in site.notebooks()}
    write_text(path, claims_table.table(site.profile, chapters))
    for name, text in claim_pages.pages(site.profile, chapters):
        write_text(site.source / name, text)


def _verdict_summary(site: Site, path: Path) -> None:
    from lib.press.site import claims_table

    write_text(path, claims_table.summary(site.profile))


def _picture(site: Site, path: Path) -> None:
    from lib.press.site import claims_picture

    write_text(path, claims_picture.picture(site.profile))


def recipes(readme: str) -> str:
    """The README's recipes, a section each; the tests run them there, so that there is one copy of each."""
    found = re.findall(r"<details><summary>(.*?)</summary>\n+(.*?)</details>", readme, re.DOTALL)
    return "\n".join(f"## {title}\n\n{body}" for title, body in found)


def _sweeps(site: Site, path: Path) -> None:
    from lib.press.sweep import gallery

    folder = path.parent / "sweeps"
    write_text(path, gallery.page(folder))
    for told in folder.glob("*.csv"):
        write_text(site.beside / "figures" / told.name, told.read_text(encoding="utf-8"))


FRAGMENTS: dict[str, Callable[[Site, Path], object]] = {
    "verdicts.md": _verdicts,
    "verdict_summary.md": _verdict_summary,
    "claims_picture.md": _picture,
    "recipes.md": lambda _, path: write_text(path, recipes((ROOT / "README.md").read_text(encoding="utf-8"))),
    "sweeps.md": _sweeps,
    "executions.md": lambda site, path: write_text(path, executions_table(site)),
}
"""Generated Markdown that pages include as `_generated/<name>`; only the included ones are written."""


def _files(toc: Any) -> Iterator[str]:
    """Every `root` and `file` of a Jupyter Book table of contents, in order."""
    if isinstance(toc, dict):
        for key, value in toc.items():
            yield from [value] if key in ("root", "file") else _files(value)
    elif isinstance(toc, list):
        for item in toc:
            yield from _files(item)
