"""Figure of outcomes over arms, as strips of seeds."""
from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import style
from lib.metrics.statistics import mean_interval
from lib.studies.topoloss_hypotheses.figures import Arms, arm_colours


def dose_response(
    values: pd.DataFrame, arms: Arms, controls: Collection = (), nulls: Mapping[str, float] | None = None, cols: int = 3
) -> Figure:
    """Every outcome over the arms, a panel each: a dot per seed, a bar at their mean with its interval.

    Args:
        values: columns outcome, arm, seed, value; panels in the order outcomes appear, cols in a row.
        nulls: outcome -> what it reads on nothing, a grey line.
    """
    names = list(dict.fromkeys(values.outcome))
    rows = -(-len(names) // cols)
    fig, axes = style.figure(aspect=0.16 + 0.28 * rows, rows=rows, cols=cols, squeeze=False, sharex=True)
    for ax, name in zip(axes.flat, names, strict=False):
        _strip(ax, values[values.outcome == name], arms, controls)
        if nulls and name in nulls:
            ax.axhline(nulls[name], color=style.NULL, linewidth=1, zorder=0)
        ax.set_title(name, fontsize=8.5)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, len(names) - cols) : len(names)]:  # the lowest panel of each column
        ax.tick_params(labelbottom=True)
        ax.set_xticks(range(len(arms)), list(arms.values()), rotation=50, ha="right", rotation_mode="anchor")
    return fig


def _strip(ax: Axes, own: pd.DataFrame, arms: Arms, controls: Collection) -> None:
    colours = arm_colours(arms, controls)
    for x, arm in enumerate(arms):
        every = own.value[own.arm == arm]
        y, interval = every.dropna(), mean_interval(every)
        if not len(y):
            continue
        style.dots(ax, x, y, colours[arm], 0.6, 3, np.linspace(-0.14, 0.14, len(y)))
        ax.hlines(y.mean(), x - 0.26, x + 0.26, color=colours[arm], linewidth=2)
        if np.isfinite(interval.low):  # every seed has a value
            ax.vlines(x, interval.low, interval.high, color=colours[arm], linewidth=1)
    ax.set_xticks(range(len(arms)), list(arms.values()))
    ax.set_xlim(-0.5, len(arms) - 0.5)
