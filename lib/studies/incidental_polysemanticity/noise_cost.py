"""Does noise on a layer care which directions of the layer its units are? Its expected cost, before and after turning.

Turning a layer (W -> W Q, Q orthogonal) leaves all overlaps W Wᵀ and so everything a noise-free model computes as they
are. What noise costs may change, if its law is not that of a Gaussian and if what reads the layer is not linear.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Cost = Callable[[Tensor, Tensor], Tensor]
"""(W [I, n, m], noise [draws, m]) -> what the noise costs each instance, [I]."""


def linear_cost(W: Tensor, noise: Tensor) -> Tensor:
    """Extra squared error of a linear readout, mean over draws of |W xi|^2: its expectation is sigma^2 |W|_F^2.

    With y = W h + b and squared error, E|W (h + xi) + b - t|^2 = |W h + b - t|^2 + sum_k sigma_k^2 |W_.k|^2 for every
    law of independent noise of mean 0: only the variance counts.

    Args:
        W: readout weights, one column per unit, [I, n, m].
        noise: [draws, m].
    """
    return (W @ noise.T).square().sum(1).mean(1)


def tied_relu_cost(W: Tensor, noise: Tensor) -> Tensor:
    """Extra squared error of y = ReLU(W (W^T x + xi)) on the n basis vectors, mean over draws.

    Args:
        W: one row per feature, [I, n, m].
        noise: [draws, m].
    Source: Lecomte et al. 2023 (the model).
    """
    overlap, target = W @ W.mT, torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
    clean = (overlap.relu() - target).square().sum((1, 2))  # [I]
    pushed = overlap[:, None] + (noise @ W.mT)[:, :, None]  # [I, draws, n inputs, n outputs]
    return (pushed.relu() - target).square().sum((2, 3)).mean(1) - clean


def turning_cost(W: Tensor, noise: Tensor, cost: Cost, turns: int, rng: torch.Generator) -> Tensor:
    """Relative change of the noise's cost when the units are turned at random, mean_Q cost(W Q) / cost(W) - 1.

    Above 0 the model's units are better for this noise than arbitrary directions of the same layer; 0 for any W if
    noise is Gaussian or the readout linear.

    Args:
        W: [I, n, m].
        noise: draws of one law, [draws, m]; the same for all turns.
        cost: `linear_cost` or `tied_relu_cost`.
        turns: random orthogonal Q.
    Returns:
        [I].
    """
    m = W.shape[-1]
    turned = [cost(W @ _orthogonal(m, rng).to(W), noise) for _ in range(turns)]
    return torch.stack(turned).mean(0) / cost(W, noise) - 1


def _orthogonal(m: int, rng: torch.Generator) -> Tensor:
    """A uniformly random orthogonal matrix [m, m]."""
    q, r = torch.linalg.qr(torch.randn(m, m, generator=rng))
    return q * r.diagonal().sign()
