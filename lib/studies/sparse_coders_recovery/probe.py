"""A supervised probe for every feature: what the samples tell linearly, whatever a coder makes of them."""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve

from lib.tensors import as_array, matrix

_CHUNK = 2**24
"""Entries of a temporary matrix held at once."""


def linear_probe(x: ArrayLike, active: ArrayLike, x_test: ArrayLike, penalty: float = 1e-3) -> np.ndarray:
    """Decisions of one supervised linear probe per feature, > 0 for "active": what x tells linearly.

    Ridge regression of active on x, all features at once, cut where F1 on the training samples is best.

    Args:
        x: training samples, [n, d]; active: bool, [n, n_features]; x_test: [n_test, d].
        penalty: ridge, in units of the mean variance of x's dimensions times n.
    Returns:
        [n_test, n_features], for `lib.metrics.recovery.detection(decisions, active_test)`.
    Source: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes".
    """
    x, x_test = matrix(x, "x"), matrix(x_test, "x_test")
    active = np.asarray(as_array(active)).astype(bool)
    if active.ndim != 2 or len(active) != len(x) or x.shape[1] != x_test.shape[1]:
        raise ValueError(
            f"linear_probe: x {x.shape}, active {active.shape} and x_test {x_test.shape} do not fit together"
        )
    if (np.ptp(x, 0) <= 8 * np.finfo(x.dtype).eps * np.abs(x).max()).all():
        raise ValueError("linear_probe: x is the same for every sample, so it tells nothing")
    centred = x - x.mean(0)
    covariance = centred.T @ centred  # [d, d]
    ridge = penalty * np.trace(covariance) / len(covariance)
    factor = cho_factor(covariance + ridge * np.eye(len(covariance)))
    decisions, step = np.empty((len(x_test), active.shape[1])), max(1, _CHUNK // len(active))
    for c in (slice(start, start + step) for start in range(0, active.shape[1], step)):
        weights = cho_solve(factor, centred.T @ (active[:, c] - active[:, c].mean(0)))  # [d, columns]
        decisions[:, c] = x_test @ weights - _best_cut(x @ weights, active[:, c])
    return decisions


def _best_cut(scores: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The cut between two distinct scores with the best F1 of each column; above all scores where none is active."""
    order = np.argsort(-scores, axis=0)
    ranked = np.take_along_axis(scores, order, 0)
    hits = np.cumsum(np.take_along_axis(active, order, 0), axis=0)
    f1 = 2 * hits / (np.arange(1, len(scores) + 1)[:, None] + hits[-1])  # [n, columns], the first k called active
    below = np.vstack([ranked[1:], ranked[-1:] - 1])
    f1[ranked <= below] = -1  # no cut between equal scores
    best = f1.argmax(0)[None]
    cut = (np.take_along_axis(ranked, best, 0) + np.take_along_axis(below, best, 0))[0] / 2
    return np.where(hits[-1] > 0, cut, ranked[0])
