"""The look of every figure: the only module with colours and sizes.

Figures are drawn on white in both page themes (the page puts them on a white card). A figure of width "page" is
`WIDTHS["page"]` inches and fills the text column, where its 9.5 pt letters are as tall as the body text; its
pixels are twice the column's, so it stays crisp on dense screens.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike

from lib.figures.drawn import Drawn

BLACK, BLUE, ORANGE, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
LINES = (BLACK, BLUE, ORANGE, GREEN)
"""Line colours, in order of use: each at least 3:1 on white, told apart by colour-blind readers."""

NULL = "#767676"
"""Whatever structureless input would give: lines and labels; `null_band` draws it as a pale band."""
GRID, INK, PAPER = "#DDDDDD", "#222222", "#FFFFFF"

PUBLISHED = {"color": BLACK, "linestyle": (0, (4, 2.5)), "linewidth": 1.1}
"""Line style of a value printed by the source of a claim."""

SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"
"""Colour maps: for ordered quantities, and for signed ones (with `symmetric_limits`)."""

WIDTHS = {"half": 3.3, "page": 6.5, "wide": 9.0}
"""Figure widths in inches: one small panel, the text column, the column and its margin (tag the cell `full-width`)."""
PIXELS_PER_INCH = 234  # twice the 760 css pixels of the text column over its 6.5 inches


def apply() -> None:
    """Make matplotlib draw in the book's style from here on (sets rcParams; called by `figure`)."""
    mpl.rcParams.update({
        "figure.dpi": PIXELS_PER_INCH, "savefig.dpi": "figure", "figure.facecolor": PAPER, "savefig.facecolor": PAPER,
        "figure.constrained_layout.use": True, "figure.max_open_warning": 0,
        "font.family": "DejaVu Sans", "font.size": 9.5, "mathtext.fontset": "dejavusans",
        "axes.titlesize": 9.5, "axes.titleweight": "normal", "axes.titlelocation": "left", "axes.labelsize": 9.5,
        "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8.5, "legend.frameon": False,
        "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.facecolor": PAPER,
        "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6,
        "axes.prop_cycle": cycler(color=LINES), "lines.linewidth": 1.6, "lines.markersize": 4.5,
        "image.cmap": SEQUENTIAL, "image.interpolation": "nearest",
        "svg.fonttype": "path", "svg.hashsalt": "book",
    })


def figure(
    width: str = "page", aspect: float = 0.5, rows: int = 1, cols: int = 1, **kw
) -> tuple[Figure, Axes | np.ndarray]:
    """A figure in the book's style with a grid of axes; shown once, where it is the value of a cell, with its numbers.

    Args:
        width: "half", "page" or "wide"; aspect: height of the whole figure over its width.
        kw: passed to `plt.subplots` (`sharex`, `sharey`, `width_ratios`, `subplot_kw`, ...).
    Returns:
        The figure and its axes: one Axes, or an array [rows, cols] with length-one sides dropped.
    """
    apply()
    if width not in WIDTHS:
        raise KeyError(f"figure width {width!r} is not one of {', '.join(WIDTHS)}")
    size = (WIDTHS[width], WIDTHS[width] * aspect)
    fig, axes = plt.subplots(rows, cols, figsize=size, FigureClass=Drawn, **kw)
    plt.close(fig)  # else the inline backend would show it a second time
    return fig, axes


def _note(ax: Axes, text: str, color: str, **place: object) -> Annotation:
    """Small text at `place`, rimmed white to be readable over lines; its label lets it name what has its colour."""
    rim = [withStroke(linewidth=2.5, foreground=PAPER)]
    return ax.annotate(text, textcoords="offset points", color=color, fontsize=8.5, annotation_clip=False,
                       path_effects=rim, label=text, **place)


def symmetric_limits(values: ArrayLike) -> dict[str, float]:
    """`vmin` and `vmax` of equal size around 0 for signed data (1 where nothing is finite and non-zero)."""
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    limit = float(np.abs(finite).max()) if finite.size else 0.0
    return {"vmin": -(limit or 1.0), "vmax": limit or 1.0}


def direct_label(ax: Axes, x: float, y: float, text: str, color: str = INK, side: str = "right") -> Annotation:
    """Write `text` in `color` beside the data point (x, y), in place of a legend entry.

    `side` is "right", "left", "above" or "below".
    """
    shift, horizontal, vertical = {
        "right": ((4, 0), "left", "center"), "left": ((-4, 0), "right", "center"),
        "above": ((0, 4), "center", "bottom"), "below": ((0, -4), "center", "top"),
    }[side]
    return _note(ax, text, color, xy=(x, y), xytext=shift, ha=horizontal, va=vertical)


def corner_key(ax: Axes, x: float, y: float, step: float, colours: Mapping[str, str]) -> None:
    """Words in their colours, the first at (x, y) of the panel and `step` apart, in place of a legend."""
    for line, (text, color) in enumerate(colours.items()):
        ax.text(x, y - step * line, text, color=color, fontsize=8.5, ha="right" if x > 0.5 else "left", va="top",
                transform=ax.transAxes, label=text)


def dots(ax: Axes, x: ArrayLike, y: ArrayLike, color: str = BLUE, alpha: float = 0.35, size: float = 3.5,
         apart: ArrayLike | None = None, along: str = "x", **look: object) -> None:
    """One pale dot per seed, run or sample; where many lie, they darken.

    apart: how far each is moved `along` x or y so that equal ones are seen; the numbers beside the picture do not move.
    look: of the marker, as in `Axes.plot`.
    """
    look = {"marker": "o", "ls": "", "c": color, "alpha": alpha, "ms": size, "mew": 0, **look}
    if apart is None:
        ax.plot(x, y, **look)
        return
    x, y = np.broadcast_arrays(x, y)
    ax.plot(*((x + apart, y) if along == "x" else (x, y + apart)), **look)[0].unmoved = x, y


def plain_ticks(axis: Axis, within: float = np.inf) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times powers of ten, written out; the powers alone if it is longer.

    within: the ratio of its ends up to which the axis is short.
    """
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < within * low else (1,)))
    axis.set_major_formatter(lambda x, _: f"{x:g}")
    axis.set_minor_locator(NullLocator())


def null_band(
    ax: Axes, low: ArrayLike, high: ArrayLike, x: Sequence[float] | None = None, label: str | None = "null"
) -> None:
    """Grey band between `low` and `high`: across the whole panel, or along `x` [n] when low and high are curves [n]."""
    if x is None:
        ax.axhspan(float(low), float(high), color=NULL, alpha=0.22, linewidth=0, zorder=0)
    else:
        ax.fill_between(x, low, high, color=NULL, alpha=0.22, linewidth=0, zorder=0)
    if label:
        top = float(np.asarray(high).ravel()[-1])
        place = {"xy": (1, top), "xytext": (-3, 2), "xycoords": ("axes fraction", "data")}
        _note(ax, label, NULL, ha="right", va="bottom", **place)


def boxed_label(ax: Axes, x: float, y: float, text: str) -> None:
    """Centre `text` on a pale box at the data point (x, y), readable over an image."""
    box = {"facecolor": PAPER, "alpha": 0.8, "edgecolor": "none", "boxstyle": "round,pad=0.25"}
    ax.text(x, y, text, ha="center", va="center", fontsize=8.5, bbox=box)


def colormap(name: str) -> mpl.colors.Colormap:
    """The colour map called `name`, values 0..1 -> RGBA."""
    return mpl.colormaps[name]
