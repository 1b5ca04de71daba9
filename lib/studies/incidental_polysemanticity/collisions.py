"""The one-layer tied model of incidental polysemanticity, y = ReLU(W Wᵀ x), many instances at once.

n features in m units, x the n basis vectors. A penalty on sum|W|, or noise of negative excess kurtosis on the units,
leaves each feature one unit; features that choose the same unit collide, although there is room for all.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lib.ensembles import Layout, train_ensemble
from lib.rng import generator
from lib.studies.incidental_polysemanticity.noise import unit_noise
from lib.tensors import denormals_flushed

UNIT_WEIGHT = (0.8, 1.2)
"""|W| of a feature that a unit represents."""


class Ensemble(NamedTuple):
    """Trained instances.

    Attributes:
        W: one row per feature, one column per unit, [I, n, m]; start: the same before training.
        steps: the T logged steps; history: W at those, [T, I, n, m].
    """

    W: Tensor
    start: Tensor
    steps: list[int]
    history: Tensor


def train(
    n: int, m: int, instances: int, steps: int, seed: int = 0, penalty: float = 0.0, noise: str = "none",
    sigma: float = 0.15, optimiser: Literal["adamw", "sgd"] = "adamw", lr: float | None = None,
    log_at: Iterable[int] = (), device: str | torch.device = "cpu",
) -> Ensemble:
    """Train from W ~ N(0, 1/m) on all n basis vectors at once: sum of squared errors + penalty * sum|W|.

    Starts come from the stream (seed, "collisions", "init") whatever the noise, so that laws of noise are paired.

    Args:
        noise: a law of `noise`, or none; one draw [m] per step and instance, shared by the n inputs.
        sigma: its standard deviation.
        optimiser: `adamw` with decay .01 (lr .001 by default), or plain `sgd` (lr .02).
        log_at: steps whose W is kept; the last is always.
    Source: Lecomte et al. 2023, arXiv 2312.03096.
    """
    if optimiser not in ("adamw", "sgd"):
        raise ValueError(f"optimiser {optimiser!r} is not adamw or sgd")
    start = torch.randn(instances, n, m, generator=generator(seed, "collisions", "init")).div(m**0.5).to(device)
    rng = generator(seed, "collisions", "noise", noise, device=device)

    def hidden(W: Tensor) -> Tensor:
        if noise == "none":
            return W
        return W + sigma * unit_noise(noise, (instances, 1, m), rng)

    if optimiser == "sgd":
        return _descend(start, steps, lr or 0.02, hidden, penalty, {*log_at, steps})
    return _adamw(start, steps, lr or 1e-3, hidden, penalty, log_at)


def loss_and_gradient(W: Tensor, hidden: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Sum of squared errors plus penalty [I], and its gradient [I, n, m].

    Args:
        W: [I, n, m]; hidden: what the units hold for each basis vector, W itself or W plus noise, [I, n, m].
    """
    pre = torch.bmm(hidden, W.mT)  # [I, n, n]
    error = pre.clamp_min(0)
    error.diagonal(dim1=1, dim2=2).sub_(1)
    loss = error.square().sum((1, 2)) + penalty * W.abs().sum((1, 2))
    d = torch.ops.aten.threshold_backward(error, pre, 0).mul_(2)
    return loss, torch.bmm(d, W).baddbmm_(d.mT, hidden).add_(W.sign(), alpha=penalty)


Hidden = Callable[[Tensor], Tensor]


def _adamw(start: Tensor, steps: int, lr: float, hidden: Hidden, penalty: float, log_at: Iterable[int]) -> Ensemble:
    names = Layout(W=tuple(start.shape[1:]))

    def step(theta: Tensor, grad: Tensor) -> Tensor:
        W = names.views(theta)["W"]
        loss, gradient = loss_and_gradient(W, hidden(W), penalty)
        names.views(grad)["W"].copy_(gradient)
        theta.mul_(1 - lr * 0.01)  # AdamW decays before it steps
        return loss

    done = train_ensemble(step, names.pack(W=start), steps, lr, log_at=log_at, snapshots=True)
    return Ensemble(names.views(done.theta)["W"], start, done.steps, names.views(done.tables)["W"])


@torch.no_grad()
def _descend(start: Tensor, steps: int, lr: float, hidden: Hidden, penalty: float, keep: set[int]) -> Ensemble:
    W, history = start.clone(), []
    with denormals_flushed():
        for step in range(1, steps + 1):
            W.sub_(loss_and_gradient(W, hidden(W), penalty)[1], alpha=lr)
            if step in keep:
                history.append(W.clone())
    if not W.isfinite().all():
        raise ValueError(f"{int((~W.isfinite()).any((1, 2)).sum())} of {len(W)} instances diverged: lower lr")
    return Ensemble(W, start, sorted(keep), torch.stack(history))


def represented(W: Tensor, bounds: tuple[float, float] = UNIT_WEIGHT) -> Tensor:
    """Which unit represents which feature, |W| within bounds; [..., n, m] bool."""
    return (W.abs() >= bounds[0]) & (W.abs() <= bounds[1])


def polysemantic_units(W: Tensor, bounds: tuple[float, float] = UNIT_WEIGHT) -> Tensor:
    """Number of units that represent two features or more.

    Args:
        W: one row per feature, one column per unit, [..., n, m].
    Returns:
        int64, [...].
    Source: Lecomte et al. 2023.
    """
    return (represented(W, bounds).sum(-2) >= 2).sum(-1)


def opposite_sign_share(W: Tensor, bounds: tuple[float, float] = UNIT_WEIGHT) -> Tensor:
    """Among units of all instances that represent exactly two features, the share whose two weights differ in sign.

    ReLU hides a negative overlap, so a pair of opposite signs costs nothing and stays; equal signs repel.

    Args:
        W: [..., n, m].
    Returns:
        A number in [0, 1]; nan where no unit represents two.
    """
    held = represented(W, bounds)
    pairs = held.sum(-2) == 2  # [..., m]
    return torch.where(held, W.sign(), 0.0).sum(-2)[pairs].eq(0).double().mean()


def expected_collisions(n: int, m: int, any_sign: bool = False) -> float:
    """Published expectation of polysemantic units, n^2/4m: half the n^2/2m pairs that share their largest unit.

    Args:
        any_sign: count all pairs, n^2/2m.
    Source: Lecomte et al. 2023.
    """
    return n * n / ((2 if any_sign else 4) * m)


def expected_shared_units(n: int, m: int) -> float:
    """Expected units chosen with both signs when n features choose at random, m (1 - 2 (1 - 1/2m)^n + (1 - 1/m)^n).

    A unit chosen by three features counts once here and as up to two pairs in n^2/4m, which this tends to for n << m.
    Features that lose a unit to one of their own sign choose again, which is left out.

    """
    return m * (1 - 2 * (1 - 0.5 / m) ** n + (1 - 1 / m) ** n)


def concentration(W: Tensor) -> Tensor:
    """How few units a feature uses, |W_i|_4^4 / |W_i|_2^4: 1 on one unit, 1/m spread evenly, 3/(m + 2) at random.

    The value for N(0, 1/m) starts is exact, because direction and length of a Gaussian vector are independent.

    Args:
        W: [..., n, m].
    Returns:
        [..., n].
    Source: Lecomte et al. 2023, noise in the hidden layer.
    """
    return W.pow(4).sum(-1) / W.square().sum(-1).square()
