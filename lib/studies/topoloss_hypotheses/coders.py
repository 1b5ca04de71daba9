"""Sparse coders of a model's activations: what they cost, what their latents prefer, what the model loses with them.

x is [n_samples, d] on any device. Coders of one frontier share their start and their batches and differ in k.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.activations.sites import Site
from lib.metrics import sparsity
from lib.metrics.selectivity import class_means, label_permutation_null, peak_share, silent_units
from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit

PUBLISHED_L1 = 0.001
"""Weight of the mean latent beside the mean squared error in the published coder."""


class Standard(NamedTuple):
    """Mean and standard deviation of each dimension, [d]."""

    mean: Tensor
    std: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """(x - mean) / std, [..., d]."""
        return (x - self.mean) / self.std

    def undo(self, x: Tensor) -> Tensor:
        """x std + mean, [..., d]."""
        return x * self.std + self.mean


def standard(x: Tensor) -> Standard:
    """Of each dimension of x, [n_samples >= 2, d]; a dimension that never changes is only centred."""
    std = x.std(0)
    return Standard(x.mean(0), torch.where(std > 0, std, 1))


def topk_sweep(
    x: Tensor, expansion: int, ks: Sequence[int], steps: int, batch: int, seed: int, lr: float = 2e-3
) -> list[SparseCoder]:
    """TopK coders with unit-norm decoder rows, one per k, trained from one start on the same batches.

    Args:
        x: standardised activations, [n_samples, d]; expansion: latents per dimension; ks: active latents per sample.
        steps, batch, lr: of training; the rate falls over its last quarter. seed: of directions and batches.
    """
    d = x.shape[1]
    coders = [SparseCoder(d, expansion * d, "topk", k=k, seed=seed, device=x.device) for k in ks]
    fit(coders, x, steps=steps, batch_size=batch, lr=lr, lr_decay=0.25, seed=seed, held_out=x[:16], progress=False)
    return coders


class PublishedCoder(nn.Module):
    """The published coder: biases in the encoder alone, decoder rows of any length that start from zero.

    Source: TopoSAE, H2.
    """

    def __init__(self, d: int, n_latents: int, seed: int):
        super().__init__()
        drawn = torch.rand(n_latents, d, generator=torch.Generator().manual_seed(seed))
        self.W_enc = nn.Parameter((2 * drawn - 1) * (6 / d) ** 0.5)  # He's uniform
        self.b_enc = nn.Parameter(torch.zeros(n_latents))
        self.W_dec = nn.Parameter(torch.zeros(n_latents, d))

    def encode(self, x: Tensor) -> Tensor:
        """Latents, [..., n_latents]."""
        return F.relu(x @ self.W_enc.T + self.b_enc)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction, [..., d]."""
        return self.encode(x) @ self.W_dec


def published_coder(x: Tensor, expansion: int, epochs: int, seed: int) -> PublishedCoder:
    """The published coder trained on raw activations: mean squared error + .001 mean latent, Adam at .001, no clipping.

    Args:
        x: activations as they are, [n_samples, d]; expansion: latents per dimension.
        epochs: passes over x in batches of 256. seed: of weights and batches.
    Source: TopoSAE, H2.
    """
    coder, order = PublishedCoder(x.shape[1], expansion * x.shape[1], seed).to(x.device), generator(seed, "batches")
    adam = torch.optim.Adam(coder.parameters(), lr=1e-3)
    for _ in range(epochs):
        for some in torch.randperm(len(x), generator=order).to(x.device).split(256):
            latents = coder.encode(x[some])
            loss = F.mse_loss(latents @ coder.W_dec, x[some]) + PUBLISHED_L1 * latents.mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    return coder


@torch.no_grad()
def cost(coder: SparseCoder | PublishedCoder, x: Tensor) -> dict[str, float]:
    """fvu, l0 and the share of latents dead over all of x, on samples the coder has not seen."""
    latents = coder.encode(x)
    dead = sparsity.dead_fraction(sparsity.samples_since_fired(latents), len(latents))
    return {"fvu": sparsity.fvu(x, coder(x)), "l0": sparsity.l0(latents), "dead": dead}


@torch.no_grad()
def latent_selectivity(
    coder: SparseCoder, x: Tensor, labels: np.ndarray, rng: np.random.Generator, n: int = 10
) -> dict[str, float]:
    """Mean over latents in use of the share of their largest class mean, and the same with the labels permuted.

    Rarely active latents look selective by chance: `peak` says nothing without `peak_null`, nor across different l0.

    Args:
        labels: ints [n_samples]; n: permutations.
    Source: TopoSAE, EXP_012b.
    """
    latents = coder.encode(x).cpu().numpy()
    used = latents[:, ~silent_units(latents)]
    null = label_permutation_null(used, labels, peak_share, n, rng)
    return {"peak": float(peak_share(class_means(used, labels)).mean()), "peak_null": float(null.mean())}


@torch.no_grad()
def cross_entropy_added(site: Site, coder: SparseCoder, scale: Standard) -> float:
    """Cross-entropy with every token at the site replaced by its reconstruction, less the model's own.

    The site is of `open_site` with labelled images, the coder of activations standardised by `scale`.
    """
    tokens = site.acts.movedim(site.unit_dim, -1)  # [n, ..., d]
    flat = scale.apply(tokens.reshape(-1, site.n_units))
    recons = scale.undo(coder(flat)).reshape(tokens.shape).movedim(-1, site.unit_dim)
    both = site.tail(recons.contiguous(), site.images), site.logits
    changed, own = (float(F.cross_entropy(logits.float(), site.labels)) for logits in both)
    return changed - own
