"""Figures of the study: components over combinations, how many are atoms, counts that mimic, predictions."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.figures import style
from lib.studies.shapes_and_colours.common import TASKS
from lib.studies.shapes_and_colours.net import BEHIND

COLOURS = dict(zip(TASKS, style.LINES[1:], strict=True))


def cell_matrices(panels: Mapping[str, np.ndarray], groups: Sequence[str]) -> Figure:
    """Mean importance of each component (row) on every combination (column), one panel per kind of components.

    Args:
        panels: title -> means [n_cells, C], components in the order to draw, five at most; groups: names of equally
            many neighbouring combinations, written under the columns.
    """
    fig, axes = style.figure(aspect=0.8, rows=2, cols=3, height_ratios=(1, 1))
    drawn = [ax for i, ax in enumerate(axes.flat) if i != 2]
    for ax in (axes.flat[2], *drawn[len(panels):]):
        ax.set_axis_off()
    for ax, (title, means) in zip(drawn, panels.items(), strict=False):
        n = len(means)
        image = ax.imshow(means.T, vmin=0, vmax=1, cmap=style.SEQUENTIAL, aspect="auto")
        for edge in range(1, len(groups)):
            ax.axvline(edge * n / len(groups) - 0.5, color=style.PAPER, linewidth=0.9)
        ax.set(title=title, yticks=[])
        ax.set_xticks([(i + 0.5) * n / len(groups) - 0.5 for i in range(len(groups))], groups)
        ax.tick_params(length=0)
    for ax in (axes[0, 0], axes[1, 0]):
        ax.set_ylabel("components")
    note = "each row: a component\neach column: a combination;\nshape, then colour, then size"
    axes.flat[2].text(0, 0.98, note, va="top", fontsize=8.5, transform=axes.flat[2].transAxes)
    inner = axes.flat[2].inset_axes((0, 0.3, 0.9, 0.08))
    fig.colorbar(image, cax=inner, orientation="horizontal", label="mean causal importance", ticks=(0, 0.5, 1))
    return fig


def atomic_shares(table: pd.DataFrame, floor: float) -> Figure:
    """Share of atomic components by layer and kind of network: a dot per network, grey what random directions read.

    Args:
        table: `tables.per_network`; floor: from which "nine atoms" would be a fair name.
    """
    fig, axes = style.figure(aspect=0.48, cols=2, sharey=True)
    for ax, site in zip(axes, BEHIND, strict=True):
        for x, task in enumerate(TASKS):
            own = _of(table, task, site)
            apart = np.linspace(-0.14, 0.14, len(own)) * (len(own) > 1)
            style.dots(ax, x, own.null_atomic, style.NULL, 1, 9, apart, marker="_", mew=1, label="random directions")
            style.dots(ax, x, own.atomic, COLOURS[task], 0.75, 6, apart, label="components")
        ax.axhspan(floor, 1, color=style.BLUE, alpha=0.1, linewidth=0)
        ax.set(title=site, xlim=(-0.5, 2.5), ylim=(-0.03, 1.03))
        ax.set_xticks(range(3), ["a head per\nattribute", "one 27-way\nlabel", "scrambled\nattributes"])
    axes[0].set_ylabel("share of components that are atomic")
    style.direct_label(axes[0], -0.45, 0.9, "nine atoms would lie here", style.BLUE)
    style.direct_label(axes[1], 2.45, 0.6, "grey: random directions", style.NULL, "left")
    return fig


def counts(table: pd.DataFrame, levels: int, cells: int) -> Figure:
    """By layer and kind: components alive, levels and combinations that one of them follows; a mark per network."""
    fig, axes = style.figure(aspect=0.48, cols=2, sharey=True)
    columns = {"alive": ("alive", "o"), "levels": ("levels found", "^"), "cells": ("combinations found", "s")}
    for ax, site in zip(axes, BEHIND, strict=True):
        for x, task in enumerate(TASKS):
            own = _of(table, task, site)
            for shift, (column, (says, marker)) in zip((-0.25, 0, 0.25), columns.items(), strict=True):
                full = {} if column == "alive" else {"markerfacecolor": style.PAPER}
                apart = shift + np.linspace(-0.05, 0.05, len(own)) * (len(own) > 1)
                style.dots(ax, x, own[column], COLOURS[task], 1, 5, apart, marker=marker, mew=1, label=says, **full)
        for height in (levels, cells):
            ax.axhline(height, color=style.NULL, linewidth=0.9, linestyle=(0, (4, 2.5)))
        ax.set(title=site, xlim=(-0.5, 2.5), ylim=(-1, max(40, table.alive.max() + 8)))
        ax.set_xticks(range(3), ["a head per\nattribute", "one 27-way\nlabel", "scrambled\nattributes"])
    axes[0].set_ylabel("count")
    for height, text in ((levels, f"{levels} levels"), (cells, f"{cells} combinations")):  # the other panel has the key
        style.direct_label(axes[1], 2.45, height, text, style.NULL, "above").set_ha("right")
    for line, (text, marker) in enumerate(columns.values()):
        name = f"{ {'o': '●', '^': '△', 's': '□'}[marker]} {text}"
        axes[0].text(0.02, 0.99 - 0.075 * line, name, fontsize=8.5, va="top", transform=axes[0].transAxes)
    return fig


def alive_against_importance(table: pd.DataFrame, levels: int, cells: int) -> Figure:
    """Components alive over the weight of the importance loss, a line per network with heads, both layers.

    Args:
        table: index (importance, seed, site), column alive.
    """
    fig, axes = style.figure(aspect=0.42, cols=2, sharey=True)
    for ax, site in zip(axes, BEHIND, strict=True):
        wide = table.query("site == @site").droplevel("site").alive.unstack("seed")
        ax.plot(wide.index, wide, "-o", color=style.BLUE, linewidth=0.8, alpha=0.7, markersize=4)
        for height in (levels, cells):
            ax.axhline(height, color=style.NULL, linewidth=0.9, linestyle=(0, (4, 2.5)))
        ax.set(title=site, xlabel="weight of the importance loss", xscale="log", ylim=(0, 30))
        ax.set_xticks(wide.index, [f"{w:g}" for w in wide.index], minor=False)
        ax.minorticks_off()
        ax.margins(x=0.1)
    axes[0].set_ylabel("components alive")
    for height, text in ((levels, f"{levels} levels"), (cells, f"{cells} combinations")):
        style.direct_label(axes[1], max(wide.index, default=1), height, text, style.NULL, "above").set_ha("right")
    return fig


def predictions(table: pd.DataFrame) -> Figure:
    """Mean importance on combinations that an additive fit has not seen, against what it says: a dot per component."""
    fig, axes = style.figure(aspect=0.55, cols=2, sharex=True, sharey=True)
    for ax, (atomic, title, colour) in zip(
        axes, ((True, "atomic components", style.BLUE), (False, "the others", style.ORANGE)), strict=True
    ):
        own = table[table.atomic == atomic]
        ax.fill_between([-0.3, 1.3], [-0.5, 1.1], [-0.1, 1.5], color=style.NULL, alpha=0.2, linewidth=0)
        style.dots(ax, own.predicted, own.actual, colour, 0.5, 4.5)
        ax.set(title=title, xlim=(-0.3, 1.3), ylim=(-0.05, 1.05), xlabel="predicted by shape + colour + size")
    axes[0].set_ylabel("mean importance there")
    style.direct_label(axes[1], 0.75, 0.1, "grey: within 0.2", style.NULL)
    return fig


def _of(table: pd.DataFrame, task: str, site: str) -> pd.DataFrame:
    """Rows of one kind and layer; none where no network of it counts."""
    return table.query("task == @task and site == @site")


def filter_tiles(filters: np.ndarray, titles: Sequence[str] = (), columns: int = 8) -> Figure:
    """What components of a colour layer look for: one RGB tile each, grey is 0, the largest weight black or white.

    Args:
        filters: [C, kh, kw, 3], red, green, blue; titles: one per tile, or none.
    """
    rows = -(-len(filters) // columns)
    fig, axes = style.figure(aspect=1.25 * rows / columns, rows=rows, cols=columns, squeeze=False)
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    tiles = 0.5 + 0.5 * filters / np.where(largest > 0, largest, 1)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, tile, title in zip(axes.flat, tiles, [*titles] or [""] * len(tiles), strict=False):
        ax.imshow(tile, vmin=0, vmax=1)
        ax.set_title(title, fontsize=7.5, loc="center", pad=2)
    return fig


def importance_maps(images: np.ndarray, maps: Mapping[str, np.ndarray]) -> Figure:
    """Images in the first row, and below each, one row per component, where in it the component matters.

    Args:
        images: [n, H, W, 3] in [0, 1]; maps: name of a component -> causal importance, [n, h, w].
    """
    fig, axes = style.figure(aspect=(1 + len(maps)) / (len(images) + 1.6), rows=1 + len(maps), cols=len(images),
                             squeeze=False)
    for ax, image in zip(axes[0], images, strict=True):
        ax.imshow(image)
    for row, (name, values) in zip(axes[1:], maps.items(), strict=True):
        for ax, one in zip(row, values, strict=True):
            shown = ax.imshow(one, vmin=0, vmax=1, cmap=style.SEQUENTIAL)
        row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    fig.colorbar(shown, ax=axes[1:], label="causal importance", ticks=(0, 0.5, 1), shrink=0.8)
    return fig
