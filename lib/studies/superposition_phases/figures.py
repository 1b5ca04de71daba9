"""Figures of the study: losses over sparsity, and what makes a sweep of one seed peak where it does."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import style
from lib.metrics.statistics import Interval


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
    first = zero_loss.index[0]
    style.direct_label(normalised, first, 1, "zero predictor (null)", style.NULL, "below").set_ha("left")
    for ax in (raw, normalised):
        ax.axvspan(*region, color=style.NULL, alpha=0.22, linewidth=0)
    side, shift = ("right", -4) if first < region[0] - 0.2 else ("left", 4)
    raw.annotate(region_label, (region[0], 0.13), (shift, -4), textcoords="offset points", ha=side, va="top",
                 color=style.NULL, fontsize=8.5)
    return fig


def _label_at(ax: Axes, curve: pd.Series, x: float, text: str, colour: str) -> None:
    at = curve.index[np.abs(curve.index.to_numpy() - x).argmin()]
    below = "well" in text
    height, side = curve[at] + (-0.004 if below else 0.004), "below" if below else "above"
    style.direct_label(ax, at, height, text, colour, side).set_ha("left" if at == curve.index[0] else "center")


def peak_causes(
    shares: Mapping[str, Interval], arms: Mapping[str, pd.DataFrame], sparsity: float, chance: float = 1 / 3
) -> Figure:
    """Left: how often a one-seed sweep has its largest loss at a sparsity. Right: loss over important features missed.

    Args:
        shares: label -> share of sweeps with its interval, beside chance.
        arms: label -> runs at all sparsities (columns sparsity, seed, heldout_loss, n_missed), same labels.
        sparsity: the one counted on the left and shown on the right.
    """
    fig, (left, right) = style.figure(aspect=0.45, cols=2, width_ratios=(1, 1.5))
    for x, ((label, share), colour) in enumerate(zip(shares.items(), style.LINES[1:], strict=False)):
        bar = [[max(0.0, share.estimate - share.low)], [max(0.0, share.high - share.estimate)]]
        left.errorbar(x, share.estimate, bar, fmt="o", color=colour, capsize=3)
        runs = arms[label].query("sparsity == @sparsity")
        jitter = np.linspace(-0.16, 0.16, len(runs)) + (0.1 if x else -0.1)
        style.dots(right, runs.n_missed, runs.heldout_loss, colour, 0.6, 4.5, apart=jitter)
        style.direct_label(right, *_corner(runs, x), label, colour, "right")
    left.axhline(chance, color=style.NULL)
    style.direct_label(left, len(shares) - 0.5, chance, "chance", style.NULL, "above").set_ha("right")
    left.set(xlim=(-0.5, len(shares) - 0.5), ylim=(-0.03, 1), xticks=range(len(shares)), xticklabels=list(shares))
    left.set_ylabel(f"share of one-seed sweeps\nwith their peak at S = {sparsity:g}")
    right.set(xlabel="of the most important features, not learned", ylabel=f"held-out loss at S = {sparsity:g}")
    right.set_xticks(range(int(max(a.n_missed.max() for a in arms.values())) + 1))
    return fig


def _corner(runs: pd.DataFrame, arm: int) -> tuple[float, float]:
    worst = runs.loc[runs.heldout_loss.idxmax()] if arm == 0 else runs.loc[runs.heldout_loss.idxmin()]
    return float(worst.n_missed) + 0.3, float(worst.heldout_loss)
