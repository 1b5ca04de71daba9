"""Exact losses of the solutions a tiny toy model can choose from, and the fate of its extra feature under the best.

Features are independent, x_i = Bernoulli(p) * U(0, 1); there is one dimension fewer than features; the last ("extra")
feature has importance r, the others 1. A feature that is ignored is answered by its mean p/2 and leaves its variance
p/3 - p^2/4; each half of an antipodal pair errs only when both are active, by min(x_i, x_j)^2, whose mean is p^2/6.
"""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lib.tensors import as_array, finite

PHASES = ("ignored", "dedicated", "superposed")
"""What becomes of the extra feature: left out, given a dimension of its own, or half of an antipodal pair."""


def phase_losses(importance: ArrayLike, density: ArrayLike, n_features: int = 2) -> np.ndarray:
    """Exact loss of the best solution in each phase, for n_features features in n_features - 1 dimensions.

    ignored r (p/3 - p^2/4);  dedicated p/3 - p^2/4, with three features min(p/3 - p^2/4, p^2/3) because the other two
    may also share a dimension;  superposed (1 + r) p^2/6.

    Args:
        importance: r, importance of the extra feature; density: p. They broadcast against each other.
        n_features: 2 or 3.
    Returns:
        [..., 3], in the order of `PHASES`.
    Source: derived here for the data law of Elhage et al. 2022, "Superposition as a Phase Change".
    """
    if n_features not in (2, 3):
        raise ValueError(f"the exact losses are known for 2 or 3 features, got {n_features}")
    r, p = np.broadcast_arrays(*(np.asarray(as_array(values), float) for values in (importance, density)))
    if not ((p >= 0) & (p <= 1) & (r >= 0)).all():
        raise ValueError("density must lie in [0, 1] and importance from 0 on")
    variance = p / 3 - p**2 / 4
    dedicated = variance if n_features == 2 else np.minimum(variance, p**2 / 3)
    return np.stack([r * variance, dedicated, (1 + r) * p**2 / 6], axis=-1)


def predicted_phase(importance: ArrayLike, density: ArrayLike, n_features: int = 2) -> np.ndarray:
    """Index into `PHASES` of the phase with the lowest exact loss."""
    return phase_losses(importance, density, n_features).argmin(-1)


def measured_phase(W: ArrayLike, threshold: float = 0.3) -> np.ndarray:
    """Index into `PHASES` of the phase a trained model is in.

    The extra feature is ignored when |W_extra| < threshold; otherwise superposed when the others put more than
    threshold^2 on its direction, sum_j (Ŵ_extra . W_j)^2, and dedicated when they do not.

    Args:
        W: [..., n_hidden, n_features], the extra feature last.
        threshold: a length between the 0 and 1 that trained directions cluster at.
    """
    W = finite(W, "W")
    extra, others = W[..., -1], W[..., :-1]
    norm = np.linalg.norm(extra, axis=-1)
    overlap = np.einsum("...k,...kj->...j", extra, others) / np.maximum(norm, 1e-12)[..., None]
    shared = np.where(np.square(overlap).sum(-1) > threshold**2, 2, 1)
    return np.where(norm < threshold, 0, shared)
