"""Figures of latents: where their directions lie, when they are born, how often they fire."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from lib.figures import style
from lib.tensors import matrix


def concept_map(decoder: ArrayLike, rates: ArrayLike, rng: np.random.Generator, method: str = "pca") -> Figure:
    """Directions of latents in a plane, larger the more often they fire, and as many random directions beside them.

    Args:
        decoder: [n_latents, d], of living latents; rates: of firing, [n_latents].
        method: "pca": two principal components; "umap": neighbours by cosine, whose distances mean little (the package
            umap-learn must be installed).
    """
    W, rates = normalize(matrix(decoder, "decoder")), np.asarray(rates)
    sets = {"latents": W, "as many random directions": normalize(rng.normal(size=W.shape))}
    seed = int(rng.integers(2**31))
    fig, axes = style.figure("page", 0.5, cols=2)
    told = []
    for ax, (name, rows) in zip(axes, sets.items(), strict=True):
        places, said = _plane(rows, method, seed)
        own = name == "latents"
        sizes = 4 + 60 * np.sqrt(rates / rates.max()) if own else 12
        ax.scatter(*places.T, s=sizes, c=style.BLUE if own else style.NULL, alpha=0.55, linewidths=0)
        ax.set(title=name, xticks=(), yticks=(), xlabel=said[0], ylabel=said[1])
        told.append(pd.DataFrame(places, columns=["x", "y"]).assign(panel=name, rate=rates if own else np.nan))
    fig.numbers = pd.concat(told)
    return fig


def _plane(rows: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """Places [n, 2] and names of the axes."""
    if method == "pca":
        pca = PCA(2, svd_solver="full")
        places = pca.fit_transform(rows)
        first, second = pca.explained_variance_ratio_
        return places, (f"component 1 ({first:.1%} of the variance)", f"component 2 ({second:.1%})")
    if method != "umap":
        raise ValueError(f'method must be "pca" or "umap", got {method!r}')
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError('umap-learn is not installed; pip install umap-learn, or take method="pca"') from error
    return UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(rows), ("UMAP 1", "UMAP 2")


def emergence(births: ArrayLike, deaths: ArrayLike, steps: Sequence[int]) -> Figure:
    """Each latent a line from its birth to the end or to its death, sorted by birth; grey where it was never born.

    Args:
        births, deaths: steps, nan for never, [n_latents]; steps: of the checkpoints.
    """
    born, died = np.asarray(births, float), np.asarray(deaths, float)
    order = np.lexsort((np.nan_to_num(died, nan=np.inf), np.nan_to_num(born, nan=np.inf)))
    place = np.arange(len(order))
    start, end = np.nan_to_num(born[order], nan=steps[0]), np.nan_to_num(died[order], nan=steps[-1])
    fig, (ax, side) = style.figure("page", 0.5, cols=2, width_ratios=(3, 2))
    never = np.isnan(born[order])
    for own, colour, label in ((~never, style.BLUE, "born"), (never, style.NULL, "never born")):
        ax.hlines(place[own], start[own], end[own], colors=colour, linewidth=0.6, label=label)
    dead = ~np.isnan(died[order])
    ax.plot(end[dead], place[dead], "x", color=style.ORANGE, markersize=3.5)
    ax.set(xlabel="training step", ylabel="latents, sorted by birth", yticks=(), ylim=(len(order), -1))
    share = [(born <= step).mean() for step in steps], [(died <= step).mean() for step in steps]
    for values, colour in zip(share, (style.BLUE, style.ORANGE), strict=True):
        side.plot(steps, values, color=colour)
    style.corner_key(side, 0.05, 0.98, 0.08, {"born": style.BLUE, "dead": style.ORANGE})
    side.set(xlabel="training step", ylabel="share of latents", ylim=(-0.02, 1.18))
    return fig


def rate_histograms(rates: Mapping[str, ArrayLike]) -> Figure:
    """How often latents fire, a panel for each rule on one logarithmic axis; those that never do are counted in words.

    Args:
        rates: rule -> firing rates of its latents, [n_latents].
    """
    found = {name: np.asarray(own, float).ravel() for name, own in rates.items()}
    least = min(own[own > 0].min() for own in found.values() if (own > 0).any())
    edges = np.geomspace(least * 0.999, 1, 33)
    fig, axes = style.figure("page", 0.12 + 0.13 * len(found), rows=len(found), sharex=True, squeeze=False)
    for ax, (name, own) in zip(axes[:, 0], found.items(), strict=True):
        ax.hist(own[own > 0], edges, weights=np.full((own > 0).sum(), 1 / len(own)), color=style.BLUE)
        ax.set(xscale="log", xlim=(least / 40, 1.5))  # room for the words
        never = (own == 0).mean()
        style.corner_key(ax, 0.01, 0.95, 0.2, {name: style.INK, f"{never:.0%} never": style.NULL})
        ax.axvline(np.median(own[own > 0]) if (own > 0).any() else np.nan, color=style.ORANGE, linewidth=1)
    axes[-1, 0].set(xlabel="share of tokens on which a latent fires (line: the median of those that do)")
    fig.supylabel("share of latents", fontsize=9.5)
    return fig
