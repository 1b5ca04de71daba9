"""Contact sheets: what a data set looks like, one row per class, or one panel per way to generate it."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lib.figures import style


def contact_sheet(
    images: np.ndarray, labels: np.ndarray, classes: Sequence[str], columns: int = 16, signed: bool = False
) -> Figure:
    """The first `columns` images of each class, one row per class; images as those of `lib.data.images.Images`.

    signed: images of either sign, each in a scale of its own around 0.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < columns:
        raise ValueError(f"class {classes[counts.argmin()]} has {counts.min()} images, the sheet needs {columns}")
    if signed:
        images = images / np.abs(images).max((1, 2), keepdims=True)
    rows = [np.hstack(images[np.flatnonzero(labels == i)[:columns]]) for i in range(len(classes))]
    mosaic = np.vstack(rows)  # [classes * h, columns * w] or [..., 3]
    height, width = images.shape[1:3]
    fig, ax = style.figure("page", aspect=0.9 * mosaic.shape[0] / mosaic.shape[1])
    fig.set_layout_engine("compressed")  # leaves room for the class names beside an axis of fixed aspect
    ax.imshow(mosaic, **({"cmap": style.DIVERGING, "vmin": -1, "vmax": 1} if signed else {"cmap": "gray"}))
    ax.set_yticks(np.arange(len(classes)) * height + (height - 1) / 2, classes)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    line = {"color": style.GRID, "linewidth": 0.6} if signed else {"color": style.PAPER, "linewidth": 24 / columns}
    for edge in range(1, len(classes)):
        ax.axhline(edge * height - 0.5, **line)
    for edge in range(1, columns):
        ax.axvline(edge * width - 0.5, **line)
    return fig


def feature_sheet(panels: Mapping[str, np.ndarray]) -> Figure:
    """Samples x features of generated data in [0, 1], one panel per kind, by its label; white is 0."""
    fig, axes = style.figure("page", aspect=0.5, cols=len(panels), sharey=True)
    for ax, (label, x) in zip(axes, panels.items(), strict=True):
        shown = ax.imshow(np.ma.masked_equal(x, 0), vmin=0, vmax=1, aspect="auto", cmap=style.SEQUENTIAL)
        ax.set(xlabel=label, xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=style.GRID)
    axes[0].set_ylabel(f"{len(x)} samples")
    fig.colorbar(shown, ax=axes, label="feature value", aspect=30)
    return fig
