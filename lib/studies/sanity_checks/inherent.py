"""How well codes can be found when the true features are known: support F1 over K, and the edge of recovery by L1."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from sklearn.linear_model import lars_path, orthogonal_mp_gram
from torch import Tensor

from lib.studies.sanity_checks.worlds import Size, directions, drawn, stream


def support_scores(params: Size, seed: int, active: list[int], n: int) -> dict[str, Any]:
    """F1 of supports found with the true directions, by the K of the samples' law; each method is told how many.

    Args:
        active: K, active features of a sample on average. n: samples for each.
    Returns:
        f1: [methods, len(active)] in the order of `METHODS`.
    """
    truth, found = directions(params, seed), np.zeros((len(METHODS), len(active)))
    for place, k in enumerate(active):
        p = torch.full((params.features,), k / params.features, dtype=torch.float64)
        x, row, feature, _ = drawn(truth, p, n, stream(params, "support", k, seed))
        real = np.zeros((n, params.features), bool)
        real[row.numpy(), feature.numpy()] = True
        for number, method in enumerate(METHODS.values()):
            guess = method(truth, x, real.sum(1))
            found[number, place] = 2 * (guess & real).sum() / (guess.sum() + real.sum())
    return {"f1": found}


def ranked(truth: Tensor, x: Tensor, sizes: np.ndarray) -> np.ndarray:
    """The largest products with the true directions, as many as a sample has; bool [n, n_features]."""
    order = (-(x @ truth.T)).argsort(1).argsort(1).numpy()
    return order < sizes[:, None]


def pursuit(truth: Tensor, x: Tensor, sizes: np.ndarray) -> np.ndarray:
    """Orthogonal matching pursuit of as many steps."""
    D, guess = truth.double().numpy(), np.zeros((len(x), len(truth)), bool)
    for i, (own, size) in enumerate(zip(x.double().numpy(), sizes, strict=True)):
        if 0 < size < D.shape[1]:
            guess[i] = orthogonal_mp_gram(D @ D.T, D @ own, n_nonzero_coefs=int(size)) != 0
    return guess


def least_l1(truth: Tensor, x: Tensor, sizes: np.ndarray) -> np.ndarray:
    """The largest codes of the non-negative solution with least L1 norm, as many as a sample has (end of Lasso's path).
    """
    D, guess = truth.double().numpy(), np.zeros((len(x), len(truth)), bool)
    for i, (own, size) in enumerate(zip(x.double().numpy(), sizes, strict=True)):
        if own.any():
            _, _, path = lars_path(D.T, own, method="lasso", positive=True, max_iter=4 * D.shape[1])
            last = path[:, -1]
            guess[i] = ((-last).argsort().argsort() < size) & (last > 0)
    return guess


METHODS = {"least L1 norm": least_l1, "matching pursuit": pursuit, "largest products": ranked}


def l1_edge(width: int, features: int) -> float:
    """K up to which non-negative codes of least L1 norm are the true ones, in large random dictionaries.

    K / d = max_z [1 - (n / d) g(z)] / [1 + z² - g(z)], g(z) = (1 + z²) Φ(-z) - z φ(z).

    Source: Donoho, Maleki & Montanari 2009, "Message-passing algorithms for compressed sensing", equation 4.
    """
    def share(z: float) -> float:
        g = (1 + z**2) * norm.cdf(-z) - z * norm.pdf(z)
        return (1 - features / width * g) / (1 + z**2 - g)

    return width * -minimize_scalar(lambda z: -share(z), bounds=(0, 6), method="bounded").fun
