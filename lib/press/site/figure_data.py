"""Under every figure of the rendered site: a link to it, and its numbers as CSV where it tells them."""
from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from lib.files import write_text

TOLD_BESIDE = ("text/csv", "application/papermill.record/text/csv")
"""A figure's numbers, which lie beside the page."""
_GLUED_FIGURE = re.compile(r"\{glue:figure\} *(\S+)\n((?::[\w-]+:.*\n)*)")
_NAME = re.compile(r"^:name: *(\S+)", re.MULTILINE)
_FIGURE = re.compile(r'(<figure[^>]*\bid="([\w-]+)"[^>]*>(?:(?!</figure>).)*?)(</figcaption>)', re.DOTALL)
_INTERACTIVE = re.compile(r'<div (class="plotly-figure".*?</noscript></div>)', re.DOTALL)


def write_figure_data(pages: list[str], html: Path) -> None:
    """Write a line under each figure of each page in `html`: to `figures/<id>.csv` if there is one, and to itself."""
    for page in pages:
        path, number = html / f"{page}.html", count(1)
        folder = path.parent / "figures"

        def interactive(figure: re.Match[str], number: count[int] = number) -> str:
            name = f"interactive-{next(number)}"
            return f'<div id="{name}" {figure[1]}{_line(name)}'

        def captioned(figure: re.Match[str], folder: Path = folder) -> str:
            return figure[1] + _line(figure[2], (folder / f"{figure[2]}.csv").is_file()) + figure[3]

        text = _INTERACTIVE.sub(interactive, path.read_text(encoding="utf-8"))
        write_text(path, _FIGURE.sub(captioned, text))


def _line(name: str, has_data: bool = False) -> str:
    data = f'<a href="figures/{name}.csv" download>data (CSV)</a> · ' if has_data else ""
    return (f'<p class="figure-data" aria-live="polite">{data}'
            f'<a class="copy-link" href="#{name}">copy link</a></p>')


def tables(notebook: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and CSV of each figure of an executed notebook, by its cell or, if glued, by where the prose puts it."""
    prose = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    places = [(key, name[1]) for key, options in _GLUED_FIGURE.findall(prose) if (name := _NAME.search(options))]
    for cell in notebook["cells"]:
        own = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        for output in cell.get("outputs", []):
            glued = output.get("metadata", {}).get("scrapbook", {}).get("name")
            names = [own] if glued is None else [name for key, name in places if key == glued]
            told = [output["data"][mime] for mime in TOLD_BESIDE if mime in output.get("data", {})]
            yield from ((name, "".join(told[0])) for name in names if name and told)
