"""A figure that tells its numbers beside its picture: what its panels draw, as CSV."""
from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

CSV = "text/csv"
COLUMNS = ("panel", "kind", "series", "x", "y", "value")
"""panel: its title, or its number from 1. kind: line, points, shape, image or tick. series: its label, or its number
within its kind; of a tick its axis. x and y: of a point, a corner of a shape or a cell of an image (column and row of
one without coordinates), empty where it spans the panel. value: what a colour stands for, or the word at a tick."""

Row = tuple[Any, Any, Any]


class Drawn(Figure):
    """A Figure whose display carries `table` as text/csv; a page that shows pictures leaves it out."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {CSV: table(self)}


def table(fig: Figure) -> str:
    """What the panels of a figure draw at the places of their axes, as CSV with `COLUMNS`, six digits."""
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, ax in enumerate((ax for ax in fig.axes if ax.get_label() != "<colorbar>"), 1):
        title = " ".join((ax.get_title("left") or ax.get_title() or str(number)).split())
        counts: dict[str, int] = {}
        for artist in (*ax.lines, *ax.collections, *ax.patches, *ax.images):
            kind, rows = _rows(artist)
            counts[kind] = counts.get(kind, 0) + 1
            label = str(artist.get_label())
            series = counts[kind] if label.startswith("_") or not label else label
            for row in _placed(artist, ax, rows):
                writer.writerow([title, kind, series, *map(_digits, row)])
        writer.writerows([title, "tick", *map(_digits, row)] for row in _named_ticks(ax))
    return text.getvalue()


def _rows(artist: Artist) -> tuple[str, Iterator[Row]]:
    """Its kind, and x, y and value of each of its points."""
    if isinstance(artist, Line2D):
        return "line", ((x, y, None) for x, y in zip(*artist.get_data(orig=False), strict=True))
    if isinstance(artist, AxesImage):
        shown = artist.get_array()
        return "image", ((x, y, shown[y, x]) for y, x in np.ndindex(shown.shape[:2]) if shown.ndim == 2)
    if isinstance(artist, QuadMesh):
        corners, shown = artist.get_coordinates(), artist.get_array().reshape(-1)
        middle = (corners[1:, 1:] + corners[:-1, :-1]) / 2
        return "image", ((*place, value) for place, value in zip(middle.reshape(-1, 2), shown, strict=True))
    if isinstance(artist, PathCollection):
        places, shown = artist.get_offsets(), artist.get_array()
        return "points", ((*p, None if shown is None else shown[i]) for i, p in enumerate(places))
    paths = artist.get_paths() if hasattr(artist, "get_paths") else [
        artist.get_patch_transform().transform_path(artist.get_path())]
    return "shape", ((*corner, None) for path in paths for corner in path.vertices)


def _named_ticks(ax: Axes) -> Iterator[tuple[Any, ...]]:
    """Places of an axis that words are written at: axis, x, y, word."""
    for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        words = [tick.get_text() for tick in axis.get_majorticklabels()]
        for place, word in zip(axis.get_majorticklocs(), words, strict=False):
            if not word.startswith("$") and re.search(r"[^\W\d]", word):
                yield name, *((place, None) if name == "x" else (None, place)), word


def _placed(artist: Artist, ax: Axes, rows: Iterator[Row]) -> Iterator[Row]:
    """Rows with the coordinates alone that are in units of the axes; none of an artist that has none."""
    transform = artist.get_offset_transform() if isinstance(artist, PathCollection) else artist.get_transform()
    along_x, along_y = transform.contains_branch_seperately(ax.transData)
    return ((x if along_x else None, y if along_y else None, value) for x, y, value in rows if along_x or along_y)


def _digits(value: Any) -> str:
    if value is None or np.ma.is_masked(value) or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, (int, float, np.number)) else str(value)
