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
    limit = max(abs(edge) for ax in axes[:-1] for edge in ax.get_xlim())
    for ax in axes[:-1]:
        ax.set_xlim(-limit, limit)
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


def promise_kept(shares: pd.DataFrame, promised: float, profiles: Mapping[str, int]) -> Figure:
    """How often simulated claims get a false word, and how often a true one, against the number of seeds.

    Args:
        shares: `false_presence`, `false_absence` and `power` by `shape` of the seeds (at most four), `claim` and `n`.
        promised: the share of false words that is promised; grey below.
        profiles: number of seeds by what uses them; marked where power is read.
    """
    fig, axes = style.figure("page", aspect=0.5, cols=3, width_ratios=[1, 1, 1.7])
    shapes, numbers = (shares.index.unique(level) for level in ("shape", "n"))
    colours = dict(zip(shapes, (style.BLACK, style.ORANGE, style.BLUE, style.GREEN), strict=False))
    worst = shares[["false_presence", "false_absence"]].groupby(level=["shape", "n"]).max()
    for ax, column in zip(axes, worst, strict=False):
        for shape, color in colours.items():
            ax.plot(worst[column][shape], ".-", color=color)
        style.null_band(ax, 0, promised, label=None)
        ax.set_ylim(0, 1.25 * worst.to_numpy().max())
    style.corner_key(axes[0], 0.04, 0.98, 0.08, colours)
    _power(axes[2], shares["power"], colours, profiles)
    axes[0].set_ylabel("share of simulated claims")
    axes[1].set_yticklabels([])
    for ax, what in zip(axes, ("falsely there", "falsely absent", "found at twice the margin"), strict=True):
        ax.set_xlabel(f"seeds:\n{what}")
        ax.set_xscale("log")
        ax.set_xticks(numbers, numbers)
        ax.minorticks_off()
    axes[2].set_xlim(left=numbers.min() / 2.3)
    return fig


def _power(ax: Axes, power: pd.Series, colours: Mapping[str, str], profiles: Mapping[str, int]) -> None:
    """The first claim's lines solid, the hardest one's dashed; grey lines at the profiles' numbers of seeds."""
    for claim, line in ((power.index[0][1], "-"), (power.groupby(level="claim").mean().idxmin(), "--")):
        for shape, color in colours.items():
            ax.plot(power.xs((shape, claim), level=("shape", "claim")), line, color=color)
        start = power.xs(claim, level="claim").groupby(level="n").mean()
        style.direct_label(ax, start.index[0], start.iloc[0], claim.replace(" ", "\n", 1), side="left")
    used = {n: ", ".join(name for name, its in profiles.items() if its == n) for n in sorted(set(profiles.values()))}
    for n in used:
        ax.axvline(n, color=style.NULL, linewidth=0.8, zorder=0)
    lines = "\n".join(f"{n} {names}" for n, names in used.items())
    style.direct_label(ax, min(used), 0.2, lines, style.NULL)
    ax.set_ylim(0, 1.02)
