"""The published sparse autoencoder of the activation comparison, as it stands: no sparsity term, fixed threshold.

Linear - activation - Linear with Xavier weights, plain mean squared error, Adam at a constant rate.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.ensembles import Layout, by_autograd, train_ensemble


class Published(NamedTuple):
    """Trained arms; all share initial weights and batches.

    Attributes:
        loss: held-out mean squared error per dimension, [arms]; train_loss: the same on the training samples.
        inactive: share of latents that are 0 on held-out samples, [arms]; inactive_before: the same untrained.
        weights: all of an arm's in a row, [arms, n].
    """

    loss: Tensor
    train_loss: Tensor
    inactive: Tensor
    inactive_before: Tensor
    weights: Tensor


def activate(pre_acts: Tensor, activation: str) -> Tensor:
    """`relu`; `shifted`, the published "JumpReLU" max(h - .1, 0); or `topk K`, the K largest of each sample.

    Args:
        pre_acts: [..., n_latents].
    """
    if activation == "relu":
        return pre_acts.relu()
    if activation == "shifted":
        return (pre_acts - 0.1).relu()
    name, _, k = activation.partition(" ")
    if name != "topk" or not k.isdigit():
        raise ValueError(f"activation {activation!r} is not relu, shifted or topk K")
    kept = pre_acts.topk(int(k), dim=-1)
    return torch.zeros_like(pre_acts).scatter(-1, kept.indices, kept.values)


def train_published_sae(
    x: Tensor, held_out: Tensor, activations: Sequence[str], n_latents: int, epochs: int, rng: torch.Generator,
    batch: int = 64, lr: float = 1e-3,
) -> Published:
    """Train one autoencoder per activation, all from one initialisation and on the same batches.

    Args:
        x: standardised samples, [n, d]; held_out: [n_held, d].
        rng: draws the weights and the order of samples, on x's device.
        epochs, batch, lr: theirs are 100, 64 and 1e-3.
    """
    d, arms = x.shape[1], len(activations)
    names = Layout(W1=(d, n_latents), b1=(n_latents,), W2=(n_latents, d), b2=(d,))
    theta = _xavier(names, d, n_latents, rng).expand(arms, -1)
    per_epoch = math.ceil(len(x) / batch)
    order: list[Tensor] = []

    def loss(table: Tensor) -> Tensor:
        if not order:
            order.extend(torch.randperm(len(x), generator=rng, device=rng.device).split(batch))
        part = x[order.pop()]
        return (_forward(names, table, part, activations)[1] - part).square().mean((1, 2))

    before = _forward(names, theta, held_out, activations)[0]
    done = train_ensemble(by_autograd(loss), theta, epochs * per_epoch, lr).theta
    latents, recons = _forward(names, done, held_out, activations)
    train = (_forward(names, done, x, activations)[1] - x).square().mean((1, 2))
    inactive, untrained = ((f == 0).double().mean((1, 2)) for f in (latents, before))
    return Published((recons - held_out).square().mean((1, 2)), train, inactive, untrained, done)


def _xavier(names: Layout, d: int, n_latents: int, rng: torch.Generator) -> Tensor:
    bound = math.sqrt(6 / (d + n_latents))
    table = (2 * torch.rand(1, names.size, generator=rng, device=rng.device) - 1) * bound
    views = names.views(table)
    for name in ("b1", "b2"):
        views[name].zero_()
    return table


def _forward(names: Layout, theta: Tensor, x: Tensor, activations: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Latents [arms, n, n_latents] and reconstructions [arms, n, d]."""
    at = names.views(theta)
    h = x @ at["W1"] + at["b1"].unsqueeze(1)  # [arms, n, n_latents]
    latents = torch.stack([activate(h[arm], name) for arm, name in enumerate(activations)])
    return latents, torch.baddbmm(at["b2"].unsqueeze(1), latents, at["W2"])
