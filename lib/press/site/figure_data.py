"""Under every figure of the rendered site: its numbers as CSV, and a link to it."""
from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lib.files import write_text
from lib.press.plotly_mime import MIME
from lib.press.site.source import TOLD_BESIDE, Site

CSV, _GLUED_CSV = TOLD_BESIDE
GLUED = _GLUED_CSV.removesuffix(CSV)
_GLUED_FIGURE = re.compile(r"\{glue:figure\} *(\w+)\n:name: *([\w-]+)")
_FIGURE = re.compile(r'(<figure[^>]*\bid="([\w-]+)"[^>]*>(?:(?!</figure>).)*?)(</figcaption>)', re.DOTALL)
_LINE = ('<p class="figure-data" aria-live="polite"><a href="figures/{0}.csv" download>data (CSV)</a> · '
         '<a class="copy-link" href="#{0}">copy link</a></p>')


def write_figure_data(site: Site, html: Path) -> None:
    """Write `figures/<id>.csv` beside each page for every figure of it, and a line under its caption that leads there."""
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
            data = {mime.removeprefix(GLUED): value for mime, value in output.get("data", {}).items()}
            name = places.get(output.get("metadata", {}).get("scrapbook", {}).get("name"), own)
            if name and CSV in data:
                yield name, "".join(data[CSV])
            elif name and MIME in data:
                yield name, plotly_table(data[MIME])


def plotly_table(figure: dict[str, Any]) -> str:
    """The traces of a plotly figure as CSV: panel, series, x, y, value; of a map a row per cell."""
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow(("panel", "series", "x", "y", "value"))
    for number, trace in enumerate(figure["data"], 1):
        x, y, z = (_values(trace.get(name)) for name in "xyz")
        if z is not None and z.ndim == 2:
            rows, columns = np.indices(z.shape)
            x, y = (at if values is None else values[at] for values, at in ((x, columns), (y, rows)))
        parts = [np.asarray(part).ravel() for part in (x, y, z) if part is not None]
        length = max(map(len, parts), default=0)
        x, y, z = (np.full(length, "") if part is None else np.ravel(part) for part in (x, y, z))
        panel = trace.get("xaxis") or trace.get("scene") or "x"
        writer.writerows((panel, trace.get("name", number), *row) for row in zip(x, y, z, strict=True))
    return text.getvalue()


def _values(stored: Any) -> np.ndarray | None:
    """A list, or an array as plotly stores it: type and bytes."""
    if isinstance(stored, dict):
        values = np.frombuffer(base64.b64decode(stored["bdata"]), np.dtype(stored["dtype"]))
        return values.reshape([int(n) for n in str(stored["shape"]).split(",")]) if "shape" in stored else values
    return None if stored is None else np.array(stored)
