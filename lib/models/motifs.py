"""How features use units: privileged bases, and circuits that superpose."""
from __future__ import annotations

import numpy as np
import torch
from scipy.stats import special_ortho_group
from torch import Tensor

from lib.metrics.superposition import is_represented


def largest_unit_share(W: Tensor, threshold: float = 0.5) -> Tensor:
    """How far represented features lie along single units, mean_i max_k W_ki^2 / |W_i|^2.

    1 when every feature has one unit; a random direction in k dimensions reads about (2 ln k)/k for large k. [...] of W
    [..., n_hidden, n_features]; nan where no feature is represented.

    Source: Elhage et al. 2022, "Superposition in a Privileged Basis".
    """
    squared = W.square()
    share = squared.amax(-2) / squared.sum(-2).clamp_min(torch.finfo(W.dtype).tiny)  # [..., n]
    stored = is_represented(W, threshold)
    return (share * stored).sum(-1) / stored.sum(-1)


def random_rotations(W: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """W [n_hidden, n_features] in `count` uniformly random frames of its hidden space; every W^T W is the same.

    The null of anything that reads single units, [count, n_hidden, n_features].
    """
    turns = special_ortho_group.rvs(W.shape[0], size=count, random_state=rng)  # [count, n_hidden, n_hidden]
    return torch.from_numpy(turns).to(W) @ W


def served_features(W1: Tensor, W2: Tensor, share: float = 0.1) -> Tensor:
    """Which features each unit computes: |W1_ui W2_iu| above `share` of the largest such product in the model.

    bool [..., n_hidden, n_features], as W1; W2 is [..., n_features, n_hidden].
    """
    strength = (W1 * W2.mT).abs()
    return strength > share * strength.amax((-2, -1), keepdim=True)


def circuit_asymmetry(W1: Tensor, W2: Tensor, share: float = 0.1) -> Tensor:
    """Spread of log(|W1_ui| / |W2_iu|) over the features a unit serves, max minus min; the asymmetric motif is large.

    A unit's scale may move between W1 and W2 without changing the function, but it moves all its ratios together:
    a unit that is strong-in, weak-out for one feature and weak-in, strong-out for another cannot be rescaled away.
    [..., n_hidden], 0 for a unit that serves fewer than two `served_features`.

    Source: Elhage et al. 2022, "The Asymmetric Superposition Motif".
    """
    served = served_features(W1, W2, share)
    ratio = W1.abs().clamp_min(1e-12).log() - W2.mT.abs().clamp_min(1e-12).log()
    spread = ratio.masked_fill(~served, -torch.inf).amax(-1) - ratio.masked_fill(~served, torch.inf).amin(-1)
    return torch.where(served.sum(-1) > 1, spread, 0.0)
