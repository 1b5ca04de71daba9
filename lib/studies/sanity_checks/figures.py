"""Figures of the study: data in, Figure out."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from lib.figures import style

NAMES = {"topk": "TopK", "batch_topk": "BatchTopK", "jumprelu": "JumpReLU"}
"""Rules in words."""
COLOURS = dict(zip(NAMES.values(), style.LINES, strict=False))


def recovered(
    table: pd.DataFrame, cells: Sequence[tuple[str, str]], printed: Mapping[tuple[str, str], float]
) -> Figure:
    """Share of features recovered, a column of dots per rule and data, and its mean as a bar.

    Args:
        table: columns rule, data, recovery. cells: rule and data in order. printed: what the source prints
            of some.
    """
    fig, ax = style.figure(aspect=0.5)
    for place, (rule, data) in enumerate(cells):
        values, colour = table[(table.rule == rule) & (table.data == data)].recovery, COLOURS[NAMES[rule]]
        style.dots(ax, place, values, colour, 0.6, 6, apart=np.linspace(-0.15, 0.15, len(values)))
        ax.plot([place - 0.28, place + 0.28], [values.mean()] * 2, color=colour)
        if (rule, data) in printed:
            ax.plot([place - 0.4, place + 0.4], [printed[rule, data]] * 2, **style.PUBLISHED)
    for first in [place for place, cell in enumerate(cells) if cell in printed][:1]:
        style.direct_label(ax, first + 0.4, printed[cells[first]], "printed", style.BLACK, "right")
    labels = [f"{NAMES[rule]}\n" + data.replace(", random ", ",\nrandom\n") for rule, data in cells]
    ax.set(xticks=range(len(cells)), xticklabels=labels, ylim=(-0.03, 1.05), xlim=(-0.6, len(cells) - 0.4),
           ylabel="share of features recovered")
    return fig


def curve(table: pd.DataFrame, x: str, label: str, log: bool = False) -> Figure:
    """Share of features recovered along a column, every seed a dot, a line through the means, one colour per rule.

    Args:
        table: columns x, rule, recovery.
    """
    fig, ax = style.figure(aspect=0.42)
    for rule, rows in table.groupby("rule", sort=False):
        colour, mean = COLOURS[NAMES[rule]], rows.groupby(x).recovery.mean()
        style.dots(ax, rows[x], rows.recovery, colour, 0.5, 5)
        ax.plot(mean.index, mean, color=colour)
        style.direct_label(ax, mean.index[-1], mean.iloc[-1], NAMES[rule], colour, "above")
    if log:
        ax.set_xscale("log")
        style.plain_ticks(ax.xaxis)
    ax.set_xticks(sorted(table[x].unique()), [f"{value:g}" for value in sorted(table[x].unique())])
    ax.set(xlabel=label, ylabel="share of features recovered", ylim=(-0.03, 1.12))
    ax.margins(x=0.1)
    return fig


def active_over_length(counts: pd.DataFrame, active: int) -> Figure:
    """Active latents over a sample's length, a panel per coder, bins' means as a line, K dashed.

    Args:
        counts: columns coder, length, active.
    """
    names = list(dict.fromkeys(counts.coder))
    fig, axes = style.figure("page", 0.62, rows=2, cols=2, sharex=True, sharey=True)
    for ax, name in zip(axes.flat, names, strict=True):
        rows = counts[counts.coder == name].head(1500)
        style.dots(ax, rows.length, rows.active, style.BLUE, 0.15, 3)
        bins = rows.groupby(pd.qcut(rows.length, 8, duplicates="drop")).agg({"length": "mean", "active": "mean"})
        ax.plot(bins.length, bins.active, color=style.ORANGE)
        ax.axhline(active, color=style.NULL, linewidth=1)
        ax.set_title(name)
    for ax in axes[-1]:
        ax.set_xlabel("length |x| over its mean")
    for ax in axes[:, 0]:
        ax.set_ylabel("active latents")
    style.direct_label(axes[0, 0], axes[0, 0].get_xlim()[1], active, "K", style.NULL, "left").set_va("bottom")
    return fig


def supports(f1: np.ndarray, methods: Sequence[str], active: Sequence[int], edge: float, here: int) -> Figure:
    """F1 of the supports that methods find with the true directions, over K; the edge of L1 and the study's own K.

    Args:
        f1: [seeds, methods, len(active)].
    """
    fig, ax = style.figure(aspect=0.45)
    for number, colour in enumerate(style.LINES[: len(methods)]):
        ax.plot(np.repeat([active], len(f1), 0).T, f1[:, number].T, color=colour, linewidth=0.6, alpha=0.4)
        ax.plot(active, f1[:, number].mean(0), color=colour)
    style.corner_key(ax, 0.03, 0.36, 0.09, dict(zip(methods, style.LINES, strict=False)))
    for x, text in ((edge, "edge of L1"), (here, "K here")):
        ax.axvline(x, color=style.NULL, linewidth=1, linestyle=":" if x == here else "-")
        style.direct_label(ax, x, 0.03, text, style.NULL, "left" if x == min(edge, here) else "right")
    ax.set(xlabel="K, active features of a sample", ylabel="F1 of the support", ylim=(0, 1.03))
    return fig


def explorer(cosines: Mapping[float, np.ndarray], close: float) -> go.Figure:
    """How near the nearest living latent is to each feature, a step of the slider per dose a of x/|x|^a.

    Args:
        cosines: dose -> cosine of every feature, any shape. close: from where a feature counts as recovered.
    """
    edges, fig, steps = np.linspace(0, 1, 41), go.Figure(), []
    for number, (dose, values) in enumerate(cosines.items()):
        share = np.histogram(np.clip(values, 0, 1), edges)[0] / np.size(values)
        fig.add_bar(x=(edges[1:] + edges[:-1]) / 2, y=share, visible=number == 0, name=f"a = {dose:g}", width=0.024,
                    marker_color=style.BLUE)
        title = f"a = {dose:g}: {(values >= close).mean():.0%} of the features recovered"
        shown = {"visible": [number == other for other in range(len(cosines))]}
        steps.append({"label": f"{dose:g}", "method": "update", "args": [shown, {"title.text": title}]})
    fig.add_vline(close, line_color=style.NULL, line_dash="dot")
    fig.update_layout(
        sliders=[{"steps": steps, "currentvalue": {"prefix": "a of x/|x|^a: "}}], height=380, bargap=0,
        showlegend=False, title_text=steps[0]["args"][1]["title.text"], plot_bgcolor=style.PAPER,
        margin={"l": 10, "r": 10, "t": 50, "b": 10},
        xaxis_title="cosine of a feature with its nearest living latent", yaxis_title="share of features",
        meta={"alt": "Histogram of each feature's largest cosine with a living latent; a slider changes the dose a."})
    return fig
