"""Figures of outcomes over arms: strips of seeds, and scores with their floor."""
from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import style
from lib.metrics.statistics import Interval
from lib.studies.topoloss_hypotheses.figures import Arms, arm_colours


def dose_response(
    values: pd.DataFrame, arms: Arms, controls: Collection = (),
    intervals: Mapping[tuple[str, object], Interval] | None = None, nulls: Mapping[str, float] | None = None,
    cols: int = 3,
) -> Figure:
    """Every outcome over the arms, a panel each: a dot per seed, a bar at their mean, its interval where given.

    Args:
        values: columns outcome, arm, seed, value; panels in the order outcomes appear.
        intervals: (outcome, arm) -> interval of the mean.
        nulls: outcome -> what it reads on nothing, a grey line.
        cols: panels in a row.
    """
    names = list(dict.fromkeys(values.outcome))
    rows = -(-len(names) // cols)
    fig, axes = style.figure(aspect=0.16 + 0.28 * rows, rows=rows, cols=cols, squeeze=False, sharex=True)
    for ax, name in zip(axes.flat, names, strict=False):
        own = values[values.outcome == name].dropna(subset="value")
        _strip(ax, own, arms, controls, {a: i for (o, a), i in (intervals or {}).items() if o == name})
        if nulls and name in nulls:
            ax.axhline(nulls[name], color=style.NULL, linewidth=1, zorder=0)
        ax.set_title(name, fontsize=8.5)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, len(names) - cols) : len(names)]:  # the lowest panel of each column
        ax.tick_params(labelbottom=True)
        ax.set_xticks(range(len(arms)), list(arms.values()), rotation=50, ha="right", rotation_mode="anchor")
    return fig


def _strip(ax: Axes, own: pd.DataFrame, arms: Arms, controls: Collection, intervals: Mapping) -> None:
    colours = arm_colours(arms, controls)
    for x, arm in enumerate(arms):
        y = own.value[own.arm == arm]
        if not len(y):
            continue
        ax.plot(x + np.linspace(-0.14, 0.14, len(y)), y, "o", color=colours[arm], markersize=3, alpha=0.6,
                markeredgewidth=0)
        ax.hlines(y.mean(), x - 0.26, x + 0.26, color=colours[arm], linewidth=2)
        if arm in intervals:
            ax.vlines(x, intervals[arm].low, intervals[arm].high, color=colours[arm], linewidth=1)
    ax.set_xticks(range(len(arms)), list(arms.values()))
    ax.set_xlim(-0.5, len(arms) - 0.5)


def floored_scores(scores: Mapping[str, np.ndarray], null: np.ndarray, floor: float, label: str) -> Figure:
    """Share of units below each score, with what a floor hides shaded and the permuted labels' curve in grey.

    Args:
        scores: label -> score of every unit of all seeds, [n]; at most four, the baseline first.
        null: the same with labels permuted, [n]; nan left out throughout.
        floor: no score below it is reported where the floor is used.
        label: name of the score.
    """
    fig, ax = style.figure(aspect=0.5)
    colours = arm_colours({name: name for name in scores})
    curves = {name: (values, colours[name]) for name, values in scores.items()}
    curves["labels permuted"] = (null, style.NULL)
    for place, (name, (values, colour)) in enumerate(curves.items()):
        ordered = np.sort(np.asarray(values)[~np.isnan(values)])
        ax.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", color=colour, linewidth=2)
        ax.text(0.99, 0.06 + 0.08 * (len(curves) - 1 - place), name, color=colour, fontsize=8.5, ha="right",
                transform=ax.transAxes)
    ax.axvspan(0, floor, color=style.NULL, alpha=0.16, linewidth=0, zorder=0)
    ax.annotate(f"under the\npublished\nfloor of {floor:g}", (0, 1), (4, -2), textcoords="offset points", va="top",
                color=style.NULL, fontsize=8.5)
    ax.set(xlim=(0, None), ylim=(0, 1.02), xlabel=label, ylabel="share of units at or below")
    return fig
