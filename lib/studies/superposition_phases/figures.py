"""Figures of toy models: losses over sparsity, features in hidden space, phases, the staircase of dimensions."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv, to_rgb
from matplotlib.figure import Figure

from lib.figures import style
from lib.metrics.statistics import Interval

POLYTOPES = {"own dimension": 1, "tetrahedron": 3 / 4, "triangle": 2 / 3, "antipodal pair": 1 / 2, "pentagon": 2 / 5,
             "square antiprism": 3 / 8, "not stored": 0}
"""Feature dimensionality of each regular arrangement."""


def loss_curves(
    arms: Mapping[str, pd.DataFrame], zero_loss: pd.Series, region: tuple[float, float], region_label: str
) -> Figure:
    """Loss over sparsity, raw above and divided by the zero predictor's below; every seed a thin line, means thick.

    Args:
        arms: label -> runs with columns sparsity, seed, heldout_loss, zero_loss; at most three.
        zero_loss: the null, loss of predicting 0, indexed by sparsity.
        region: sparsities shaded grey, named `region_label`.
    """
    fig, (raw, normalised) = style.figure(aspect=0.78, rows=2, sharex=True, height_ratios=(1, 1))
    for (label, runs), colour in zip(arms.items(), style.LINES[1:], strict=False):
        ratio = runs.assign(heldout_loss=runs.heldout_loss / runs.zero_loss)
        for ax, table in ((raw, runs), (normalised, ratio)):
            curves = table.pivot(index="sparsity", columns="seed", values="heldout_loss")
            ax.plot(curves.index, curves, color=colour, linewidth=0.5, alpha=0.35)
            ax.plot(curves.index, curves.mean(axis=1), color=colour, linewidth=2.2)
        _label_at(raw, runs.groupby("sparsity").heldout_loss.mean(), 0.3, label, colour)
    raw.plot(zero_loss.index, zero_loss, color=style.NULL)
    raw.set(ylim=(0, 0.13), ylabel="held-out loss")
    normalised.set(ylim=(0, 1.05), ylabel="loss / zero predictor's", xlabel="sparsity S = P(feature = 0)")
    normalised.axhline(1, color=style.NULL)
    style.direct_label(normalised, 0.1, 1, "zero predictor (null)", style.NULL, "below").set_ha("left")
    for ax in (raw, normalised):
        ax.axvspan(*region, color=style.NULL, alpha=0.22, linewidth=0)
    raw.annotate(region_label, (region[0], 0.13), (-4, -4), textcoords="offset points", ha="right", va="top",
                 color=style.NULL, fontsize=8.5)
    return fig


def _label_at(ax: Axes, curve: pd.Series, x: float, text: str, colour: str) -> None:
    at = curve.index[np.abs(curve.index.to_numpy() - x).argmin()]
    below = "well" in text
    style.direct_label(ax, at, curve[at] + (-0.004 if below else 0.004), text, colour, "below" if below else "above")


def peak_causes(shares: Mapping[str, Interval], arms: Mapping[str, pd.DataFrame], sparsity: float) -> Figure:
    """Left: how often a one-seed sweep has its largest loss in the middle. Right: loss over important features missed.

    Args:
        shares: label -> share of sweeps with its interval; chance is 1/3.
        arms: label -> runs at all sparsities (columns sparsity, seed, heldout_loss, n_missed), same labels.
        sparsity: the one shown on the right.
    """
    fig, (left, right) = style.figure(aspect=0.45, cols=2, width_ratios=(1, 1.5))
    for x, ((label, share), colour) in enumerate(zip(shares.items(), style.LINES[1:], strict=False)):
        bar = [[max(0.0, share.estimate - share.low)], [max(0.0, share.high - share.estimate)]]
        left.errorbar(x, share.estimate, bar, fmt="o", color=colour, capsize=3)
        runs = arms[label].query("sparsity == @sparsity")
        jitter = np.linspace(-0.16, 0.16, len(runs)) + (0.1 if x else -0.1)
        style.dots(right, runs.n_missed + jitter, runs.heldout_loss, colour, 0.6, 4.5)
        style.direct_label(right, *_corner(runs, x), label, colour, "right")
    left.axhline(1 / 3, color=style.NULL)
    style.direct_label(left, len(shares) - 0.5, 1 / 3, "chance", style.NULL, "above").set_ha("right")
    left.set(xlim=(-0.5, len(shares) - 0.5), ylim=(-0.03, 1), xticks=range(len(shares)), xticklabels=list(shares))
    left.set_ylabel(f"share of one-seed sweeps\nwith their peak at S = {sparsity:g}")
    right.set(xlabel="of the 5 most important features, not learned", ylabel=f"held-out loss at S = {sparsity:g}")
    right.set_xticks(range(int(max(a.n_missed.max() for a in arms.values())) + 1))
    return fig


def _corner(runs: pd.DataFrame, arm: int) -> tuple[float, float]:
    worst = runs.loc[runs.heldout_loss.idxmax()] if arm == 0 else runs.loc[runs.heldout_loss.idxmin()]
    return float(worst.n_missed) + 0.3, float(worst.heldout_loss)


def zoo(sparsity: np.ndarray, W: np.ndarray, interference: np.ndarray, kinds: Sequence[str]) -> Figure:
    """Per kind and sparsity: |W_i| as bars coloured by interference, and WᵀW below; same limits everywhere.

    Args:
        sparsity: [S]; W: [kinds, S, n_hidden, n_features]; interference: [kinds, S, n_features].
    """
    rows, heights = 2 * len(kinds), (0.8, 1) * len(kinds)
    fig, axes = style.figure(aspect=0.78, rows=rows, cols=len(sparsity), height_ratios=heights)
    colours, signed = style.colormap(style.SEQUENTIAL), {"cmap": style.DIVERGING, "vmin": -1, "vmax": 1}
    for kind, s in np.ndindex(W.shape[:2]):
        weights, bars, square = W[kind, s], axes[2 * kind, s], axes[2 * kind + 1, s]
        norms = np.linalg.norm(weights, axis=0)
        bars.bar(range(len(norms)), norms, width=1, color=colours(np.clip(interference[kind, s], 0, 1)))
        bars.set(ylim=(0, 1.45), xticks=[], yticks=[0, 1] if s == 0 else [])
        image = square.imshow(weights.T @ weights, **signed)
        square.set(xticks=[], yticks=[])
        if kind == 0:
            bars.set_title(f"S = {sparsity[s]:g}")
        if s == 0:
            bars.set_ylabel(f"{kinds[kind]}\n$|W_i|$")
            square.set_ylabel("$W^TW$")
    bars = style.scalar_mappable(style.SEQUENTIAL, 0, 1)
    fig.colorbar(bars, ax=list(axes[:2].flat), label="interference (bars)", ticks=[0, 1], pad=0.01)
    fig.colorbar(image, ax=list(axes[2:].flat), label="$W_i · W_j$ (squares)", ticks=[-1, 0, 1], pad=0.01)
    return fig


def planes(sparsity: np.ndarray, W: np.ndarray) -> Figure:
    """Features as arrows in a two-dimensional hidden space, one panel per sparsity, same limits.

    Args:
        sparsity: [S]; W: [S, 2, n_features].
    """
    fig, axes = style.figure(aspect=0.21, cols=len(sparsity), sharey=True)
    circle = np.linspace(0, 2 * np.pi, 200)
    for ax, s, weights in zip(np.atleast_1d(axes), sparsity, W, strict=True):
        ax.plot(np.cos(circle), np.sin(circle), color=style.GRID, linewidth=0.8)
        shades = style.colormap(style.SEQUENTIAL)(np.linspace(0, 0.85, weights.shape[1]))
        for (x, y), shade in zip(weights.T, shades, strict=True):
            ax.plot([0, x], [0, y], color=shade, linewidth=1.6)
            ax.plot(x, y, "o", color=shade)
        ax.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal", xticks=[], yticks=[])
        ax.set_title(f"S = {s:g}")
        for spine in ax.spines.values():
            spine.set_visible(False)
    return fig


def phase_diagrams(diagrams: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], phases: Sequence[str]) -> Figure:
    """Measured phase (colour) with the share of restarts that found it (depth of colour), theory's borders drawn over.

    Args:
        diagrams: each with density [G], importance [G], phase, theory, agreeing [G (density), G (importance)].
        names: title of each; phases: name of each phase index.
    """
    fig, axes = style.figure(aspect=0.52, cols=len(diagrams), sharey=True, squeeze=False)
    axes = axes[0]
    hues = np.array([rgb_to_hsv(to_rgb(colour)) for colour in (style.NULL, style.BLUE, style.ORANGE)])
    for ax, diagram, name in zip(axes, diagrams, names, strict=True):
        picture = hues[diagram["phase"]].copy()  # [density, importance, 3]
        share = 0.25 + 0.75 * diagram["agreeing"]
        picture[..., 1] *= share
        picture[..., 2] = 1 - (1 - picture[..., 2]) * share
        x, y = np.log10(diagram["density"]), np.log10(diagram["importance"])
        half_x, half_y = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
        extent = (x[0] - half_x, x[-1] + half_x, y[0] - half_y, y[-1] + half_y)
        ax.imshow(hsv_to_rgb(picture).transpose(1, 0, 2), origin="lower", extent=extent, aspect="auto")
        for phase in range(len(phases)):
            ax.contour(x, y, (diagram["theory"] == phase).T.astype(float), [0.5], colors=style.BLACK, linewidths=1)
            cells = np.argwhere(diagram["phase"] == phase)
            if len(cells) > 12:
                i, j = np.median(cells, axis=0).astype(int)
                style.boxed_label(ax, min(x[i], -0.3), y[j], phases[phase])
        ax.set(xticks=[-2, -1, 0], xticklabels=["0.01", "0.1", "1"], yticks=[-1, 0, 1], yticklabels=["0.1", "1", "10"])
        ax.set_xlabel("density p = 1 - S")
        ax.set_title(name)
    axes[0].set_ylabel("importance of the extra feature")
    return fig


def staircase(stairs: Mapping[str, np.ndarray], attacks: Mapping[str, np.ndarray]) -> Figure:
    """Dimensions per feature, dimensionality of every feature, and vulnerability to attack, over 1/(1-S).

    Args:
        stairs: inverse_density [A], dstar [A, R], D [A, R, n].
        attacks: label -> vulnerability [A, R]; at most two.
    """
    fig, (top, middle, bottom) = style.figure(aspect=1.05, rows=3, sharex=True, height_ratios=(1, 1.5, 1.2))
    x, D = stairs["inverse_density"], stairs["D"]
    top.plot(x, stairs["dstar"], "o", color=style.BLUE, markersize=3.5)
    top.plot(x, stairs["dstar"].mean(1), color=style.BLUE)
    for level in (1, 0.5):
        top.axhline(level, color=style.NULL, linewidth=0.8)
    top.set(ylabel="dimensions per\nfeature D*", ylim=(0, 1.1), xscale="log", yticks=[0, 0.5, 1])
    jitter = np.exp(np.linspace(-0.035, 0.035, D[0].size))
    for name, level in POLYTOPES.items():
        middle.axhline(level, color=style.NULL, linewidth=0.8)
        middle.text(x[-1] * 1.15, level, name, color=style.NULL, fontsize=8.5, ha="right", va=_side(name))
    for a, features in zip(x, D.reshape(len(x), -1), strict=True):
        middle.plot(a * jitter, np.sort(features), ".", color=style.BLUE, markersize=2, alpha=0.7)
    middle.set(ylabel="dimensionality $D_i$\nof each feature", ylim=(-0.04, 1.1), yticks=[0, 0.25, 0.5, 0.75, 1])
    curves = {**attacks, "features per dimension, 1/D*": 1 / stairs["dstar"]}
    for place, ((label, values), colour) in enumerate(zip(curves.items(), _CURVES, strict=False)):
        bottom.plot(x, values, "o", color=colour, markersize=3)
        bottom.plot(x, values.mean(1), color=colour)
        bottom.text(0.02, 0.96 - 0.13 * place, label, color=colour, fontsize=8.5, transform=bottom.transAxes, va="top")
    bottom.set(ylabel="relative to the\ndensest models", xlabel="1 / (1 - S), log scale", ylim=(0, None))
    bottom.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    bottom.minorticks_off()
    return fig


_CURVES = (style.ORANGE, style.GREEN, style.BLUE)


def _side(name: str) -> str:
    return "top" if name in ("triangle", "square antiprism") else "bottom"


def geometry_choices(
    varied: Mapping[str, np.ndarray], pairs: Mapping[str, np.ndarray], history: Mapping[str, np.ndarray]
) -> Figure:
    """Three panels: two minima whose losses cross, pairs' cosine against loss, D_i and loss while training.

    Args:
        varied: factor [F], loss [F, 2] from (pentagon, pairs), n_represented [F, 2].
        pairs: kind [3], loss and cosine_within [3, seeds].
        history: step [T], loss [T], D [T, n_features] of one model.
    """
    fig, (left, middle, right) = style.figure(aspect=0.46, cols=3, width_ratios=(1, 1, 1.1))
    _two_minima(left, varied)
    _pair_cosines(middle, pairs)
    right.plot(history["step"], history["D"], color=style.BLUE, linewidth=1.2)
    right.plot(history["step"], history["loss"], color=style.ORANGE)
    style.direct_label(right, history["step"][-1], history["loss"][-1], "loss", style.ORANGE, "below").set_ha("right")
    style.direct_label(right, history["step"][-1], history["D"][-1].max(), "$D_i$", style.BLUE, "above").set_ha("right")
    right.set(xlabel="training step, log scale", ylabel="loss and $D_i$", xscale="log", ylim=(0, 1.05))
    return fig


def _two_minima(ax: Axes, varied: Mapping[str, np.ndarray]) -> None:
    for start, (label, colour, stored) in enumerate((("pentagon", style.BLUE, 5), ("two pairs", style.ORANGE, 4))):
        inside = varied["n_represented"][:, start] == stored
        x, y = varied["factor"][inside], varied["loss"][inside, start]
        ax.plot(x, y, "o-", color=colour)
        style.direct_label(ax, x[-1], y[-1], label, colour, "above")
    ax.set(xscale="log", xlabel="density of one feature,\ntimes the others'", ylabel="loss / zero predictor's")
    ax.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    ax.minorticks_off()


def _pair_cosines(ax: Axes, pairs: Mapping[str, np.ndarray]) -> None:
    for place, (kind, colour) in enumerate(zip(pairs["kind"], style.LINES[1:], strict=False)):
        loss, cosine = pairs["loss"][place], pairs["cosine_within"][place]
        style.dots(ax, loss, cosine, colour, 0.5, 4.5)
        best = loss.argmin()
        ax.plot(loss[best], cosine[best], "o", color=colour, markersize=9, fillstyle="none")
        ax.text(0.97, 0.55 - 0.09 * place, kind, color=colour, fontsize=8.5, transform=ax.transAxes, ha="right")
    ax.set(xlabel="loss / zero predictor's", ylabel="cosine within a pair", ylim=(-1.15, 0.3), yticks=[-1, -0.5, 0])
    ax.set_xlim(-0.01, 1.2 * float(np.quantile(pairs["loss"], 0.85)))


def basis_and_circuits(
    sparsity: np.ndarray, unit_share: Mapping[str, np.ndarray], null: tuple[np.ndarray, np.ndarray],
    served: Mapping[str, np.ndarray], unit: Mapping[str, np.ndarray],
) -> Figure:
    """Three panels: alignment with the units, features a unit serves, one asymmetric unit's weights.

    Args:
        sparsity: [S]; unit_share: label -> [S]; null: low and high [S] over random rotations.
        served: sparsity label -> features served by each unit.
        unit: "in" and "out" weights of one unit for the features it serves, "feature" their indices.
    """
    fig, (left, middle, right) = style.figure(aspect=0.46, cols=3, width_ratios=(1.15, 0.9, 0.95))
    at = np.arange(len(sparsity))
    style.null_band(left, *null, x=at, label=None)
    left.text(at[-1], null[0][-1] - 0.02, "random rotations", color=style.NULL, fontsize=8.5, ha="right", va="top")
    for (label, values), colour in zip(unit_share.items(), style.LINES[1:], strict=False):
        left.plot(at, values, "o-", color=colour)
        style.direct_label(left, at[values.argmax()], values.max(), label, colour, "above")
    left.set(xticks=at, xticklabels=[f"{s:g}" for s in sparsity], ylim=(0, 1.12), xlabel="sparsity S")
    left.set_ylabel("largest unit's share of $|W_i|^2$")
    for x, values in enumerate(served.values()):
        middle.plot(x + np.linspace(-0.25, 0.25, len(values)), np.sort(values), "o", color=style.BLUE, markersize=3)
    middle.set(xticks=range(len(served)), xticklabels=list(served), ylim=(-0.3, None))
    middle.set(xlabel="sparsity S", ylabel="features one unit serves")
    x = np.arange(len(unit["feature"]))
    right.bar(x - 0.2, unit["in"], 0.38, color=style.BLUE)
    right.bar(x + 0.2, unit["out"], 0.38, color=style.ORANGE)
    right.axhline(0, color=style.INK, linewidth=0.8)
    right.set(xticks=x, xticklabels=unit["feature"], xlabel="feature", ylabel="weight of one unit")
    right.set_ylim(top=1.25 * max(*unit["in"], *unit["out"]))
    style.corner_key(right, 0.03, 0.99, 0.08, {"in, $W_1$": style.BLUE, "out, $W_2$": style.ORANGE})
    return fig
