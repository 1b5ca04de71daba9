"""Figures of tables of coders: data in, Figure out."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lib.figures import style

NAMES = {"topk": "TopK", "relu": "ReLU", "jumprelu": "JumpReLU", "batch_topk": "BatchTopK", "gated": "Gated",
         "prolu": "ProLU", "matryoshka": "Matryoshka", "abs_topk": "AbsTopK"}
"""Rules in words."""


def by_arm(
    tables: Sequence[pd.DataFrame], measures: Mapping[str, str], greys: Sequence[str] = (),
    nulls: Mapping[str, float] | None = None,
) -> Figure:
    """A panel per measure, a column of dots per arm, its mean as a bar; arms named in `greys` and nulls in grey.

    Args:
        tables: indexed by arm, one row per seed, with the measures as columns; arms stand in their order.
        measures: column -> what its axis says. nulls: of a measure, what it reads on nothing.
    """
    fig, axes = style.figure("page", 0.5, cols=len(measures), squeeze=False, sharey=True)
    rows = pd.concat(tables)
    arms = list(dict.fromkeys(rows.index))
    for ax, (measure, says) in zip(axes[0], measures.items(), strict=True):
        for place, arm in enumerate(reversed(arms)):
            values = rows.loc[[arm], measure].dropna()
            colour = style.NULL if arm in greys else style.BLUE
            style.dots(ax, values, place, colour, 0.6, 5, np.linspace(-0.18, 0.18, len(values)), "y")
            if len(values):
                ax.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=colour)
        if nulls and measure in nulls:
            ax.axvline(nulls[measure], color=style.NULL, linewidth=1, linestyle=":")
        ax.set(xlabel=says, yticks=range(len(arms)), yticklabels=list(reversed(arms)))
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=4)
    return fig


def against_rate(tables: Mapping[str, pd.DataFrame], values: str, says: str) -> Figure:
    """A latent's value over its firing rate, a panel per arm, every latent of the first seed a dot.

    Args:
        tables: by title, rows of `judged`, with `rates` and the column `values` one array per row.
    """
    fig, axes = style.figure("page", 0.42, cols=len(tables), sharex=True, sharey=True, squeeze=False)
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        rates, each = np.asarray(table.rates.iloc[0]), np.asarray(table[values].iloc[0])
        known = (rates > 0) & ~np.isnan(each)
        style.dots(ax, rates[known], each[known], style.BLUE, 0.35, 4)
        ax.set(title=title, xlabel="firing rate", xscale="log")
    axes[0, 0].set_ylabel(says)
    return fig


def births(found: Mapping[str, np.ndarray]) -> Figure:
    """Firing rate (left) and share of variance (right) in the end over the step of birth; means of each step a line."""
    fig, axes = style.figure("page", 0.42, cols=2)
    born, jitter = np.asarray(found["births"]), np.random.default_rng(0)
    for ax, name, says in zip(axes, ("rates", "shares"), ("firing rate", "share of variance"), strict=True):
        values = np.asarray(found[name])
        known = ~np.isnan(born) & (values > 0)
        apart = born[known] * (np.exp(jitter.normal(0, 0.06, known.sum())) - 1)
        style.dots(ax, born[known], values[known], style.BLUE, 0.3, 4, apart)
        middle = pd.Series(values[known]).groupby(born[known]).median()
        ax.plot(middle.index, middle, color=style.ORANGE)
        scale = "log" if (born[known] > 0).any() else "linear"  # all at the first moment, step 0
        ax.set(xscale=scale, yscale="log", xlabel="step of birth", ylabel=says)
        ax.set_xticks(middle.index, [f"{step:g}" for step in middle.index], minor=False)
        ax.xaxis.set_minor_locator(NullLocator())
    return fig

