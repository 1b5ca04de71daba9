"""How easily superposition is attacked: the worst small change of a toy model's input."""
from __future__ import annotations

import torch
from torch import Tensor

from lib.data.sparse_features import sparse_features
from lib.models.toy_superposition import forward


def strongest_attack(
    W: Tensor, b: Tensor, x: Tensor, norm: float, rng: torch.Generator, starts: int = 4, steps: int = 20
) -> Tensor:
    """Squared error of x' = ReLU(W^T W (x + δ) + b) against x under the worst δ found with |δ| = norm.

    Each step moves δ to norm times the direction of the gradient, which never lowers a convex error; the error is
    convex within a linear region, so several random starts are followed and the best point seen is kept.

    Args:
        W: [I, n_hidden, n_features]; b: [I, n_features]; x: [I, samples, n_features].
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
