"""Figures of the topographic loss: what its operator reads, what it hides, how it pulls and what it does alone."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lib.figures import style


def rank_of_the_operator(reads: Mapping[str, np.ndarray], ranks: Sequence[int]) -> Figure:
    """A sheet per layer, a cell per unit, blue where the operator reads the unit; ranks and sizes written above.

    Args:
        reads: label -> weight with which each unit is read by any anchor, [h, w]; 0 for a unit that is not.
        ranks: of the operator, one per sheet.
    """
    cols = len(reads) if len(reads) < 5 else 3  # a line of five would be too small to read
    rows = -(-len(reads) // cols)
    fig, axes = style.figure(aspect=0.235 if rows == 1 else 0.3 * rows, rows=rows, cols=cols, squeeze=False)
    for ax, (label, read), rank in zip(axes.flat, reads.items(), ranks, strict=False):
        h, w = read.shape
        paint = LinearSegmentedColormap.from_list("read", [style.GRID, style.BLUE])
        ax.pcolormesh(read > 0, cmap=paint, vmin=0, vmax=1, edgecolors=style.PAPER, linewidth=min(1.0, 14 / w))
        ax.set(aspect="equal", xticks=[], yticks=[], ylim=(h, 0), xlim=(0, w))
        ax.spines[:].set_visible(False)
        ax.set(title=f"{label}\nrank {rank} of {read.size}", xlabel=f"{h} x {w} units")
    for ax in axes.flat[len(reads) :]:
        ax.remove()
    return fig


def sampled_not_blurred(sheets: Mapping[str, np.ndarray], is_read: np.ndarray) -> Figure:
    """Sheets side by side on one signed colour scale, with a ring on each unit that the operator reads.

    Args:
        sheets: label -> values, [h, w]; drawn in rows of two, a sheet and what the operator makes of it.
        is_read: bool [h, w].
    """
    fig, axes = style.figure(aspect=0.62, rows=len(sheets) // 2, cols=2, squeeze=False)
    limits = style.symmetric_limits(list(sheets.values()))
    rows, cols = np.nonzero(is_read)
    for ax, (label, sheet) in zip(axes.flat, sheets.items(), strict=True):
        image = ax.imshow(sheet, cmap=style.DIVERGING, **limits)
        ax.plot(cols, rows, "o", color=style.BLACK, markersize=5.5, markerfacecolor="none", markeredgewidth=1)
        ax.set_title(label)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    fig.colorbar(image, ax=axes, shrink=0.7, label="weight from one input")
    return fig


def pull_and_length(rms: np.ndarray, norms: np.ndarray) -> Figure:
    """Length of the loss's gradient over the rms weight, beside the growth the source assumed.

    Args:
        rms: root mean square weight, [n_scales]; norms: length of the gradient, [n_matrices, n_scales].
    """
    fig, ax = style.figure("page", aspect=0.45)
    middle = len(rms) // 2
    at = float(np.exp(np.log(norms[:, middle]).mean()))
    ax.loglog(rms, at * (rms / rms[middle]) ** -1, color=style.NULL, linewidth=5, alpha=0.35)
    ax.loglog(rms, norms.T, "o", color=style.BLUE, alpha=0.7)
    grows = slice(middle - 1, middle + 2)
    ax.loglog(rms[grows], at * (rms[grows] / rms[middle]) ** 2, **style.PUBLISHED)
    style.direct_label(ax, 1.2 * rms[2], 1.2 * norms[0, 2], "measured, and 1 / rms", style.BLUE)
    style.direct_label(ax, rms[middle + 1], at * (rms[middle + 1] / rms[middle]) ** 2, "published: rms²", style.BLACK)
    ax.set(xlabel="rms weight", ylabel="length of the gradient")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())
    return fig


def alone(
    steps: np.ndarray, ranks: Mapping[str, np.ndarray], floor: int,
    distance: np.ndarray, likeness: Mapping[str, np.ndarray],
) -> Figure:
    """What minimising the loss by itself does: effective rank over steps, and likeness of units over their distance.

    Args:
        steps: [n_steps]; ranks: label -> effective rank, [n_steps], at most two; floor: rank of the operator.
        distance: on the sheet, [n_bins]; likeness: label -> mean correlation of two units' weights, [n_bins].
    """
    fig, (left, right) = style.figure("page", aspect=0.46, cols=2)
    colours = dict(zip(ranks, (style.BLUE, style.ORANGE), strict=False))
    left.axhline(floor, color=style.NULL)
    for (label, rank), look in zip(ranks.items(), ({"linewidth": 4, "alpha": 0.45}, {"linestyle": ":"}), strict=False):
        left.semilogy(steps, rank, color=colours[label], **look)
    style.direct_label(left, 0, floor, f"rank of the operator, {floor}", style.NULL, "below").set_ha("left")
    left.set(xlabel="step", ylabel="effective rank of the weights", ylim=(3, 500))
    left.set_yticks([5, 10, 50, 100, 300], ["5", "10", "50", "100", "300"])
    left.yaxis.set_minor_formatter(NullFormatter())
    for label, curve in likeness.items():
        colour = colours.get(label, style.NULL)
        right.plot(distance, curve, color=colour)
        at = len(distance) // 2 if 0.1 < curve.max() < 0.8 else 2  # where no other curve passes
        style.direct_label(right, distance[at], curve[at], label, colour, "above").set_ha("left")
    right.set(xlabel="distance on the sheet", ylabel="likeness of two units", ylim=(-0.08, 1.08), xlim=(0, None))
    return fig
