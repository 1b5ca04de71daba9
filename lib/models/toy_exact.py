"""Tiny toy models trained on their exact expected loss: phase diagram, minima followed over a setting, dynamics."""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lib.ensembles import best_restart, train_ensemble
from lib.models import toy_superposition as toy


class PhaseGrid(NamedTuple):
    """Best models over density x importance.

    Attributes:
        W: best restart, [G, H, n_features - 1, n_features]; loss: of every restart, [G, H, R];
        agreeing: share of restarts within 2 % of the cell's best loss, [G, H].
    """

    W: Tensor
    loss: Tensor
    agreeing: Tensor


def phase_grid(
    density: Tensor, extra: Tensor, n_features: int, restarts: int, steps: int, rng: torch.Generator
) -> PhaseGrid:
    """Train n_features features in n_features - 1 dimensions at every density and importance of the last one.

    Args:
        density: p of every feature, [G]; extra: importance of the last feature, [H], the others have 1.
        n_features: 2 or 3; quadrature takes 8 nodes per feature or, with three, 4 (125 points).
        restarts, steps: per cell; cosine schedule from .05.
    """
    shape, n_hidden = (len(density), len(extra), restarts), n_features - 1
    p = density[:, None, None, None].expand(*shape, n_features).reshape(-1, n_features)
    importance = torch.ones_like(p).unflatten(0, shape)
    importance[..., -1] = extra[:, None]
    exact = toy.expected_loss(n_hidden, p, importance.flatten(0, 2), nodes=8 if n_features == 2 else 4)
    done = train_ensemble(exact, toy.initial(len(p), n_features, n_hidden, rng), steps, 0.05, "cosine")
    loss = (done.losses[-1] * p[:, 0]).view(shape)  # undo the scaling by 1/p
    best, W = best_restart(loss, toy.layout(n_features, n_hidden).views(done.theta)["W"].unflatten(0, shape))
    return PhaseGrid(W, loss, (loss <= 1.02 * best[..., None]).float().mean(-1))


def follow_minima(p: Tensor, importance: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Descend from the pentagon and from two antipodal pairs that leave feature 0 out: five features in the plane.

    Args:
        p, importance: of each feature at each of F settings, [F, 5].
        steps: at a small rate (.003, cosine), so that a start stays in its minimum while there is one.
    Returns:
        W [F, 2, 2, 5] and b [F, 2, 5], second axis (pentagon, pairs); loss [F, 2], exact, over the zero predictor's.
    """
    turn = torch.arange(5) * (2 * math.pi / 5)
    pairs = torch.tensor([[0.01, 1, -1, 0, 0], [0.01, 0, 0, 1, -1]])  # at 0 its gradient could be exactly 0
    W = torch.stack([torch.stack([turn.cos(), turn.sin()]), pairs]).to(p).repeat(len(p), 1, 1)
    p, importance = p.repeat_interleave(2, 0), importance.repeat_interleave(2, 0)
    names = toy.layout(5, 2)
    start = names.pack(W=W, b=torch.zeros_like(p))
    done = train_ensemble(toy.expected_loss(2, p, importance, nodes=4), start, steps, 0.003, "cosine")
    exact = toy.expected_loss(2, p, importance, nodes=8, scaled=False)(done.theta, torch.empty_like(start))
    W, b = (part.unflatten(0, (-1, 2)) for part in names.views(done.theta).values())
    return W, b, toy.normalised_loss(exact, importance, p).view(-1, 2)


def learning_curves(restarts: int, steps: int, rng: torch.Generator) -> tuple[list[int], Tensor, Tensor]:
    """Five equal features in the plane (S = .95) learned slowly from a small start, logged every ten steps.

    Returns:
        the T logged steps; W [T, restarts, 2, 5]; loss [T, restarts], exact, over the zero predictor's.
    """
    p = torch.full((restarts, 5), 0.05, device=rng.device)
    exact, start = toy.expected_loss(2, p, torch.ones_like(p), nodes=4), 0.1 * toy.initial(restarts, 5, 2, rng)
    done = train_ensemble(exact, start, steps, 0.003, log_at=range(1, steps, 10), snapshots=True)
    loss = toy.normalised_loss(done.losses * 0.05, torch.ones_like(p), p)  # undo the scaling by 1/p
    return done.steps, toy.layout(5, 2).views(done.tables)["W"], loss
