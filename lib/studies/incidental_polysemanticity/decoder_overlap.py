"""How entangled the directions of a decoder are, by their cosines; all batched over leading dimensions.

Directions are columns, D [..., d, n]. The published metrics read them as they stand; what they read on random
directions is their null, and how latents are numbered is no part of any question, although `weighted_overlap` depends
on it. Source of the metrics: ngugi_taming, utils.py.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lib.metrics.nulls import null_distribution


def column_cosines(D: Tensor) -> Tensor:
    """Cosines of all pairs of columns, C = D̂ᵀ D̂ [..., n, n], with the published 1e-8 added to each length."""
    if D.ndim < 2:
        raise ValueError(f"directions are columns of [..., d, n], got shape {tuple(D.shape)}")
    unit = D / (torch.linalg.vector_norm(D, dim=-2, keepdim=True) + 1e-8)
    return unit.mT @ unit


def macs(D: Tensor) -> Tensor:
    """Mean absolute cosine similarity, mean over all n^2 entries of |C - I|; the zero diagonal is counted.

    [...], from 0 (orthogonal) to (n-1)/n (parallel).
    """
    C = column_cosines(D)
    return (C - torch.eye(C.shape[-1], dtype=C.dtype, device=C.device)).abs().mean((-2, -1))


def weighted_overlap(D: Tensor) -> Tensor:
    """Weighted squared cosines, sum_{i<j} C_ij^2 I_{i mod 8} I_{j mod 8} with I_i = .9^i.

    Latents have no order, so the weights are arbitrary; they are kept because the published numbers have them. [...].
    """
    return _weighted(D, 0.9)


def unweighted_overlap(D: Tensor) -> Tensor:
    """Squared cosines of all pairs, sum_{i<j} C_ij^2, which does not depend on the order of latents; [...]."""
    return _weighted(D, 1.0)


def _weighted(D: Tensor, base: float) -> Tensor:
    squared = column_cosines(D).square()
    importance = base ** (torch.arange(D.shape[-1], device=D.device) % 8).to(D)  # [n], that of target i mod 8
    squared.diagonal(dim1=-2, dim2=-1).zero_()
    return (squared @ importance * importance).sum(-1) / 2


def permuted_macs(D: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    """The published null: MACS after permuting the columns, `draws` times; [draws, ...].

    Permuting columns permutes rows and columns of C together, so every draw reads the same but for rounding.
    """
    n = D.shape[-1]
    orders = torch.stack([torch.randperm(n, generator=rng) for _ in range(draws)]).to(D.device)
    return torch.stack([macs(D[..., order]) for order in orders])


def calibrated_macs(D: Tensor, rng: torch.Generator, draws: int = 200) -> Tensor:
    """The published calibration by its null, sigmoid((MACS - null mean) / (null standard deviation + 1e-8)); [...]."""
    null = permuted_macs(D, draws, rng).double()
    z = (macs(D).double() - null.mean(0)) / (null.std(0, correction=0) + 1e-8)
    return torch.sigmoid(z)


def permutation_null(D: Tensor, draws: int = 200, *, rng: np.random.Generator) -> np.ndarray:
    """MACS of one decoder [d, n] under permuted columns, which the check every null passes refuses: it cannot move."""
    return null_distribution(macs, lambda rng: D[:, rng.permutation(D.shape[1])], draws, rng)


def random_direction_null(
    metric=weighted_overlap, draws: int = 1000, d: int = 12, n: int = 16, *, rng: np.random.Generator
) -> np.ndarray:
    """What a metric of columns [d, n] reads on n independent uniform directions in R^d, [draws].

    16 in R^12 read interference 5.05 and MACS .22 on average.
    """
    return null_distribution(metric, lambda rng: torch.from_numpy(rng.standard_normal((d, n))), draws, rng)


def feature_directions(features: Tensor, acts: Tensor) -> Tensor:
    """Where each true feature lies in a layer: rows of the least-squares map from features to activations.

    acts ≈ features @ directions + constant, for true features [..., n, f] and a layer's activations acts [..., n, d].

    Returns:
        [..., f, d], one row per feature, as `lib.metrics.recovery` takes a dictionary.
    """
    x = features - features.mean(-2, keepdim=True)
    a = acts - acts.mean(-2, keepdim=True)
    return torch.linalg.solve(x.mT @ x, x.mT @ a)
