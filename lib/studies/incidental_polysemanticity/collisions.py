"""The one-layer tied model of incidental polysemanticity, y = ReLU(W Wᵀ x), many instances at once.

n features in m units, x the n basis vectors. A penalty on sum|W|, or noise of negative excess kurtosis on the units,
leaves each feature one unit; features that choose the same unit collide, although there is room for all.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lib.ensembles import Layout, train_ensemble
from lib.rng import generator
from lib.studies.incidental_polysemanticity.noise import unit_noise
from lib.tensors import as_array, denormals_flushed, device_named

SIGMA = 0.15
"""Standard deviation of the noise."""


def tied(
    n: int, m: int, instances: int, steps: int, seed: int, device: str, penalty: float = 0.0, noise: str = "none",
    sgd: float | None = None, log_at: Sequence[int] = (),
) -> dict:
    """Train from W ~ N(0, 1/m) on all n basis vectors at once: sum of squared errors + penalty * sum|W|.

    Starts come from the stream (seed, "collisions", "init") whatever the noise, so that laws of noise are paired.

    Args:
        noise: a law of `noise`, or none; one draw [m] of size SIGMA per step and instance, shared by the n inputs.
        sgd: rate of plain gradient descent; None: AdamW at rate .001 with decay .01.
        log_at: steps whose W is kept; the last is always.
    Returns:
        start [I, n, m], one row per feature; step [T]; history [T, I, n, m], W at the logged steps.
    Source: Lecomte et al. 2023, arXiv 2312.03096.
    """
    on = device_named(device)
    start = torch.randn(instances, n, m, generator=generator(seed, "collisions", "init")).div(m**0.5).to(on)
    rng = generator(seed, "collisions", "noise", noise, device=on)

    def hidden(W: Tensor) -> Tensor:
        return W if noise == "none" else W + SIGMA * unit_noise(noise, (instances, 1, m), rng)

    at = sorted({*log_at, steps})
    history = _adamw(start, at, hidden, penalty) if sgd is None else _descend(start, at, sgd, hidden, penalty)
    return {"start": as_array(start), "step": at, "history": as_array(history)}


def loss_and_gradient(W: Tensor, hidden: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Sum of squared errors plus penalty [I], and its gradient [I, n, m]; hidden: W or W plus noise, [I, n, m]."""
    pre = torch.bmm(hidden, W.mT)  # [I, n, n]
    error = pre.clamp_min(0)
    error.diagonal(dim1=1, dim2=2).sub_(1)
    loss = error.square().sum((1, 2)) + penalty * W.abs().sum((1, 2))
    d = torch.ops.aten.threshold_backward(error, pre, 0).mul_(2)
    return loss, torch.bmm(d, W).baddbmm_(d.mT, hidden).add_(W.sign(), alpha=penalty)


def _adamw(start: Tensor, at: list[int], hidden: Callable, penalty: float) -> Tensor:
    names, lr = Layout(W=tuple(start.shape[1:])), 1e-3

    def step(theta: Tensor, grad: Tensor) -> Tensor:
        W = names.views(theta)["W"]
        loss, gradient = loss_and_gradient(W, hidden(W), penalty)
        names.views(grad)["W"].copy_(gradient)
        theta.mul_(1 - lr * 0.01)  # AdamW decays before it steps
        return loss

    done = train_ensemble(step, names.pack(W=start), at[-1], lr, log_at=at, snapshots=True)
    return names.views(done.tables)["W"]


@torch.no_grad()
def _descend(start: Tensor, at: list[int], lr: float, hidden: Callable, penalty: float) -> Tensor:
    W, history = start.clone(), []
    with denormals_flushed():
        for step in range(1, at[-1] + 1):
            W.sub_(loss_and_gradient(W, hidden(W), penalty)[1], alpha=lr)
            if step in at:
                history.append(W.clone())
    if not W.isfinite().all():
        raise ValueError(f"{int((~W.isfinite()).any((1, 2)).sum())} of {len(W)} instances diverged: lower lr")
    return torch.stack(history)
