"""Figures of incidental polysemanticity: what a penalty, a start or noise does to decoder overlap, beside its nulls."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from lib.figures import style
from lib.metrics.statistics import mean_interval

REGS = {"L1": style.BLUE, "L2": style.ORANGE}
Effects = Mapping[str, Sequence[float]]
"""Label -> one value per seed."""


def factors(same: Effects, equal: Effects, claimed: Mapping[str, float]) -> Figure:
    """Interference with one level of a factor relative to the other: at the same penalty, and at equal error.

    Args:
        same, equal: relative changes by the same labels, drawn from the top; a label may lack values.
        claimed: label -> the printed change, drawn where the source compares: at the same penalty.
    """
    fig, axes = style.figure(aspect=0.62, cols=2, sharex=True, sharey=True)
    titles = "same penalty", "equal validation error"
    for ax, effects, title in zip(axes, (same, equal), titles, strict=True):
        ax.axvline(0, color=style.NULL, zorder=0)
        for place, values in enumerate(effects.values()):
            mean = mean_interval(values)
            style.dots(ax, values, np.full(len(values), -place))
            ax.plot(mean[1:], [-place - 0.22] * 2, color=style.INK, linewidth=2.2)
            ax.plot(mean.estimate, -place - 0.22, "o", color=style.INK)
        ax.set(title=title, ylim=(-len(effects) + 0.5, 0.5), xlabel="change of interference")
        ax.locator_params(axis="x", nbins=4)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:+.0%}" if abs(x) > 1e-9 else "0")
    for label, change in claimed.items():
        place = list(same).index(label)
        axes[0].plot([change] * 2, [-place - 0.4, -place + 0.25], **style.PUBLISHED)
        style.direct_label(axes[0], change, -place + 0.22, f"printed {change:+.0%}", style.BLACK, "above")
    axes[0].set_yticks([-place for place in range(len(same))], [label.replace(", ", ",\n") for label in same])
    return fig


def fit_and_overlap(cells: pd.DataFrame, paths: pd.DataFrame, null: tuple[float, float]) -> Figure:
    """Interference over validation error: left of all cells at one penalty, right as each penalty grows.

    Args:
        cells: one row per (cell, seed) at the published penalty, columns init, noise, reg, act, val_mse, interference.
        paths: one row per (reg, penalty, seed), the same averaged over all other factors; null: 95 % of random
            directions.
    """
    fig, (left, right) = style.figure(aspect=0.46, cols=2, sharey=True)
    means = cells.groupby(["init", "noise", "act", "reg"])[["val_mse", "interference"]].mean()
    for reg, color in REGS.items():
        own = means.xs(reg, level="reg")
        style.dots(left, *cells[cells.reg == reg][["val_mse", "interference"]].to_numpy().T, color, 0.12, 2.5)
        left.plot(own.val_mse, own.interference, "o", color=color)
        rows = paths[paths.reg == reg]
        style.dots(right, rows.val_mse, rows.interference, color, 0.25, 3)
        mean = rows.groupby("penalty")[["val_mse", "interference"]].mean()
        right.plot(mean.val_mse, mean.interference, "-o", color=color)
        for penalty, row in mean.iterrows():
            side, text = "below" if reg == "L1" else "above", f"{reg} {penalty:.0e}".replace("e-0", "e-")
            label = style.direct_label(right, row.val_mse, row.interference, text, color, side)
            label.set_ha("left" if reg == "L1" else "right")  # clear of both paths, which rise
    style.corner_key(left, 0.98, 0.99, 0.075, {reg: color for reg, color in REGS.items()})
    for ax in (left, right):
        style.null_band(ax, *null, label="random directions" if ax is right else None)
        ax.set(xscale="log", xlabel="validation error (log scale)")
        style.plain_ticks(ax.xaxis, within=30)
    low, high = np.quantile(cells.interference, [0.005, 0.995])
    left.set(ylabel="interference of the decoder", ylim=(0.9 * low, 1.1 * high))
    return fig


def readings_of_nothing(
    null: Mapping[str, np.ndarray], runs: Mapping[str, Sequence[float]], published: pd.DataFrame, permuted: np.ndarray
) -> Figure:
    """What interference and MACS read on random directions, and what the published calibration divides by.

    Args:
        null: interference and macs of random directions, [draws] each.
        runs: label -> interference of single runs, drawn as ticks under the density.
        published: columns macs and calibrated; permuted: MACS of one decoder under column permutations, [draws].
    """
    fig, (left, middle, right) = style.figure(aspect=0.42, cols=3, width_ratios=[1.6, 1, 1])
    top = _density(left, null["interference"])
    for row, values in enumerate(runs.values(), start=1):
        left.plot(values, np.full(len(values), -0.13 * row * top), "|", color=style.BLUE, markersize=7, alpha=0.6)
    left.set_yticks([-0.13 * row * top for row in range(1, len(runs) + 1)], list(runs))
    left.tick_params(left=False)
    left.set(xlabel="interference", xlim=(0, None))
    peak = _density(middle, null["macs"])
    middle.plot([permuted.mean()] * 2, [0, 1.25 * peak], color=style.ORANGE)
    style.direct_label(middle, permuted.mean(), 1.25 * peak, "columns\npermuted", style.ORANGE, "above")
    middle.set(yticks=[], xlabel="MACS", ylim=(0, 1.6 * peak))
    style.dots(right, published.macs, published.calibrated, style.BLUE, 0.5, 4.5)
    right.axhline(0.5, color=style.NULL, zorder=0)
    right.set(xlabel="MACS", ylabel="calibrated MACS", ylim=(-0.02, 1.02))
    return fig


def _density(ax: Axes, values: np.ndarray) -> float:
    """A filled grey density without an axis; returns its height."""
    axis = np.linspace(values.min(), values.max(), 200)
    height = gaussian_kde(values)(axis)
    ax.fill_between(axis, height, color=style.NULL, alpha=0.35, linewidth=0)
    style.direct_label(ax, axis[height.argmax()], height.max(), "random\ndirections", style.NULL, "above")
    ax.spines["left"].set_visible(False)
    return float(height.max())


def published_combinations(
    runs: pd.DataFrame, labels: Mapping[int, str], printed: Mapping[int, tuple[float, float]],
    exact: Mapping[int, float], null: tuple[float, float],
) -> Figure:
    """Each published combination: untied and tied autoencoders, every seed a dot, beside what the source prints.

    Args:
        runs: columns storage (untied, tied), combination, reg, seed, interference.
        labels, printed, exact: combination -> its name, the range printed, its own printed value where there is one.
        null: 95 % of random directions.
    """
    fig, ax = style.figure(aspect=0.55)
    style.null_band(ax, *null, label=None)
    numbers = list(labels)
    for (storage, number), rows in runs.groupby(["storage", "combination"]):
        shift, fill = (-0.17, "full") if storage == "untied" else (0.2, "none")
        at, look = numbers.index(number) + shift, {"fillstyle": fill, "markersize": 3.8, "alpha": 0.75}
        ax.plot(np.full(len(rows), at), rows.interference, "o", color=REGS[rows.reg.iloc[0]], **look)
        ax.hlines(rows.interference.mean(), at - 0.16, at + 0.16, color=style.INK, linewidth=2)
    for place, number in enumerate(numbers):
        edge = {"facecolor": "none", "edgecolor": style.BLACK, "linewidth": 0.9, "linestyle": (0, (4, 2.5))}
        ax.fill_between([place - 0.42, place + 0.42], *printed[number], **edge)
        if number in exact:
            ax.plot(place - 0.17, exact[number], "D", color=style.BLACK, fillstyle="none", markersize=8)
    ax.set_xticks(range(len(labels)), labels.values())
    ax.set(ylabel="interference", ylim=(0, None), xlim=(-0.6, len(labels) - 0.4))
    notes = ("● untied   ○ tied (shared storage)", "dashed: printed ranges   ◇ printed value   grey: random directions")
    for row, text in enumerate(notes):
        ax.text(0.01, 0.1 - 0.07 * row, text, transform=ax.transAxes, fontsize=8.5, color=style.INK)
    return fig


def penalty_strength(
    runs: pd.DataFrame, cells: tuple[float, float], null: Mapping[str, tuple[float, float]],
    dead: Mapping[str, Sequence[float]], before: Sequence[float],
) -> Figure:
    """What the autoencoder's own penalty does to interference and recovery, and the dead latents of each variant.

    Args:
        runs: columns sae_penalty, seed, l0, interference, recovery; null: of the last two, random directions.
        cells: lowest and highest mean interference of the factorial's cells.
        dead: variant -> dead fraction per seed; before: the same before training.
    """
    fig, (left, middle, right) = style.figure(aspect=0.46, cols=3, width_ratios=[1, 1, 1.05])
    mean = runs.groupby("sae_penalty")[["l0", "interference", "recovery"]].mean()
    for ax, column, of in ((left, "interference", ""), (middle, "recovery", " of known features")):
        style.null_band(ax, *null[column], label="random directions" if ax is middle else None)
        style.dots(ax, runs.l0, runs[column])
        ax.plot(mean.l0, mean[column], "-o", color=style.INK, markersize=4)
        ax.set(xlabel="active latents (l0)", ylabel=column + of)
    for penalty, row in mean.iterrows():
        style.direct_label(left, row.l0, row.interference, f" {penalty:g}", style.INK)
    edge = left.get_xlim()[1]
    left.plot([edge] * 2, cells, color=style.ORANGE, linewidth=4, clip_on=False, solid_capstyle="butt")
    style.direct_label(left, edge, cells[1], "all 24 cells", style.ORANGE, "above").set_ha("right")
    for place, values in enumerate([before, *dead.values()]):
        apart, colour = np.linspace(-0.2, 0.2, len(values)), style.BLUE if place else style.NULL
        style.dots(right, values, -place, colour, 0.5, apart=apart, along="y")
        right.plot(np.mean(values), -place, "|", color=style.INK, markersize=14, markeredgewidth=1.8)
    right.set_yticks([-place for place in range(len(dead) + 1)], ["untrained", *dead])
    right.set(xlabel="dead latents (share)", xlim=(-0.03, None))
    return fig


def predictions(
    clipping: pd.DataFrame, widths: pd.DataFrame, null: np.ndarray, coders: pd.DataFrame, boundary: int
) -> Figure:
    """Three predictions: clipping against spread, a boundary in width, fidelity of a learned threshold.

    Args:
        clipping: columns clip (inf for none), seed, sae_mse; coders: columns arm, setting, seed, l0, fvu.
        widths: columns width, seed, interference; null: the same of random directions, [widths, draws].
        boundary: the width proposed.
    """
    fig, (left, middle, right) = style.figure(aspect=0.46, cols=3, width_ratios=[0.8, 1.15, 1.15])
    norms = sorted(clipping["clip"].unique(), reverse=True)
    for place, norm in enumerate(norms):
        rows = clipping[clipping["clip"] == norm]
        style.dots(left, place, rows.sae_mse, style.BLUE, 0.5, 3.2, apart=np.linspace(-0.25, 0.25, len(rows)))
    left.set_xticks(range(len(norms)), ["none" if norm == np.inf else f"{norm:g}" for norm in norms])
    limits = {"yscale": "log", "xlim": (-0.5, len(norms) - 0.5)}
    left.set(xlabel="largest gradient norm", ylabel="autoencoder's error, z-scored input", **limits)
    style.plain_ticks(left.yaxis)
    left.set_ylim(0.9 * clipping.sae_mse.min(), 1.1 * clipping.sae_mse.max())
    axis = np.unique(widths.width)
    low, high = np.quantile(null, [0.025, 0.975], axis=1)
    style.null_band(middle, low, high, axis, label=None)
    style.direct_label(middle, axis[0], low[-1], "random directions", style.NULL).set_va("bottom")
    style.dots(middle, widths.width, widths.interference, size=3)
    middle.plot(axis, widths.groupby("width").interference.mean(), color=style.BLUE)
    middle.axvline(boundary, **style.PUBLISHED)
    middle.set(xlabel="hidden units", ylabel="interference")
    style.direct_label(middle, boundary, middle.get_ylim()[1], "proposed", style.BLACK)
    _fidelity(right, coders)
    return fig


def _fidelity(ax: Axes, coders: pd.DataFrame) -> None:
    colours = dict(zip(coders.arm.unique(), style.LINES, strict=False))
    for arm, rows in coders.groupby("arm", sort=False):
        style.dots(ax, rows.l0, rows.fvu, colours[arm], 0.3, 3)
        mean = rows.groupby("setting")[["l0", "fvu"]].mean().sort_values("l0")
        ax.plot(mean.l0, mean.fvu, "-o", color=colours[arm], markersize=3.5)
    style.corner_key(ax, 0.98, 0.97, 0.075, colours)
    ax.set(yscale="log", xlabel="active latents (l0)", ylabel="unexplained variance (fvu)")


def one_layer(step: np.ndarray, courses: Mapping[str, np.ndarray]) -> Figure:
    """How noise of each law concentrates the features of the one-layer model; law -> concentration [T, I] at steps."""
    fig, ax = style.figure(aspect=0.42)
    colours = dict(zip(courses, (style.NULL, style.BLUE, style.GREEN, style.BLACK, style.ORANGE), strict=False))
    for law, course in courses.items():
        ax.plot(step, course, color=colours[law], alpha=0.12, linewidth=0.6)
        ax.plot(step, course.mean(1), color=colours[law])
        side = "above" if law in ("none", "gaussian") else "below" if law == "laplace" else "left"
        style.direct_label(ax, step[-1], course[-1].mean(), law, colours[law], side).set_ha("right")
    ax.set(xlabel="step", ylabel=r"concentration $\|W_i\|_4^4 / \|W_i\|_2^4$", ylim=(0, None))
    return fig
