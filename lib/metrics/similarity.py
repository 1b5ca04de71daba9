"""How alike two representations of the same samples are: CKA, Procrustes and RSA.

All take X [n_samples, d1] and Y [n_samples, d2] (NumPy or torch, any float type; computed in float64), row i of both
belonging to sample i, and are symmetric. All read 1 when Y is X rotated, shifted and rescaled, and none reads 0 on
unrelated data: with few samples or many dimensions the null is high, so show it (permute the rows of Y).

A representation that is the same for every sample has no geometry to compare: ValueError, never a nan or a 0.
"""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from lib.tensors import matrix

_ROUNDING = 1e-12
"""Spread below this share of the largest entry is rounding error, not geometry."""


def linear_cka(X: ArrayLike, Y: ArrayLike) -> float:
    """Linear centred kernel alignment in feature space, ‖XᵀY‖_F^2 / (‖XᵀX‖_F ‖YᵀY‖_F), columns centred.

    Equal to the form through n_samples x n_samples Gram matrices, at cost n d^2 in place of n^2 d. Directions of
    large variance dominate it: it can read near 1 while small directions differ.

    In [0, 1]; 1 for equal up to rotation, shift and scale. Independent Gaussians read about sqrt(d1 d2) / n_samples
    while that is small, and approach 1 as it grows.

    Source: Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited".
    """
    X, Y = _checked_pair(X, Y)
    cross = np.linalg.norm(X.T @ Y) ** 2
    return float(np.clip(cross / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)), 0, 1))  # but for rounding


def procrustes_similarity(X: ArrayLike, Y: ArrayLike) -> float:
    """Overlap after the best rotation, ‖XᵀY‖_* / (‖X‖_F ‖Y‖_F) with the nuclear norm, columns centred.

    In [0, 1]; 1 for equal up to rotation, reflection, shift and scale. The narrower of the two counts as padded with
    zero columns.

    Source: Schönemann 1966; Ding et al. 2021, "Grounding Representation Similarity with Statistical Testing".
    """
    X, Y = _checked_pair(X, Y)
    nuclear = np.linalg.svd(X.T @ Y, compute_uv=False).sum()
    return float(np.clip(nuclear / (np.linalg.norm(X) * np.linalg.norm(Y)), 0, 1))  # but for rounding


def rsa(X: ArrayLike, Y: ArrayLike) -> float:
    """Representational similarity analysis: Spearman's rank correlation of all pairwise Euclidean distances.

    In [-1, 1]; 1 where both order all pairs alike, as when equal up to rotation, shift and scale. Distances are told
    apart by nine digits: what is equal but for rounding is a tie. Memory n_samples^2.

    Source: Kriegeskorte et al. 2008.
    """
    X, Y = _checked_pair(X, Y, least=3)
    parts = [np.frexp(pdist(points)) for points in (X, Y)]
    distances = [np.ldexp(digits.round(9), power) for digits, power in parts]  # [n_samples (n_samples - 1) / 2] each
    for name, values in zip("XY", distances, strict=True):
        if not np.ptp(values):
            raise ValueError(f"rsa: all pairs of {name} are equally far apart, so their order means nothing")
    return float(spearmanr(*distances).statistic)


def _checked_pair(X: ArrayLike, Y: ArrayLike, least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Both as centred float64 matrices with matching rows, or a ValueError that says what is wrong."""
    X, Y = matrix(X, "X"), matrix(Y, "Y")
    if len(X) != len(Y):
        raise ValueError(f"X and Y must describe the same samples: {len(X)} and {len(Y)} rows")
    if len(X) < least:
        raise ValueError(f"at least {least} samples are needed, got {len(X)}")
    return _centred(X, "X"), _centred(Y, "Y")


def _centred(A: np.ndarray, name: str) -> np.ndarray:
    centred = A - A.mean(axis=0)
    if np.abs(centred).max(initial=0) <= _ROUNDING * np.abs(A).max(initial=0):
        raise ValueError(f"{name} is the same for every sample: it has no geometry to compare")
    return np.ldexp(centred, -np.frexp(np.abs(centred).max())[1])  # exactly; squares neither overflow nor vanish
