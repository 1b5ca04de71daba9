"""Figures of causal effects between components: data in, Figure out."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lib.figures import style
from lib.metrics.statistics import Interval
from lib.studies.spd_causal_graphs.graph import Ribbon


def weights_against_effects(
    predicted: Mapping[str, np.ndarray], effects: np.ndarray, shares: Mapping[str, Interval]
) -> Figure:
    """One panel per predictor: every kept edge a dot, blue where the predictor has the effect's sign, else orange.

    Args:
        predicted: step -> value of each edge, [E]; panels have scales of their own.
        effects: exact effect of each edge, [E].
        shares: step -> share of edges whose sign is wrong.
    """
    fig, axes = style.figure(aspect=0.34, cols=len(predicted), sharey=True)
    for ax, (name, values) in zip(axes, predicted.items(), strict=True):
        right = np.sign(values) == np.sign(effects)
        for which, colour in ((right, style.BLUE), (~right, style.ORANGE)):
            ax.plot(values[which], effects[which], "o", color=colour, markersize=3, alpha=0.6, markeredgewidth=0)
        limit = 1.08 * np.abs(values).max() if len(values) else 1.0
        ax.axhline(0, color=style.GRID, linewidth=0.8, zorder=0)
        ax.axvline(0, color=style.GRID, linewidth=0.8, zorder=0)
        ax.set(xlim=(-limit, limit), title=name)
        tick = float(f"{0.6 * limit:.1g}")
        ax.set_xticks([-tick, 0, tick], [f"{-tick:g}", "0", f"{tick:g}"])
        low, high = shares[name].low, shares[name].high
        ax.set_xlabel(f"wrong sign: {shares[name].estimate:.1%}\n[{low:.1%}, {high:.1%}]", color=style.ORANGE)
    axes[0].set_ylabel("exact effect\n(sd of the output)")
    return fig


def how_sparse(
    shares: Mapping[str, Sequence[np.ndarray]], ribbons: Mapping[str, Ribbon], published: tuple[float, float]
) -> Figure:
    """Cumulative share of the effect held by the k strongest inputs, one line per output, over the chance ribbon.

    Args:
        shares: panel -> one [I, J] per network, from `graph.cumulative_share`.
        ribbons: panel -> what random effects give, for the first network's number of inputs.
        published: the numbers of inputs the source says hold 80 %.
    """
    fig, axes = style.figure(aspect=0.46, cols=len(shares), sharey=True, squeeze=False)
    for ax, (title, parts) in zip(axes[0], shares.items(), strict=True):
        ribbon = ribbons[title]
        k = np.arange(1, len(ribbon.mean) + 1)
        style.null_band(ax, ribbon.low, ribbon.high, k, label=None)
        ax.plot(k, ribbon.mean, color=style.NULL, linewidth=1)
        for held in parts:
            ax.plot(np.arange(1, len(held) + 1), held, color=style.BLUE, linewidth=0.7, alpha=0.45)
        ax.axhline(0.8, color=style.INK, linewidth=0.7)
        for edge in published:
            ax.axvline(edge, **style.PUBLISHED)
        ax.set(title=title, xlim=(1, max(len(h) for h in parts)), ylim=(0, 1.02), xlabel="strongest inputs kept")
    last = axes[0, -1]
    style.direct_label(last, published[1], 0.12, "published: 5 to 9", style.BLACK)
    axes[0, 0].set_ylabel("share of the output's effect")
    place = 0.55 * len(next(iter(ribbons.values())).mean)
    style.direct_label(axes[0, 0], place, 0.45, "each line:\none output", style.BLUE)
    style.direct_label(axes[0, 0], place, 0.22, "grey: random\neffects", style.NULL)
    return fig


def effect_matrix(
    panels: Mapping[str, np.ndarray], keep: np.ndarray, inputs: Sequence[str], outputs: Sequence[str]
) -> Figure:
    """What foretells effects, the effects, and those of the 80 % rule; inputs as columns, outputs as rows.

    Args:
        panels: title -> [I, J], the effects last; each in a scale of its own, whose end its title tells.
        keep: bool, [I, J], of the effects; inputs, outputs: names.
    """
    *_, effects = panels.values()
    shown = {f"{title} (largest {np.abs(own).max():.2g})": own for title, own in panels.items()}
    shown["80 % rule, in the scale above"] = np.where(keep, effects, 0)
    fig, axes = style.figure(aspect=0.06 + 0.3 * len(shown), rows=len(shown), sharex=True)
    for ax, (title, values) in zip(axes, shown.items(), strict=True):
        scale = np.abs(effects if title.startswith("80 %") else values).max() or 1
        image = ax.imshow(values.T / scale, cmap=style.DIVERGING, vmin=-1, vmax=1, aspect="auto")
        ax.set(title=title, ylabel="output")
        ax.set_yticks(range(len(outputs)), outputs, fontsize=6.5)
    axes[-1].set_xticks(range(len(inputs)), inputs, fontsize=6.5, rotation=90)
    axes[-1].set_xlabel("input component")
    fig.colorbar(image, ax=list(axes), label="share of the panel's largest", pad=0.01, shrink=0.4, ticks=(-1, 0, 1))
    return fig


def step_curves(curves: np.ndarray, null: np.ndarray, ceiling: float) -> Figure:
    """Nested cross-validated R2 over the number of predictors, one line per output, and with all of them at the end.

    Args:
        curves: [outputs, most + 1], the last column with all predictors; null: [draws, most + 1], permuted targets.
        ceiling: the height the source prints.
    """
    fig, ax = style.figure(aspect=0.45)
    most = curves.shape[1] - 1
    k = [*range(1, most + 1), most + 2]
    style.null_band(ax, *np.quantile(null[:, :most], [0.025, 0.975], axis=0), k[:most], label=None)
    for row in curves:
        ax.plot(k[:most], row[:most], color=style.BLUE, linewidth=0.7, alpha=0.5)
        ax.plot(k[most], row[most], "o", color=style.BLUE, alpha=0.5, markersize=3.5, markeredgewidth=0)
    middle = np.median(curves, axis=0)
    ax.plot(k[:most], middle[:most], color=style.BLACK)
    ax.plot(k[most], middle[most], "o", color=style.BLACK)
    ax.axhline(ceiling, **style.PUBLISHED)
    style.direct_label(ax, k[most - 1], ceiling - 0.07, f"published ceiling {ceiling:g}", style.BLACK, "left")
    style.direct_label(ax, k[most - 1], ceiling - 0.16, "thick: median output", style.BLACK, "left")
    style.direct_label(ax, most * 0.6, 0.03, "permuted targets", style.NULL, "above")
    ax.set_xticks(k, [*map(str, k[:most]), "all"])
    ax.set(ylim=(-0.15, 1.02), xlabel="predictors chosen", ylabel="held-out R²")
    return fig
