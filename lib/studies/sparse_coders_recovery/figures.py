"""Figures of sparse coders against known features: frontiers, alignments, matchings, differences."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lib.figures import style
from lib.metrics.statistics import Interval

COLOURS = (style.BLUE, style.ORANGE, style.GREEN)
ACTIVATIONS = {"relu": "ReLU", "shifted": "ReLU,\nshifted", "topk 5": "TopK,\nk = 5"}


def frontiers(
    runs: pd.DataFrame, worlds: pd.DataFrame, titles: Mapping[str, str], names: Sequence[str], value: str, label: str
) -> Figure:
    """One panel per arm, two in a row: `value` over active latents, a line per seed, a colour per world, nulls bands.

    Args:
        runs: columns world, arm, seed, l0, fvu and `value`; coders with fvu at most 0.05 are filled dots.
        worlds: columns world, seed, true_l0 and null_`value`; l0 is drawn in units of true_l0.
        titles: arm -> title of its panel, in the order of the panels.
        names: worlds to show, at most three.
        label: of the vertical axis.
    """
    rows = (len(titles) + 1) // 2
    fig, axes = style.figure(aspect=0.32 * rows + 0.1, rows=rows, cols=2, sharex=True, sharey=True, squeeze=False)
    true = worlds.set_index(["world", "seed"]).true_l0
    for ax, (arm, title) in zip(axes.flat, titles.items(), strict=False):
        for world, colour in zip(names, COLOURS, strict=False):
            null = worlds.loc[worlds.world == world, f"null_{value}"]
            ax.axhspan(null.min(), null.max(), color=colour, alpha=0.25, linewidth=1.5, zorder=0)
            own = runs[(runs.world == world) & (runs.arm == arm)]
            for seed, sweep in own.groupby("seed"):
                line = sweep.sort_values("l0")
                look = {"color": colour, "markersize": 3.2, "markeredgewidth": 0.8}
                x, good = line.l0 / true[world, seed], line.fvu <= 0.05
                ax.plot(x, line[value], "o-", linewidth=0.9, markerfacecolor=style.PAPER, **look)
                ax.plot(x[good], line[value][good], "o", **look)
        ax.axvline(1, color=style.GRID, linewidth=0.9, zorder=0)
        ax.set_title(title, pad=3)
    _frontier_axes(axes, [x for ax in axes.flat for x in _reach(ax)])
    lines = {f"●— {name}": colour for name, colour in zip(names, COLOURS, strict=False)}
    style.corner_key(axes.flat[0], 0.03, 0.97, 0.1, lines | {"bands: random dictionary": style.NULL})
    fig.supylabel(label, fontsize=9.5)
    fig.supxlabel("active latents per sample / active features per sample", fontsize=9.5)
    return fig


def _reach(ax: Axes) -> list[float]:
    return [float(x) for line in ax.lines if line.get_marker() == "o" for x in line.get_xdata() if x > 0]


def _frontier_axes(axes: np.ndarray, reach: Sequence[float]) -> None:
    ax = axes.flat[0]
    ax.set(xscale="log", xlim=(0.8 * max(0.1, min(reach, default=0.5)), 1.25 * max(reach, default=2.0)))
    ax.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4, 8]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.set_ylim(-0.04, 1.05)


def alignment(rows: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Four scores of coders over the toy models' sparsity: a colour per number of latents, random ones dotted.

    Solid, with a dot per seed: as many features as latents. Dashed: a feature for every dimension.

    Args:
        rows: of `lib.studies.sparse_coders_recovery.alignment.alignment`.
        measures: column -> title, at most four.
    """
    fig, axes = style.figure(aspect=0.74, rows=2, cols=2, sharex=True, sharey=True)
    colours = dict(zip(sorted(rows.n_latents.unique()), COLOURS, strict=False))
    ticks = sorted(rows.sparsity.unique())
    for ax, (column, title) in zip(axes.flat, measures.items(), strict=False):
        for latents, colour in colours.items():
            same = rows[rows.n_latents == latents]
            own, single = same[same.n_features > same.n_hidden], same[same.n_features <= same.n_hidden]
            means = own.groupby("sparsity")[[column, f"null_{column}"]].mean()
            style.dots(ax, own.sparsity.map(ticks.index), own[column], colour, size=3)
            ax.plot(range(len(means)), means[column], "-", color=colour)
            ax.plot(range(len(ticks)), single.groupby("sparsity")[column].mean(), "--", color=colour, linewidth=1.1)
            ax.plot(range(len(means)), means[f"null_{column}"], ":", color=colour, linewidth=0.9)
        ax.set(title=title, ylim=(-0.03, 1.05))
        ax.set_xticks(range(len(ticks)), [f"{s:g}" for s in ticks])
    key = {f"{latents} features, {latents} latents": colour for latents, colour in colours.items()}
    key |= {"dashed: a feature per dimension": style.INK, "dotted: random dictionary": style.NULL}
    style.corner_key(axes.flat[0], 0.03, 0.46, 0.09, key)
    fig.supxlabel("sparsity S of the toy model", fontsize=9.5)
    return fig


def matched_scores(table: pd.DataFrame, null: Mapping[str, Sequence[float]], label: str) -> Figure:
    """Arms from best to worst in each world: every seed a dot, the mean a bar where no seed is missing, the null grey.

    Args:
        table: index (world, arm, seed), one column; nan where the arm has no coder to show.
        null: world -> lowest and highest seed of the null.
        label: of the horizontal axis.
    """
    names = list(dict.fromkeys(table.index.get_level_values("world")))
    fig, axes = style.figure(aspect=0.5, cols=len(names), squeeze=False)
    for ax, world, colour in zip(axes[0], names, COLOURS, strict=False):
        values = table.loc[world].iloc[:, 0].unstack("seed")
        values = values.loc[values.mean(axis=1, skipna=False).sort_values(na_position="first").index]
        ax.axvspan(*null[world], color=style.NULL, alpha=0.3, linewidth=1.5, zorder=0)
        for place, row in enumerate(values.to_numpy()):
            ax.plot(row, np.full(len(row), place), "o", color=colour, alpha=0.55, markeredgewidth=0)
            ax.plot(row.mean(), place, "|", color=style.INK, markersize=13)
            if not np.isfinite(row).any():
                ax.text(0.02, place, "no such coder", color=style.NULL, fontsize=8, va="center")
        ax.set(yticks=range(len(values)), yticklabels=values.index, xlim=(-0.04, 1.05), title=world, xlabel=label)
        ax.grid(axis="y")
    return fig


def matchings(cosines: Mapping[str, np.ndarray]) -> Figure:
    """Signed cosines of features (rows) with latents (columns), matched latents on the diagonal first.

    Args:
        cosines: label -> [n_features, n_latents], columns already in matched order.
    """
    fig, axes = style.figure(aspect=0.3, cols=len(cosines), sharey=True, squeeze=False)
    for ax, (label, values) in zip(axes[0], cosines.items(), strict=True):
        image = ax.imshow(values, cmap=style.DIVERGING, vmin=-1, vmax=1, aspect="equal")
        ax.set(title=label, xlabel="latent")
        ax.set_xticks([0, values.shape[1] - 1], ["1", str(values.shape[1])])
        ax.set_yticks([0, len(values) - 1], ["1", str(len(values))])
    axes[0, 0].set_ylabel("feature")
    fig.colorbar(image, ax=list(axes[0]), label="signed cosine", ticks=[-1, 0, 1], pad=0.01, shrink=0.6)
    return fig


def published_arms(runs: pd.DataFrame, printed: Mapping[str, tuple[float, float]], n_latents: int) -> Figure:
    """Left: inactive share before and after the published training. Middle: its loss. Right: TopK's share over k.

    Args:
        runs: columns activation, seed, loss, inactive, inactive_before.
        printed: activation -> loss and inactive share the source prints.
        n_latents: of the coders.
    """
    fig, (left, middle, right) = style.figure(aspect=0.44, cols=3)
    for place, (name, (loss, share)) in enumerate(printed.items()):
        own = runs[runs.activation == name]
        for before, after in zip(own.inactive_before, own.inactive, strict=True):
            left.plot([place - 0.2, place + 0.2], [before, after], "-", color=style.BLUE, linewidth=0.9)
        left.plot(np.full(len(own), place - 0.2), own.inactive_before, "o", color=style.BLUE, fillstyle="none")
        left.plot(np.full(len(own), place + 0.2), own.inactive, "o", color=style.BLUE)
        left.hlines(share, place - 0.35, place + 0.35, **style.PUBLISHED)
        middle.plot(np.full(len(own), place), own.loss, "o", color=style.BLUE)
        middle.hlines(loss, place - 0.35, place + 0.35, **style.PUBLISHED)
    for ax in (left, middle):
        ax.set_xticks(range(len(printed)), [ACTIVATIONS.get(name, name) for name in printed])
        ax.set_xlim(-0.6, len(printed) - 0.4)
    left.set(ylim=(0, 1.04), ylabel="share of inactive latents")
    style.direct_label(left, -0.55, 0.12, "○ untrained  ● trained", style.BLUE).set_ha("left")
    style.direct_label(left, -0.55, 0.04, "- - published", style.BLACK).set_ha("left")
    middle.axhline(1, color=style.NULL, zorder=0)
    middle.set(ylabel="held-out loss", ylim=(0, None))
    style.direct_label(middle, -0.55, 0.97, "mean predictor", style.NULL, "below").set_ha("left")
    _share_over_k(right, runs, n_latents)
    return fig


def _share_over_k(ax: Axes, runs: pd.DataFrame, n_latents: int) -> None:
    topk = runs[runs.activation.str.startswith("topk")]
    k = topk.activation.str.removeprefix("topk ").astype(int)
    axis = np.geomspace(1.5, 90, 50)
    ax.plot(axis, 1 - axis / n_latents, color=style.NULL)
    ax.plot(k, topk.inactive, "o", color=style.BLUE)
    ax.set(xscale="log", xlabel="k", ylabel="inactive share of TopK")
    ax.set_xticks([2, 5, 16, 64], ["2", "5", "16", "64"])
    ax.minorticks_off()
    style.direct_label(ax, 14, 1 - 14 / n_latents, f"1 - k/{n_latents}", style.NULL, "left").set_va("top")


def paired_differences(groups: Mapping[str, Mapping[str, tuple[Sequence[float], Interval]]]) -> Figure:
    """Paired differences, one panel per claim: every seed a dot, the interval of the mean a bar, 0 in grey.

    Args:
        groups: claim -> label -> differences per seed (nan left out) and their interval.
    """
    heights = [len(rows) for rows in groups.values()]
    total = 0.052 * sum(heights) + 0.085 * len(groups)
    fig, axes = style.figure(aspect=total, rows=len(groups), height_ratios=heights, squeeze=False)
    for ax, (claim, rows) in zip(axes[:, 0], groups.items(), strict=True):
        for place, (values, interval) in enumerate(rows.values()):
            ax.plot(values, np.full(len(values), -place), "o", color=style.BLUE, alpha=0.5, markeredgewidth=0)
            ax.plot(interval[1:], [-place - 0.22] * 2, color=style.INK, linewidth=1.6)
            ax.plot(interval.estimate, -place - 0.22, "|", color=style.INK, markersize=8)
        ax.axvline(0, color=style.NULL)
        ax.set_yticks([-place for place in range(len(rows))], list(rows))
        ax.set(ylim=(-len(rows) + 0.4, 0.5), title=claim)
    fig.supxlabel("difference (variant - control)", fontsize=9.5)
    return fig
