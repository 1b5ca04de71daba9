"""Grids of toy models trained from several restarts each and judged on held-out samples."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from lib.data.sparse_features import correlated_groups, sparse_features
from lib.ensembles import Layout, best_restart, by_autograd, train_ensemble
from lib.models import toy_superposition as toy
from lib.params import Count, Options, Positive
from lib.tensors import own_session

Law = Callable[[tuple[int, ...], Tensor, torch.Generator], Tensor]
"""(shape [I, samples, n], density [I, 1, 1], rng) -> features of that shape, each active with probability density."""


HELD_OUT = 8192
"""Samples that models are judged on."""


class GridOptions(Options):
    """What a grid's models are, beside their sizes, and how they are trained."""

    owner: ClassVar = "train_grid"
    kind: str = Field("relu", description="of the model, as in `lib.models.toy_superposition.forward`")
    law: Callable[..., Tensor] = Field(sparse_features, description="how features are drawn, a `Law`")
    lr: Positive = Field(0.01, description="of Adam, with a cosine to 0")
    log_at: tuple[Count, ...] = Field((), description="steps whose minibatch loss is kept, beside the last")


class Grid(NamedTuple):
    """S settings x R restarts of one model.

    Attributes:
        W: [S, R, n_hidden, n_features]; b: [S, R, n_features].
        loss: [S, R], held out over the zero predictor's loss; restarts of a setting are judged on the same samples.
        steps: the T logged steps; history: [T, S, R], the minibatch loss at those, not divided by anything.
    """

    W: Tensor
    b: Tensor
    loss: Tensor
    steps: list[int]
    history: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """W [S, n_hidden, n_features] and b [S, n_features] of each setting's lowest loss."""
        return best_restart(self.loss, self.W, self.b)[1:]


@own_session()
def train_grid(
    density: Tensor, importance: Tensor, n_hidden: int, restarts: int, steps: int, batch: int, rng: torch.Generator,
    **options: Any,
) -> Grid:
    """Train `restarts` models per density as one ensemble, on fresh batches.

    Args:
        density: p of every feature, one per setting, [S].
        importance: I, [n_features], the same for all.
        rng: source of every draw, on the device of `density`.
        options: of `GridOptions`: kind, law, lr, log_at.
    """
    chosen = GridOptions(**options)
    n, shape = len(importance), (len(density), restarts)
    p = density.repeat_interleave(restarts)[:, None, None]  # [I, 1, 1]
    start = toy.initial(len(p), n, n_hidden, rng)
    weights = importance.expand(len(p), n)
    loss = toy.sampled_loss(n, n_hidden, lambda: chosen.law((len(p), batch, n), p, rng), weights, chosen.kind)
    done = train_ensemble(loss, start, steps, chosen.lr, "cosine", chosen.log_at)
    W, b = (part.unflatten(0, shape) for part in toy.layout(n, n_hidden).views(done.theta).values())
    x = chosen.law((len(density), HELD_OUT, n), density[:, None, None], rng)
    losses = [toy.feature_losses(W[:, r], b[:, r], x, importance, chosen.kind).sum(-1) for r in range(restarts)]
    held_out = toy.normalised_loss(torch.stack(losses, 1), importance, density[:, None, None])  # [S, R]
    return Grid(W, b, held_out, done.steps, done.losses.unflatten(1, shape))


PAIRS = ("independent", "correlated", "anticorrelated")


def pair_law(kind: str) -> Law:
    """How pairs of neighbouring features are drawn, one of `PAIRS`."""
    if kind == "independent":
        return sparse_features
    return lambda shape, p, rng: correlated_groups(shape, p[..., None], rng, group_size=2, kind=kind)


def train_absolute(
    density: Tensor, importance: Tensor, n_hidden: int, steps: int, batch: int, rng: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Train one absolute-value model per density, x_i = Bernoulli(p) * U(-1, 1), with a cosine schedule from .003.

    Args: as `train_grid`.
    Returns:
        W1 [S, n_hidden, n_features], W2 [S, n_features, n_hidden], b [S, n_features] by name; and the held-out error
        (|x_i| - y'_i)^2 of each feature, [S, n_features].
    """
    settings, n, p = len(density), len(importance), density[:, None, None]
    names = Layout(W1=(n_hidden, n), W2=(n, n_hidden), b=(n,))

    def draw(samples: int = batch) -> Tensor:
        u = sparse_features((settings, samples, n), p, rng)
        return torch.where(u > 0, 2 * u - 1, 0)

    def errors(theta: Tensor, x: Tensor) -> Tensor:
        return (toy.absolute_forward(**names.views(theta), x=x) - x.abs()).square().mean(1)

    # from a larger start, one of the two units a rare feature needs (for x > 0 and for x < 0) dies before it is used
    scale = 0.1 * (2 / (n_hidden + n)) ** 0.5
    start = torch.randn(settings, names.size, generator=rng, device=rng.device) * scale
    names.views(start)["b"].zero_()
    loss = by_autograd(lambda theta: (errors(theta, draw()) * importance).sum(1))
    done = train_ensemble(loss, start, steps, 0.003, "cosine").theta
    return names.views(done), errors(done, draw(HELD_OUT))
