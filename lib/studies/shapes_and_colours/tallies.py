"""How causal importances are spread over positions and over images."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.spd import Decomposition


class Tally(NamedTuple):
    """Causal importances of one site over many images (or whatever a sample is), per position and per image apart.

    Where a sample has one position, both are the same. A component is on above a threshold.

    Attributes:
        mean: over positions, [C].
        frequency: share of positions where it is on, [C]; image_frequency: share of images where it is on somewhere.
        l0: components on at a position, mean; image_l0: components on somewhere in an image, mean.
        histogram: share of all importances in equal bins of [0, 1], [bins].
        positions: of an image.
    """

    mean: np.ndarray
    frequency: np.ndarray
    image_frequency: np.ndarray
    l0: float
    image_l0: float
    histogram: np.ndarray
    positions: int


@torch.no_grad()
def tally(
    dec: Decomposition, x: Tensor, threshold: float = 0.1, bins: int = 10, batch: int = 500
) -> dict[str, Tally]:
    """The `Tally` of every site on inputs x [N, ...], batch by batch.

    A site's own positions are counted: a convolution has H' W' of them in an image, a linear layer behind it one.
    """
    if dec.panels is not None:
        raise ValueError("tally takes one decomposition: dec.panel(i)")
    sums: dict[str, list] = {}
    for part in x.split(batch):
        for name, g in dec.causal_importance(part).items():
            g = g.flatten(1, -2) if g.ndim > 2 else g.unsqueeze(1)  # [B, positions, C]
            on = g > threshold
            edges = (g.double() * bins).clamp(max=bins - 1).long().flatten()
            new = [g.double().sum((0, 1)), on.double().sum((0, 1)), on.any(1).double().sum(0),
                   edges.bincount(minlength=bins), g.shape[1]]
            old = sums.get(name)
            sums[name] = new if old is None else [a + b for a, b in zip(old[:4], new[:4], strict=True)] + [g.shape[1]]
    found = {}
    for name, (total, on, image_on, counts, positions) in sums.items():
        mean, frequency = (t.cpu().numpy() / (len(x) * positions) for t in (total, on))
        by_image = image_on.cpu().numpy() / len(x)
        found[name] = Tally(mean, frequency, by_image, float(frequency.sum()), float(by_image.sum()),
                            (counts / counts.sum()).cpu().numpy(), positions)
    return found
