"""Grids of toy models trained from several restarts each, and picked by held-out loss."""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lib.data.sparse_features import sparse_features
from lib.ensembles import best_restart, fit
from lib.metrics.superposition import normalised_loss
from lib.models.toy_superposition import feature_losses, initial, layout, sampled_loss

Law = Callable[[tuple[int, ...], Tensor, torch.Generator], Tensor]
"""(shape [I, samples, n], density [I, 1, 1], rng) -> features of that shape, each active with probability density."""


class Grid(NamedTuple):
    """S settings x R restarts of one model.

    Attributes:
        W: [S, R, n_hidden, n_features]; b: [S, R, n_features].
        loss: [S, R], held out over the zero predictor's loss; restarts of a setting are judged on the same samples.
    """

    W: Tensor
    b: Tensor
    loss: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """W [S, n_hidden, n_features] and b [S, n_features] of each setting's lowest loss."""
        return best_restart(self.loss, self.W, self.b)[1:]


def train_grid(
    density: Tensor,
    importance: Tensor,
    n_hidden: int,
    restarts: int,
    steps: int,
    batch: int,
    rng: torch.Generator,
    kind: str = "relu",
    law: Law = sparse_features,
    lr: float = 0.01,
) -> Grid:
    """Train `restarts` models per density as one ensemble, on fresh batches, with a cosine schedule from `lr`.

    Args:
        density: p of every feature, one per setting, [S].
        importance: I, [n_features], the same for all.
        kind: of the model, as in `lib.models.toy_superposition.forward`.
        law: how features are drawn.
        rng: every draw's source; on the device of `density`.
    """
    n, shape = len(importance), (len(density), restarts)
    p = density.repeat_interleave(restarts)[:, None, None]  # [I, 1, 1]
    weights = importance.expand(len(p), n)
    start = initial(len(p), n, n_hidden, rng)
    loss = sampled_loss(n, n_hidden, lambda: law((len(p), batch, n), p, rng), weights, kind)
    done = fit(loss, start, steps, lr, "cosine")
    W, b = (part.unflatten(0, shape) for part in layout(n, n_hidden).views(done.theta).values())
    return Grid(W, b, grid_loss(W, b, density, importance, rng, kind, law))


def grid_loss(
    W: Tensor,
    b: Tensor,
    density: Tensor,
    importance: Tensor,
    rng: torch.Generator,
    kind: str = "relu",
    law: Law = sparse_features,
    samples: int = 8192,
) -> Tensor:
    """Held-out loss [S, R] over the zero predictor's; all R models of a setting see the same samples.

    Args: as `train_grid`, with W [S, R, n_hidden, n_features] and b [S, R, n_features].
    """
    x = law((len(density), samples, len(importance)), density[:, None, None], rng)
    per_restart = [feature_losses(W[:, r], b[:, r], x, importance, kind).sum(-1) for r in range(W.shape[1])]
    return normalised_loss(torch.stack(per_restart, 1), importance, density[:, None, None])
