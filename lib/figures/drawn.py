"""A figure that tells its numbers beside its picture: what its panels draw, as CSV."""
from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection, QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.ticker import LogFormatter, NullFormatter, ScalarFormatter

CSV = "text/csv"
COLUMNS = ("panel", "x_label", "y_label", "kind", "series", "part", "x", "y", "value")
"""panel: its title, or its number from 1; x_label and y_label: its axes'. kind: line, points, shape, image or tick.
series: its label, the words in its colour, or its number within its kind; of a tick its axis. part: number within the
series of what is drawn in one stroke. x and y: of a point, a corner of a shape or the middle of a cell of an image,
empty where it spans the panel. value: what a colour stands for, or is (red, green, blue, opacity if it has one), or the
word at a tick."""
CELLS = 20_000
"""Cells of images up to which a figure tells them, of more it says how many: a notebook keeps its numbers as text."""

Row = tuple[Any, Any, Any]


class Untold(ValueError):
    """Something is drawn whose numbers the figure does not hold: shapes in colours or sizes without values."""


class Drawn(Figure):
    """A Figure whose display carries its numbers as text/csv, and none where it cannot tell all; pages leave it out."""

    numbers: Any = None
    """A DataFrame by who made the figure, told in place of what `table` finds."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        try:
            return {CSV: table(self) if self.numbers is None else
                    self.numbers.to_csv(index=False, float_format="%.9g", lineterminator="\n")}
        except Untold:
            return {}


def table(fig: Figure) -> str:
    """What the panels of a figure draw at the places of their axes, as CSV with `COLUMNS`, nine digits.

    Raises:
        Untold: points or shapes are given as colours or sizes.
    """
    writer = csv.writer(text := io.StringIO(), lineterminator="\n")
    writer.writerow(COLUMNS)
    panels = [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]
    images = [one for ax in panels for one in (*ax.images, *ax.collections) if isinstance(one, (AxesImage, QuadMesh))]
    cells = sum(np.prod(image.get_array().shape[:2]) for image in images)
    for number, ax in enumerate(panels, 1):
        title = " ".join((ax.get_title("left") or ax.get_title() or str(number)).split())
        panel = (title, _axis_label(ax, "x"), _axis_label(ax, "y"))
        counts, parts, named = Counter(), Counter(), _contained(ax)
        for artist in (*ax.lines, *ax.collections, *ax.patches, *ax.images):
            kind, strokes = _strokes(artist)
            if kind == "image" and cells > CELLS:
                strokes = [[(None, None, f"left out: {cells} cells in all, more than {CELLS}")]]
            counts[kind] += 1
            series = named.get(artist) or _own_label(artist) or _words(artist, ax) or counts[kind]
            for rows in strokes:
                parts[kind, series] += 1
                for row in _placed(artist, ax, rows):
                    writer.writerow([*panel, kind, series, parts[kind, series], *map(_digits, row)])
        writer.writerows([*panel, "tick", name, "", *map(_digits, row)] for name, *row in _named_ticks(ax))
    return text.getvalue()


def _axis_label(ax: Axes, name: str) -> str:
    """What an axis shows, written beside it or beside a panel that shares it."""
    shared = [ax, *getattr(ax, f"get_shared_{name}_axes")().get_siblings(ax)]
    return " ".join(next(filter(None, (getattr(each, f"get_{name}label")() for each in shared)), "").split())


def _contained(ax: Axes) -> dict[Artist, str]:
    """Label of each part of labelled bars, histograms and error bars."""
    named = {}
    for container in ax.containers:
        parts = container.get_children()
        colours = {tuple(part.get_facecolor()) for part in parts if part in ax.patches}
        if len(colours) > 1 and not all(_words(part, ax) for part in parts):
            raise Untold("bars have colours, and no values of them")
        if label := next(filter(None, map(_own_label, (container, *parts))), ""):
            named |= dict.fromkeys(parts, label)
    return named


def _own_label(artist: Any) -> str:
    label = " ".join(str(artist.get_label()).split())
    return "" if label.startswith("_") else label


def _words(artist: Artist, ax: Axes) -> str:
    """What a key (`style.direct_label`, `style.corner_key`) calls an artist: the words in its colour, the nearest."""
    found = [text for text in ax.texts if text.get_label() and to_rgb(text.get_color()) == _colour(artist)]
    if len(found) > 1 and hasattr(artist, "get_path"):
        line = artist.get_transform().transform_path(artist.get_path()).interpolated(30).vertices

        def gap(text: Any) -> float:
            is_placed = getattr(text, "xycoords", "") == "data"
            place = ax.transData.transform(text.xy) if is_placed else text.get_window_extent().p0
            return np.nanmin(np.hypot(*(line - place).T), initial=np.inf)

        found.sort(key=gap)
    return _own_label(found[0]) if found else ""


def _colour(artist: Any) -> tuple[float, ...] | None:
    colour = artist.get_color() if isinstance(artist, Line2D) else getattr(artist, "get_facecolor", lambda: ())()
    colour = colour if isinstance(colour, str) or np.ndim(colour) < 2 else colour[0] if len(colour) == 1 else ()
    return None if len(colour) == 0 or (len(colour) == 4 and colour[3] == 0) else to_rgb(colour)


def _strokes(artist: Artist) -> tuple[str, Iterable[Iterable[Row]]]:
    """Its kind, and x, y and value of each point of each of its strokes."""
    if isinstance(artist, Line2D):
        x, y = getattr(artist, "unmoved", artist.get_data(orig=False))
        return "line", [((*place, None) for place in zip(x, y, strict=True))]
    if isinstance(artist, (AxesImage, QuadMesh)):
        return "image", [_cells(artist)]
    if not isinstance(artist, Collection):
        return "shape", [((*corner, None) for corner in part)
                         for part in _split(artist.get_patch_transform().transform_path(artist.get_path()))]
    values = artist.get_array()
    if values is None and any(len(np.unique(each, axis=0)) > 1 for each in (
            artist.get_facecolor(), artist.get_edgecolor(), getattr(artist, "get_sizes", list)())):
        raise Untold("points or shapes have colours or sizes, and no values of them")
    if isinstance(artist, PathCollection):
        return "points", [[(*place, None if values is None else values[i])]
                          for i, place in enumerate(artist.get_offsets())]
    paths = artist.get_paths()
    if artist.get_offset_transform().contains_branch(artist.axes.transData) or (
            values is not None and len(values) != len(paths)):
        raise Untold("shapes are drawn at places, or in colours, that are not their own")
    return "shape", [((*corner, None if values is None else values[i]) for corner in part)
                     for i, path in enumerate(paths) for part in _split(path)]


def _split(path: Path) -> list[np.ndarray]:
    starts = () if path.codes is None else np.flatnonzero(path.codes == Path.MOVETO)[1:]
    return np.split(path.vertices, starts)


def _cells(artist: Any) -> Iterator[Row]:
    """Middle of each cell on its axes, on logarithmic ones the geometric, and its value."""
    values = artist.get_array()
    if type(artist) not in (AxesImage, QuadMesh):
        raise Untold("an image has cells of other kinds")
    if isinstance(artist, QuadMesh):
        corners = artist.get_coordinates()
        if corners[1:, 1:].shape[:2] != values.shape[:2]:
            raise Untold("an image is shaded between its values")
        scale = artist.axes.transScale
        corners = scale.transform(corners.reshape(-1, 2)).reshape(corners.shape)
        middle = scale.inverted().transform(((corners[1:, 1:] + corners[:-1, :-1]) / 2).reshape(-1, 2))
    else:
        left, right, bottom, top = artist.get_extent()
        start, end = (top, bottom) if artist.origin == "upper" else (bottom, top)
        y, x = ((np.arange(n) + 0.5) / n for n in values.shape[:2])
        middle = ((left + u * (right - left), start + v * (end - start)) for v in y for u in x)
    told = values.flat if values.ndim == 2 else [" ".join(map(_digits, one)) for row in values for one in row]
    return ((*place, value) for place, value in zip(middle, told, strict=True))


def _named_ticks(ax: Axes) -> Iterator[tuple[Any, ...]]:
    """Places of an axis that words, or other numbers, are written at: axis, x, y, word."""
    for name, axis in (("x", ax.xaxis), ("y", ax.yaxis)):
        if isinstance(axis.get_major_formatter(), (ScalarFormatter, LogFormatter, NullFormatter)):
            continue
        words = [" ".join(tick.get_text().split()) for tick in axis.get_majorticklabels()]
        for place, word in zip(axis.get_majorticklocs(), words, strict=False):
            if word not in ("", f"{place:g}"):
                yield name, *((place, None) if name == "x" else (None, place)), word


def _placed(artist: Artist, ax: Axes, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows with the coordinates alone that are in units of the axes; none of an artist that has none."""
    transform = artist.get_offset_transform() if isinstance(artist, PathCollection) else artist.get_transform()
    along_x, along_y = transform.contains_branch_seperately(ax.transData)
    return ((x if along_x else None, y if along_y else None, value) for x, y, value in rows if along_x or along_y)


def _digits(value: Any) -> str:
    if value is None or np.ma.is_masked(value) or value != value:
        return ""
    return f"{value:.9g}" if isinstance(value, (int, float, np.number)) else str(value)
