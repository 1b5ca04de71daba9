"""The published training of the toy model, replicated to the bit where floats allow: legacy draws, batch-1 Adam.

The published programme trains one x' = ReLU(W^T W x + b) per call with a NumPy loop over samples. Here all (sparsity,
seed) pairs walk in lock-step; each sees its own data in its own order, so every trajectory is that of the loop.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.ensembles import Adam
from lib.tensors import denormals_flushed


def legacy_toy_data(seed: int, n_features: int, sparsity: float, samples: int) -> np.ndarray:
    """The published data set, Bernoulli(1-S) * U(0, 1), drawn as after np.random.seed(seed); [samples, n_features]."""
    rng = np.random.RandomState(seed)
    active = rng.binomial(1, 1 - sparsity, size=(samples, n_features))
    return rng.uniform(0, 1, size=(samples, n_features)) * active


def legacy_init(seed: int, n_features: int, n_hidden: int) -> np.ndarray:
    """The published initial weights, N(0, .01^2), drawn after np.random.seed(seed); [n_hidden, n_features]."""
    return np.random.RandomState(seed).normal(0, 0.01, size=(n_hidden, n_features))


class Online(NamedTuple):
    """Models trained one sample at a time.

    Attributes:
        W: [I, n_hidden, n_features]; b: [I, n_features].
        epoch_loss: [epochs, I], mean over the epoch of the loss before each update, as the published loop prints it.
    """

    W: Tensor
    b: Tensor
    epoch_loss: Tensor


@torch.no_grad()
def train_online(X: Tensor, W: Tensor, importance: Tensor, epochs: int, lr: float = 0.01) -> Online:
    """Batch-1 Adam at a constant rate over the samples in order, `epochs` times; b starts at 0.

    Models lie along the last axis of every array, so each step is a dozen dense sweeps and no tiny matrix product.

    Args:
        X: [samples, n_features, I], model i reads X[:, :, i]; importance: [I, n_features].
        W: initial weights, [I, n_hidden, n_features].
    """
    (models, k, n), samples = W.shape, len(X)
    if X.shape[1:] != (n, models) or importance.shape != (models, n):
        raise ValueError(f"W {tuple(W.shape)}, X {tuple(X.shape)}, importance {tuple(importance.shape)} do not agree")
    table = torch.cat([W.permute(1, 2, 0).reshape(k * n, models), W.new_zeros(n, models)])  # [P, I]
    adam, step, weight = Adam(table), _OnlineGradient(table, k, n, importance.T), importance.T.contiguous()
    losses = []
    with denormals_flushed():
        for _ in range(epochs):
            step.squared_error.zero_()
            for x in X:
                adam.step(step(x), lr)
            losses.append((step.squared_error * weight).sum(0) / samples)
    final = table[: k * n].unflatten(0, (k, n)).permute(2, 0, 1).contiguous()
    return Online(final, table[k * n :].T.contiguous(), torch.stack(losses))


def train_published_toy(
    cells: list[tuple[float, int]], n_features: int, n_hidden: int, importance: np.ndarray, samples: int, epochs: int,
    device: torch.device,
) -> Online:
    """Train one model per (sparsity, seed), data and initial weights both drawn from that seed, as published.

    Args:
        importance: I, [n_features] or one row per cell.
        samples, epochs: length of the data set and passes over it (theirs 10000 and 10).
    """
    X = torch.empty(samples, n_features, len(cells))
    for i, (sparsity, seed) in enumerate(cells):
        X[:, :, i] = torch.from_numpy(legacy_toy_data(seed, n_features, sparsity, samples))
    W = np.stack([legacy_init(seed, n_features, n_hidden) for _, seed in cells])
    weights = np.broadcast_to(importance, (len(cells), n_features))
    W, weights = (torch.tensor(array, dtype=torch.float32, device=device) for array in (W, weights))
    return train_online(X.to(device), W, weights, epochs)


class _OnlineGradient:
    """Gradient of one sample per model, into buffers reused at every step; sums the squared errors on the way."""

    def __init__(self, table: Tensor, k: int, n: int, importance: Tensor):
        self.W, self.b = table[: k * n].unflatten(0, (k, n)), table[k * n :]  # [k, n, I], [n, I]
        self.grad = torch.zeros_like(table)
        self.gW, self.g = self.grad[: k * n].unflatten(0, (k, n)), self.grad[k * n :]
        self.twice = (2 * importance).contiguous()
        self.products = torch.empty_like(self.gW)
        self.h, self.Wg = (table.new_empty(k, 1, table.shape[1]) for _ in range(2))
        self.pre, self.squared_error = torch.empty_like(self.b), torch.zeros_like(self.b)

    def __call__(self, x: Tensor) -> Tensor:
        torch.mul(self.W, x, out=self.products)
        torch.sum(self.products, 1, keepdim=True, out=self.h)  # W x
        torch.mul(self.W, self.h, out=self.products)
        torch.sum(self.products, 0, out=self.pre)  # W^T h
        self.pre.add_(self.b)
        d = self.pre.clamp_min(0).sub_(x)
        self.squared_error.addcmul_(d, d)
        torch.mul(d, self.twice, out=self.g)
        self.g.mul_(self.pre > 0)
        torch.mul(self.W, self.g, out=self.products)
        torch.sum(self.products, 1, keepdim=True, out=self.Wg)
        torch.mul(self.Wg, x, out=self.gW)
        self.gW.addcmul_(self.h, self.g)  # (W g) x^T + h g^T
        return self.grad
