"""Features that share components in groups, and the eight mixed targets a small network learns from them.

The features x are the ground truth: a hidden layer that holds one direction per x_i is monosemantic by construction.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.rng import generator

GROUPS = ((0, 1, 2), (3, 4), (5, 6, 7))
"""Features whose values share a component."""
N_FEATURES = 8
SAMPLES, TRAIN = 1024, 820
"""Published number of samples, and how many of them (the first) are trained on."""
IMPORTANCE = tuple(0.9**i for i in range(N_FEATURES))
"""Weight of each target, .9^i."""
_GROUP_OF = [next(g for g, members in enumerate(GROUPS) if i in members) for i in range(N_FEATURES)]


class Samples(NamedTuple):
    """One data set per seed: features x >= 0 and their targets y, weighted by importance, both [seeds, n, 8]."""

    x: Tensor
    y: Tensor

    def split(self, at: int = TRAIN) -> tuple[Samples, Samples]:
        """The first `at` samples of every seed (train), and the rest (validation)."""
        return Samples(*(part[:, :at] for part in self)), Samples(*(part[:, at:] for part in self))


def grouped_samples(seeds: Sequence[int], device: str | torch.device = "cpu") -> Samples:
    """Groups with a shared component: x_i = relu(k_i a_g (s_g c_g + (1 - s_g) e_i)), s_g = .5 + .5 U.

    a_g ~ Bernoulli(.6) and c_g ~ N(0, 1) belong to the group g of feature i; k_i ~ Bernoulli(.5) and e_i ~ N(0, 1) to
    the feature. Every seed has one data set from its own stream, (seed, "data"), drawn on the CPU.

    Source: ngugi_taming, utils.py.
    """
    x = torch.stack([draw(generator(seed, "data"))[0] for seed in seeds]).to(device)  # [seeds, 1024, 8]
    return Samples(x, weighted_targets(x))


def draw(rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Features x [1024, 8] and whether each group is active, [1024, 3] bool."""
    active = torch.rand(SAMPLES, len(GROUPS), generator=rng) < 0.6
    strength = 0.5 + 0.5 * torch.rand(SAMPLES, len(GROUPS), generator=rng)
    common = torch.randn(SAMPLES, len(GROUPS), generator=rng)
    own = torch.randn(SAMPLES, N_FEATURES, generator=rng)
    mask = torch.rand(SAMPLES, N_FEATURES, generator=rng) < 0.5
    return compose(active, strength, common, own, mask), active


def compose(active: Tensor, strength: Tensor, common: Tensor, own: Tensor, mask: Tensor) -> Tensor:
    """Features from their parts, x = relu(k a (s c + (1 - s) e)), [..., 8].

    Args:
        active: a [..., 3] bool; strength: s [..., 3]; common: c [..., 3]; own: e [..., 8]; mask: k [..., 8] bool.
    """
    s = strength[..., _GROUP_OF]  # [..., 8]
    value = s * common[..., _GROUP_OF] + (1 - s) * own
    return torch.where(active[..., _GROUP_OF] & mask, value, 0.0).relu()


def targets(x: Tensor) -> Tensor:
    """The eight targets: products, powers and saturations of features of one group, two of them across groups.

    y0 = x0 x1 + x2/2, y1 = sin(x0 + x2) + x1, y2 = x0^2 + x1 x2, y3 = x3 x4 + .3 x5, y4 = tanh(x3 + x4),
    y5 = x5 x6 x7, y6 = x5 + .7 x7, y7 = x6^2 + x5 x7; x [..., 8], y [..., 8], not weighted.

    Source: ngugi_taming, utils.py.
    """
    if x.shape[-1] != N_FEATURES:
        raise ValueError(f"targets need {N_FEATURES} features, x has {x.shape[-1]}")
    x0, x1, x2, x3, x4, x5, x6, x7 = x.unbind(-1)
    first = x0 * x1 + 0.5 * x2, torch.sin(x0 + x2) + x1, x0.square() + x1 * x2, x3 * x4 + 0.3 * x5
    return torch.stack((*first, torch.tanh(x3 + x4), x5 * x6 * x7, x5 + 0.7 * x7, x6.square() + x5 * x7), -1)


def weighted_targets(x: Tensor) -> Tensor:
    """The targets times their importance, .9^i y_i; x and result [..., 8]."""
    return targets(x) * torch.tensor(IMPORTANCE, dtype=x.dtype, device=x.device)
