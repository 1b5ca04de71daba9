"""The published sparse autoencoder of the similarity study: batch-1 Adam, untied, unconstrained, lambda .01.

The published programme is a NumPy loop over samples. Here many coders walk in lock-step, along the last axis.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lib.ensembles import Adam
from lib.tensors import denormals_flushed


@torch.no_grad()
def train_coders(
    x: Tensor, seeds: Sequence[int], n_latents: int, passes: int, lam: float = 0.01, lr: float = 0.001
) -> dict[str, Tensor]:
    """Train one coder per seed over its samples in order, `passes` times.

    f = relu(W_enc x + b_enc), x̂ = W_dec f + b_dec, loss |x̂ - x|^2 + lam sum f per sample.

    Args:
        x: [samples, m, coders].
        seeds: legacy NumPy seeds of the initial weights, N(0, .01^2), encoder drawn first.
    Returns:
        W_enc and W_dec [coders, n_latents, m], b_enc [coders, n_latents], b_dec [coders, m].
    Source: Ilube, branch master, src/models_numpy.py.
    """
    m, coders, size = x.shape[1], len(seeds), n_latents * x.shape[1]
    if x.shape[2] != coders:
        raise ValueError(f"x has samples for {x.shape[2]} coders, {coders} seeds are given")
    table = x.new_zeros(2 * size + n_latents + m, coders)
    W_enc, W_dec = (table[i * size : (i + 1) * size].unflatten(0, (n_latents, m)) for i in range(2))
    b_enc, b_dec = table[2 * size :].split((n_latents, m))
    for i, seed in enumerate(seeds):
        rng = np.random.RandomState(seed)
        W_enc[:, :, i] = torch.from_numpy(rng.normal(0, 0.01, (n_latents, m)))
        W_dec[:, :, i] = torch.from_numpy(rng.normal(0, 0.01, (m, n_latents)).T)
    grad, adam = torch.zeros_like(table), Adam(table)
    g_enc, g_dec = (grad[i * size : (i + 1) * size].unflatten(0, (n_latents, m)) for i in range(2))
    gb_enc, gb_dec = grad[2 * size :].split((n_latents, m))
    with denormals_flushed():
        for _ in range(passes):
            for each in x:
                pre = (W_enc * each).sum(1).add_(b_enc)  # [n_latents, coders]
                f = pre.clamp_min(0)
                torch.mul((W_dec * f[:, None]).sum(0).add_(b_dec).sub_(each), 2, out=gb_dec)
                torch.mul(f[:, None], gb_dec, out=g_dec)
                torch.mul((W_dec * gb_dec).sum(1).add_(lam), pre > 0, out=gb_enc)
                torch.mul(gb_enc[:, None], each, out=g_enc)
                adam.step(grad, lr)
    found = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec}
    return {name: value.movedim(-1, 0).contiguous() for name, value in found.items()}
