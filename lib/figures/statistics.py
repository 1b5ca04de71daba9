"""Figures about intervals: what repeated experiments report, and how often they hold the truth."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import style

_WAYS = (style.BLACK, style.BLUE, style.GREEN)  # orange is kept for what misses the truth


def interval_coverage(
    intervals: Mapping[str, np.ndarray], truth: float, coverage: pd.DataFrame, level: float
) -> Figure:
    """Intervals of repeated experiments, one panel per way to make them, beside their coverage by number of seeds.

    Args:
        intervals: by way, [n_experiments, 3] of (estimate, low, high); those that miss the truth are orange.
        truth: the value all experiments estimate.
        coverage: share of intervals that hold the truth; one row per number of seeds (two or more),
            one column for each of the three ways.
        level: the coverage the intervals claim.
    """
    fig, axes = style.figure("page", aspect=0.46, cols=len(intervals) + 1, width_ratios=[1] * len(intervals) + [1.8])
    for ax, (way, values) in zip(axes[:-1], intervals.items(), strict=True):
        _repeated(ax, values, truth)
        ax.set_xlabel(f"estimate:\n{way}")
    _align(axes[:-1])
    axes[0].set_ylabel("experiment")
    _coverage(axes[-1], coverage, level)
    return fig


def _repeated(ax: Axes, values: np.ndarray, truth: float) -> None:
    """One horizontal line per experiment, its estimate a dot."""
    rows = np.arange(len(values))
    missed = (values[:, 1] > truth) | (values[:, 2] < truth)
    for wrong, color in ((False, style.BLACK), (True, style.ORANGE)):
        here = missed == wrong
        ax.hlines(rows[here], *values[here, 1:].T, color=color, linewidth=1)
        ax.plot(values[here, 0], rows[here], ".", color=color, markersize=3)
    ax.axvline(truth, color=style.NULL, linewidth=1, zorder=0)
    ax.set_yticks([])


def _align(axes: np.ndarray) -> None:
    """The widest panel's limits for all, symmetric about 0."""
    limit = max(abs(edge) for ax in axes for edge in ax.get_xlim())
    for ax in axes:
        ax.set_xlim(-limit, limit)


def _coverage(ax: Axes, coverage: pd.DataFrame, level: float) -> None:
    for way, color, drop in zip(coverage, _WAYS, (0.02, 0.02, 0), strict=True):  # labels where the lines leave room
        ax.plot(coverage.index, coverage[way], ".-", color=color)
        style.direct_label(ax, coverage.index[1], coverage[way].iloc[1] - drop, way, color, side="below")
    ax.axhline(level, color=style.NULL, linewidth=1, zorder=0)
    ax.set_xscale("log")
    ax.set_xticks(coverage.index, coverage.index)
    ax.minorticks_off()
    ax.set_ylim(0, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, level])
    ax.set_xlabel("seeds per experiment")
    ax.set_ylabel("share that hold the truth")
