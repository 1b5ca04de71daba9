"""How a toy model stores its features: norms, dimensionality, interference, and the loss of storing none.

Everything takes W [..., n_hidden, n_features], of torch or NumPy, column i being feature i's direction W_i, batches
over leading dimensions and gives tensors. Ŵ_i is W_i / |W_i|, and 0 for a column that is exactly zero.
"""
from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor


def feature_norms(W: ArrayLike) -> Tensor:
    """Length of each feature's direction, |W_i|; about 1 when represented and 0 when ignored. [..., n_features]."""
    return torch.linalg.vector_norm(_checked(W), dim=-2)


def unit_columns(W: ArrayLike) -> Tensor:
    """Each feature's direction, Ŵ_i = W_i / |W_i|; a zero column stays 0. W and result [..., n_hidden, n_features]."""
    W = _checked(W)
    norms = feature_norms(W).unsqueeze(-2)  # [..., 1, n_features]
    return torch.where(norms > 0, W / norms, 0.0)


def gram(W: ArrayLike) -> Tensor:
    """Overlaps of all pairs of features, WᵀW; entry (i, j) is W_i · W_j. [..., n_features, n_features], symmetric."""
    W = _checked(W)
    return W.mT @ W


def interference(W: ArrayLike) -> Tensor:
    """What the other features put on each feature's direction, sum_{j != i} (Ŵ_i · W_j)^2; [..., n_features].

    0 for a feature orthogonal to all others or a zero column, 1 for either half of a unit antipodal pair.

    Source: Elhage et al. 2022, "Toy Models of Superposition".
    """
    overlaps = unit_columns(W).mT @ _checked(W)  # [..., n_features, n_features]
    overlaps.diagonal(dim1=-2, dim2=-1).zero_()
    return overlaps.square().sum(-1)


def feature_dimensionality(W: ArrayLike) -> Tensor:
    """Fraction of a hidden dimension each feature owns, D_i = |W_i|^2 / sum_j (Ŵ_i · W_j)^2.

    1 for a feature with a dimension to itself, 1/2 for an antipodal pair, 2/5 for a pentagon. [..., n_features], each
    in [0, 1], with sum_i D_i <= rank(W) <= n_hidden. 0 for a zero column; a tiny column orthogonal to the others still
    owns a whole dimension, so mask with `is_represented`.

    Source: Elhage et al. 2022, "The Geometry of Superposition".
    """
    own = feature_norms(W).square()
    total = own + interference(W)
    return torch.where(own > 0, own / total, 0.0)


def dimensions_per_feature(W: ArrayLike) -> Tensor:
    """Hidden dimensions spent per represented feature, D* = n_hidden / |W|_F^2.

    |W|_F^2 counts the represented features, because each has |W_i| about 1; D* sticks at 1 and at 1/2. [...]; inf where
    W is zero.

    Source: Elhage et al. 2022, "The Geometry of Superposition".
    """
    return _checked(W).shape[-2] / feature_norms(W).square().sum(-1)


def is_represented(W: ArrayLike, threshold: float = 0.5) -> Tensor:
    """Whether the model stores each feature, |W_i| > threshold, bool [..., n_features]; lengths cluster at 0 and 1."""
    return feature_norms(W) > threshold


def n_represented(W: ArrayLike, threshold: float = 0.5) -> Tensor:
    """Number of features the model stores, #{i: |W_i| > threshold}; int64, [...]."""
    return is_represented(W, threshold).sum(-1)


def _checked(W: ArrayLike) -> Tensor:
    W = torch.as_tensor(W)
    if W.ndim < 2:
        raise ValueError(f"W must be [..., n_hidden, n_features], got shape {tuple(W.shape)}")
    if not torch.isfinite(W).all():
        raise ValueError("W has values that are NaN or infinite")
    return W if W.is_floating_point() else W.double()
