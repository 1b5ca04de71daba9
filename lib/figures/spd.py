"""Figures of decompositions: components beside the weights they should be, importances, V and U, use by class."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import style


def recovered_columns(
    W: np.ndarray, V: np.ndarray, U: np.ndarray, scores: Mapping[str, np.ndarray], null: np.ndarray, works: np.ndarray
) -> Figure:
    """Left: in two hidden dimensions, a weight's columns and the parts of its matched components. Right: every seed.

    Args:
        W: [2, n_features]; V: [n_features, C] and U: [C, 2], matched components first, component i for feature i.
        scores: label -> one number per seed, on [0, 1], [S] each; null: what random components read, [draws].
        works: which seeds are right at every site, bool [S].
    """
    fig, (plane, seeds) = style.figure(aspect=0.45, cols=2, width_ratios=(1, 1.25))
    for i, column in enumerate(W.T):
        plane.plot([0, column[0]], [0, column[1]], color=style.NULL, alpha=0.4, linewidth=6, solid_capstyle="round")
        part = V[i, i] * U[i]
        plane.plot([0, part[0]], [0, part[1]], "-o", color=style.BLUE, markevery=[1])
        plane.annotate(f"$W_{i + 1}$", 1.22 * column, ha="center", va="center")
    limit = 1.4 * float(np.abs(W).max())
    plane.set(aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    plane.set(xlabel="hidden unit 1", ylabel="hidden unit 2")
    for x, values in enumerate(scores.values()):
        spread = np.linspace(-0.22, 0.22, len(values))
        for right, colour in ((True, style.BLUE), (False, style.ORANGE)):
            style.dots(seeds, x, values[works == right], colour, 1, 4.5, spread[works == right], mew=1)
    style.null_band(seeds, *np.quantile(null, (0.025, 0.975)), label="random components")
    seeds.set(xlim=(-0.5, len(scores) - 0.5), ylim=(0, 1.12), xticks=range(len(scores)), xticklabels=list(scores))
    seeds.set_ylabel("cosine of whole components\nwith the weight's columns")
    key = {"● every feature has its own": style.BLUE, "● some share one": style.ORANGE}
    style.corner_key(seeds, 0.03, 0.2, 0.085, key)
    return fig


def permuted_importances(maps: Mapping[str, np.ndarray], aspect: float = 0.4, rows: int = 1) -> Figure:
    """One panel per site: causal importance of each component when one feature is on, components in matched order.

    Args:
        maps: title -> importance on one-hot inputs, [n_features, shown components], matched components first.
        rows: rows of panels.
    """
    fig, axes = style.figure(aspect=aspect, rows=rows, cols=-(-len(maps) // rows), squeeze=False)
    for ax, (title, importance) in zip(axes.flat, maps.items(), strict=True):
        image = ax.imshow(importance, vmin=0, vmax=1, cmap=style.SEQUENTIAL, aspect="auto")
        ax.set(title=title, xlabel="component (matched order)", ylabel="feature that is on")
        _first_and_last(ax, *importance.T.shape)
    fig.colorbar(image, ax=axes, label="causal importance", ticks=(0, 0.5, 1), shrink=0.8)
    return fig


def _first_and_last(ax: Axes, columns: int, rows: int) -> None:
    """Ticks at both ends of a matrix, counted from 1."""
    ax.set(xticks=[0, columns - 1], xticklabels=[1, columns], yticks=[0, rows - 1], yticklabels=[1, rows])


def by_class(used: Mapping[str, np.ndarray], classes: Sequence[str], bar: str) -> Figure:
    """One panel per method: how much each of its parts is used on each class, the parts in the order of their classes.

    Args:
        used: name of the parts -> [classes, parts], in [0, 1].
        bar: what a colour means.
    """
    fig, axes = style.figure(aspect=0.3 * len(used) + 0.02, rows=len(used), squeeze=False)
    for ax, (name, shares) in zip(axes[:, 0], used.items(), strict=True):
        order = np.lexsort((-shares.max(0), shares.argmax(0)))  # by class, and the most used first
        image = ax.imshow(shares[:, order], vmin=0, vmax=1, cmap=style.SEQUENTIAL, aspect="auto")
        ax.set(xticks=[], xlabel=f"{shares.shape[1]} {name}", yticks=range(len(classes)), yticklabels=classes)
    fig.colorbar(image, ax=axes, label=bar, ticks=(0, 0.5, 1), shrink=0.8)
    return fig


def uv(sites: Mapping[str, tuple[np.ndarray, np.ndarray]], order: Mapping[str, np.ndarray], shown: int) -> Figure:
    """Per site, what its components read (V) and write (U), with the free sign and length fixed by `balanced`.

    Args:
        sites: name -> V [d_in, C] and U [C, d_out]; order: name -> components, matched first; shown: how many to draw.
    """
    fig, axes = style.figure(aspect=0.62, rows=len(sites), cols=2, squeeze=False)
    for row, (name, (V, U)) in zip(axes, sites.items(), strict=True):
        first = order[name][:shown]
        reads, writes = balanced(V[:, first], U[first])
        limits = style.symmetric_limits(np.concatenate([reads.ravel(), writes.ravel()]))
        for ax, values, what in zip(row, (reads, writes.T), ("reads (V)", "writes (U)"), strict=True):
            image = ax.imshow(values, cmap=style.DIVERGING, aspect="auto", **limits)
            ax.set(title=f"{name} {what}", xlabel="component (matched order)")
            _first_and_last(ax, shown, len(values))
        fig.colorbar(image, ax=row)
        row[0].set_ylabel("input")
        row[1].set_ylabel("output")
    return fig


def balanced(V: np.ndarray, U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same components u_c v_cᵀ with |u_c| = |v_c|, and their largest entry, in u or v, positive.

    Nothing in a decomposition tells (v, u) from (-v, -u), or from (2 v, u / 2).

    Args:
        V: [d_in, C]; U: [C, d_out].
    """
    reads, writes = np.linalg.norm(V, axis=0), np.linalg.norm(U, axis=1)  # [C]
    shared = np.sqrt(np.where((reads > 0) & (writes > 0), reads * writes, 1))
    V, U = V * (writes / shared), U.T * (reads / shared)
    both = np.concatenate([V, U])  # [d_in + d_out, C]
    sign = np.where(np.take_along_axis(both, np.abs(both).argmax(0)[None], 0)[0] < 0, -1.0, 1.0)
    return V * sign, (U * sign).T
