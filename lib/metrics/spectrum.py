"""How many dimensions a matrix or a cloud of activations really uses: effective rank, participation ratio, d95."""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lib.rng import checked_generator
from lib.tensors import matrix


def effective_rank(W: ArrayLike) -> np.ndarray:
    """exp of the entropy of the singular values' shares, exp(-Σ p_i log p_i), p_i = σ_i / Σσ; [...] of W [..., m, n].

    The rank for equal singular values, less where a few dominate. W is not centred.

    Source: Roy & Vetterli 2007, "The effective rank".
    """
    s = np.linalg.svd(matrix(W, "W", batched=True), compute_uv=False)  # [..., min(m, n)]
    total = s.sum(-1, keepdims=True)
    if not (total > 0).all():
        raise ValueError("effective_rank is undefined for a matrix of zeros")
    p = s / total
    return np.exp(-(p * np.log(p, out=np.zeros_like(p), where=p > 0)).sum(-1))


def variances(x: ArrayLike) -> np.ndarray:
    """Variance along each principal axis, largest first, of x [n_samples >= 2, d]; [min(n_samples, d)]."""
    x = matrix(x, "x")
    if len(x) < 2:
        raise ValueError(f"x must be [n_samples >= 2, d], got {x.shape}")
    found = np.square(np.linalg.svd(x - x.mean(0), compute_uv=False)) / (len(x) - 1)
    if not found.sum() > 1e-24 * np.square(x).sum():
        raise ValueError("x is the same for every sample, so it has no dimension")
    return found


def participation_ratio(x: ArrayLike) -> float:
    """(Σλ)² / Σλ² of the variances λ along principal axes of x [n_samples, d]; d for a round cloud, 1 for a line."""
    found = variances(x)
    return float(found.sum() ** 2 / np.square(found).sum())


def principal_dimension(x: ArrayLike, share: float = 0.95) -> int:
    """Fewest principal axes of x [n_samples, d] that hold `share`, in (0, 1], of the variance (d95 for .95).

    Source: TopoSAE, EXP_011.
    """
    if not 0 < share <= 1:
        raise ValueError(f"principal_dimension: share must be in (0, 1], got {share}")
    held = np.cumsum(variances(x))
    return int(np.searchsorted(held, share * held[-1] * (1 - 1e-12)) + 1)


def unrelated(x: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """x [n_samples, d] with the samples permuted within each dimension: same spreads, no correlation.

    The null of a low dimension.
    """
    return checked_generator(rng).permuted(matrix(x, "x"), axis=0)
