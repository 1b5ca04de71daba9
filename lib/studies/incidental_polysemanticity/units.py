"""Which units of a layer hold which features: W [..., n, m] has one row per feature and one column per unit."""
from __future__ import annotations

import torch
from torch import Tensor


def represented(W: Tensor) -> Tensor:
    """Which unit represents which feature, |W| in [.8, 1.2]; [..., n, m] bool."""
    return (W.abs() >= 0.8) & (W.abs() <= 1.2)


def polysemantic_units(W: Tensor) -> Tensor:
    """Number of units that represent two features or more, int64 [...]. Source: Lecomte et al. 2023."""
    return (represented(W).sum(-2) >= 2).sum(-1)


def opposite_sign_share(W: Tensor) -> Tensor:
    """Among units of all instances that represent exactly two features, the share whose two weights differ in sign.

    ReLU hides a negative overlap, so a pair of opposite signs costs nothing and stays; equal signs repel. A number in
    [0, 1]; nan where no unit represents two.
    """
    held = represented(W)
    pairs = held.sum(-2) == 2  # [..., m]
    return torch.where(held, W.sign(), 0.0).sum(-2)[pairs].eq(0).double().mean()


def concentration(W: Tensor) -> Tensor:
    """How few units a feature uses, |W_i|_4^4 / |W_i|_2^4: 1 on one unit, 1/m spread evenly, 3/(m + 2) at random.

    The value for N(0, 1/m) starts is exact: direction and length of a Gaussian vector are independent. [..., n].
    Source: Lecomte et al. 2023, noise in the hidden layer.
    """
    return W.pow(4).sum(-1) / W.square().sum(-1).square()
