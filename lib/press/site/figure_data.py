"""Under every figure of the rendered site: its numbers as CSV, and a link to it."""
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lib.files import write_text
from lib.press.site.source import TOLD_BESIDE, Site

_GLUED_FIGURE = re.compile(r"\{glue:figure\} *(\w+)\n:name: *([\w-]+)")
_FIGURE = re.compile(r'(<figure[^>]*\bid="([\w-]+)"[^>]*>(?:(?!</figure>).)*?)(</figcaption>)', re.DOTALL)
_LINE = ('<p class="figure-data" aria-live="polite"><a href="figures/{0}.csv" download>data (CSV)</a> · '
         '<a class="copy-link" href="#{0}">copy link</a></p>')


def write_figure_data(site: Site, html: Path) -> None:
    """Write `figures/<id>.csv` beside each page for each of its figures, and a line under the caption to it."""
    for page, notebook in site.notebooks().items():
        if not notebook.is_file():
            continue  # of a draft
        found = dict(tables(json.loads(notebook.read_text(encoding="utf-8"))))
        path = html / f"{page}.html"

        def told(figure: re.Match[str], found: dict[str, str] = found, folder: Path = path.parent) -> str:
            if figure[2] not in found:
                return figure[0]
            write_text(folder / "figures" / f"{figure[2]}.csv", found[figure[2]])
            return figure[1] + _LINE.format(figure[2]) + figure[3]

        write_text(path, _FIGURE.sub(told, path.read_text(encoding="utf-8")))


def tables(notebook: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and CSV of each figure of an executed notebook, by its cell or by where the prose puts it."""
    prose = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    places = dict(_GLUED_FIGURE.findall(prose))
    for cell in notebook["cells"]:
        own = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        for output in cell.get("outputs", []):
            name = places.get(output.get("metadata", {}).get("scrapbook", {}).get("name"), own)
            told = [output["data"][mime] for mime in TOLD_BESIDE if mime in output.get("data", {})]
            if name and told:
                yield name, "".join(told[0])
