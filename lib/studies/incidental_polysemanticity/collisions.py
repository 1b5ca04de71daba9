"""The one-layer tied model of incidental polysemanticity, y = ReLU(W Wᵀ x), many instances at once.

n features in m units, x the n basis vectors. Noise of negative excess kurtosis on the units leaves each feature one
unit; features that choose the same unit collide, although there is room for all.
"""
from __future__ import annotations

import torch
from torch import Tensor

from lib.rng import generator
from lib.studies.incidental_polysemanticity.noise import unit_noise
from lib.tensors import as_array, denormals_flushed, device_named

SIGMA = 0.15
"""Standard deviation of the noise."""


@torch.no_grad()
def tied(n: int, m: int, instances: int, steps: int, seed: int, device: str, noise: str, lr: float = 0.02) -> dict:
    """Train from W ~ N(0, 1/m) on all n basis vectors at once by plain gradient descent on the sum of squared errors.

    Starts come from the stream (seed, "collisions", "init") whatever the noise, so that laws of noise are paired.

    Args:
        noise: a law of `noise`, or none; one draw [m] of size SIGMA per step and instance, shared by the n inputs.
    Returns:
        step: 12 steps from the first to the last; W: [12, I, n, m] after each of them, one row per feature.
    Source: Lecomte et al. 2023, arXiv 2312.03096.
    """
    on = device_named(device)
    W = torch.randn(instances, n, m, generator=generator(seed, "collisions", "init")).div(m**0.5).to(on)
    rng = generator(seed, "collisions", "noise", noise, device=on)
    at = sorted({1 + round(i * (steps - 1) / 11) for i in range(12)})
    kept = []
    with denormals_flushed():
        for step in range(1, steps + 1):
            hidden = W if noise == "none" else W + SIGMA * unit_noise(noise, (instances, 1, m), rng)
            W = W.sub(gradient(W, hidden), alpha=lr)
            if step in at:
                kept.append(W)
    if not W.isfinite().all():
        raise ValueError(f"{int((~W.isfinite()).any((1, 2)).sum())} of {len(W)} instances diverged: lower lr")
    return {"step": at, "W": as_array(torch.stack(kept))}


def gradient(W: Tensor, hidden: Tensor) -> Tensor:
    """Gradient [I, n, m] of the sum of squared errors of ReLU(hidden Wᵀ); hidden: W or W plus noise, [I, n, m]."""
    pre = torch.bmm(hidden, W.mT)  # [I, n, n]
    error = pre.clamp_min(0)
    error.diagonal(dim1=1, dim2=2).sub_(1)
    d = torch.ops.aten.threshold_backward(error, pre, 0).mul_(2)
    return torch.bmm(d, W).baddbmm_(d.mT, hidden)
