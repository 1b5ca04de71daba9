"""What the site is made of: `_build/src`, laid out from the book folder and the executed notebooks."""
from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.files import BUILD, digest, file_digest, write_text
from lib.press.keys import closure_digest
from lib.press.provenance import versions

RENDERERS = ("jupyter-book", "sphinx", "sphinx-book-theme", "pydata-sphinx-theme", "myst-nb", "plotly")
PIXEL_RATIO = 2  # figures are stored at twice the size they are shown at
CODE = re.compile(r"^(```|:::)\{code-cell\}", re.MULTILINE)


class SiteError(RuntimeError):
    """The site cannot be built; the message says what is missing or wrong and what to do."""


@dataclass(frozen=True)
class Site:
    """One book folder rendered from the executions of one profile, everything generated under `build`."""

    book: Path
    profile: str
    build: Path = BUILD

    @property
    def html(self) -> Path:
        return self.build / "html"

    @property
    def source(self) -> Path:
        return self.build / "src"

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
        folder = self.build / "executed" / self.profile
        return {p: folder / f"{p.removeprefix('studies/')}.ipynb" for p in self.pages() if CODE.search(self.text(p))}

    def problems(self) -> list[str]:
        """Why the site cannot be built yet, one line each."""
        missing = [page for page in self.pages() if not self.text(page)]
        absent = [f"{page}: in _toc.yml, but {self.book / page}.md does not exist" for page in missing]
        return absent + [
            f"{page}: not executed at profile {self.profile}; run: "
            f"python -m lib.press run {page.removeprefix('studies/')} --profile {self.profile}"
            for page, notebook in self.notebooks().items()
            if not notebook.is_file()
        ]

    def fragments(self) -> list[str]:
        """Names of the generated fragments that some page includes."""
        text = "".join(map(self.text, self.pages()))
        return [name for name in FRAGMENTS if f"_generated/{name}" in text]

    def stamp(self) -> str:
        """Digest of everything the rendered site depends on."""
        results = sorted((self.build / "results" / self.profile).rglob("*.json"))
        sources = sorted(p for p in self.book.rglob("*") if p.is_file() and ".ipynb_checkpoints" not in p.parts)
        return digest(
            [(p.relative_to(self.book).as_posix(), file_digest(p)) for p in sources],
            [(page, file_digest(p)) for page, p in self.notebooks().items()],
            [(p.relative_to(self.build).as_posix(), file_digest(p)) for p in results],
            closure_digest("import lib.press.site.__main__, lib.press.plotly_mime"), self.profile, versions(RENDERERS),
        )


def assemble(site: Site) -> None:
    """Lay out `_build/src`: the book folder, with each page that has code replaced by its executed notebook.

    Raises:
        SiteError: a fragment cannot be generated; names it and passes on the reason.
    """
    shutil.rmtree(site.source, ignore_errors=True)
    shutil.copytree(site.book, site.source, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for page, notebook in site.notebooks().items():
        (site.source / f"{page}.md").unlink()
        executed = json.loads(notebook.read_text(encoding="utf-8"))
        write_text(site.source / f"{page}.ipynb", json.dumps(for_page(executed)))
    for name in site.fragments():
        try:
            FRAGMENTS[name](site, site.source / "_generated" / name)
        except (ValueError, RuntimeError) as error:  # what is wrong and what to do
            raise SiteError(f"_generated/{name}: {error}") from error


def for_page(notebook: dict[str, Any]) -> dict[str, Any]:
    """An executed notebook made ready for the page: each PNG gets its shown width and its caption as `alt`."""
    for cell in notebook["cells"]:
        shown = cell["metadata"].get("mystnb", {})
        if caption := shown.get("figure", {}).get("caption"):
            shown.setdefault("image", {}).setdefault("alt", plain(caption))
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                size = output.setdefault("metadata", {}).setdefault("image/png", {})
                size.setdefault("width", png_width("".join(png)) // PIXEL_RATIO)
    return notebook


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
        book = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("book", {})
        finished = str(book.get("finished", "unknown"))[:16].replace("T", " ")
        used = dict(book.get("facts", {}).get("environment", {}))
        machine = [used.pop("device", "cpu"), book.get("processor", "unknown")]
        versions_used = ", ".join(f"{name} {number}" for name, number in used.items() if number)
        seconds = f"{book['seconds']:.1f}" if "seconds" in book else "unknown"
        machine = machine[1] if machine[0] == "cpu" else " / ".join(machine)
        profile = book.get("profile", site.profile)
        cells = [f"{{doc}}`/{page}`", profile, finished, seconds, machine, versions_used]
        rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _verdicts(site: Site, path: Path) -> None:
    from lib.press import claims

    write_text(path, claims.markdown_table(site.profile))


def _verdict_summary(site: Site, path: Path) -> None:
    from lib.press import claims

    write_text(path, claims.summary(site.profile))


FRAGMENTS: dict[str, Callable[[Site, Path], object]] = {
    "verdicts.md": _verdicts,
    "verdict_summary.md": _verdict_summary,
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
