"""How features use units and how easily superposition is attacked: privileged bases, circuits, perturbations."""
from __future__ import annotations

import numpy as np
import torch
from scipy.stats import special_ortho_group
from torch import Tensor

from lib.data.sparse_features import sparse_features
from lib.metrics.superposition import is_represented
from lib.models.toy_superposition import forward


def basis_concentration(W: Tensor, threshold: float = 0.5) -> Tensor:
    """How far represented features lie along single units, mean_i max_k W_ki^2 / |W_i|^2.

    1 when every feature has one unit; a random direction in k dimensions reads about (2 ln k)/k for large k.

    Args:
        W: [..., n_hidden, n_features].
        threshold: as in `is_represented`; features below it do not count.
    Returns:
        [...]; nan where no feature is represented.
    Source: Elhage et al. 2022, "Superposition in a Privileged Basis".
    """
    squared = W.square()
    share = squared.amax(-2) / squared.sum(-2).clamp_min(torch.finfo(W.dtype).tiny)  # [..., n]
    stored = is_represented(W, threshold)
    return (share * stored).sum(-1) / stored.sum(-1)


def random_rotations(W: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """W in `count` uniformly random frames of its hidden space: the null of anything that reads single units.

    Args:
        W: [n_hidden, n_features].
    Returns:
        [count, n_hidden, n_features]; every W^T W is the same.
    """
    turns = special_ortho_group.rvs(W.shape[0], size=count, random_state=rng)  # [count, n_hidden, n_hidden]
    return torch.from_numpy(turns).to(W) @ W


def served_features(W1: Tensor, W2: Tensor, share: float = 0.1) -> Tensor:
    """Which features each unit computes: |W1_ui W2_iu| above `share` of the largest such product in the model.

    Args:
        W1: [..., n_hidden, n_features]; W2: [..., n_features, n_hidden].
    Returns:
        bool, [..., n_hidden, n_features].
    """
    strength = (W1 * W2.mT).abs()
    return strength > share * strength.amax((-2, -1), keepdim=True)


def circuit_asymmetry(W1: Tensor, W2: Tensor, share: float = 0.1) -> Tensor:
    """Spread of log(|W1_ui| / |W2_iu|) over the features a unit serves, max minus min; the asymmetric motif is large.

    A unit's scale may move between W1 and W2 without changing the function, but it moves all its ratios together:
    a unit that is strong-in, weak-out for one feature and weak-in, strong-out for another cannot be rescaled away.

    Args:
        W1: [..., n_hidden, n_features]; W2: [..., n_features, n_hidden]; share: as in `served_features`.
    Returns:
        [..., n_hidden], 0 for a unit that serves fewer than two features.
    Source: Elhage et al. 2022, "The Asymmetric Superposition Motif".
    """
    served = served_features(W1, W2, share)
    ratio = W1.abs().clamp_min(1e-12).log() - W2.mT.abs().clamp_min(1e-12).log()
    spread = ratio.masked_fill(~served, -torch.inf).amax(-1) - ratio.masked_fill(~served, torch.inf).amin(-1)
    return torch.where(served.sum(-1) > 1, spread, 0.0)


def strongest_attack(
    W: Tensor, b: Tensor, x: Tensor, norm: float, rng: torch.Generator, starts: int = 4, steps: int = 20
) -> Tensor:
    """Squared error of x' = ReLU(W^T W (x + δ) + b) against x under the worst δ found with |δ| = norm.

    Each step moves δ to norm times the direction of the gradient, which never lowers a convex error; the error is
    convex within a linear region, so several random starts are followed and the best point seen is kept.

    Args:
        W: [I, n_hidden, n_features]; b: [I, n_features]; x: [I, samples, n_features].
        rng: draws the starting directions; starts, steps: of the search.
    Returns:
        [I, samples], never below the error at the best starting direction.
    Source: Elhage et al. 2022, "Superposition and Adversarial Robustness".
    """
    models, samples, n = x.shape
    target = x.repeat(1, starts, 1)  # [I, starts * samples, n]
    gram = W.mT @ W  # [I, n, n]
    delta = torch.randn(target.shape, generator=rng, dtype=x.dtype, device=x.device)
    worst = x.new_zeros(models, starts * samples)
    for _ in range(steps):
        delta = delta * (norm / torch.linalg.vector_norm(delta, dim=-1, keepdim=True).clamp_min(1e-12))
        d = forward(W, b, target + delta) - target
        worst = torch.maximum(worst, d.square().sum(-1))
        gate = ((target + delta) @ gram + b.unsqueeze(1)) > 0
        delta = (d * gate) @ gram
    return worst.view(models, starts, samples).amax(1)


def attacked_losses(
    W: Tensor, b: Tensor, density: Tensor, norm: float, inputs: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Squared error of grids of toy models before and under `strongest_attack`, equal importances, mean over inputs.

    Args:
        W: [A, R, n_hidden, n_features]; b: [A, R, n_features]; density: p of every feature, [A].
        norm: of the perturbation; inputs: fresh ones per model.
    Returns:
        clean and attacked, both [A, R].
    """
    shape = W.shape[:2]
    W, b = W.flatten(0, 1), b.flatten(0, 1)
    p = density.repeat_interleave(shape[1])[:, None, None]
    x = sparse_features((len(W), inputs, W.shape[2]), p, rng)
    clean = (forward(W, b, x) - x).square().sum(-1)
    attacked = strongest_attack(W, b, x, norm, rng)
    return clean.mean(1).view(shape), attacked.mean(1).view(shape)
