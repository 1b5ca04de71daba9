"""Many tiny models trained as one tensor program: a flat table [instances, P], one row per model.

A model says how a row is divided (`Layout`) and how loss and gradient of the whole table are computed;
`train_ensemble` walks it. Importance and density may differ per row, so a sweep over them is one ensemble, not a loop.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.loop import Training, run
from lib.schedules import SCHEDULES
from lib.tensors import denormals_flushed, own_session

LossAndGrad = Callable[[Tensor, Tensor], Tensor]
"""(theta [I, P], grad [I, P]) -> loss [I]; overwrites grad with d loss / d theta."""


class Layout:
    """Names and shapes of the parameters inside one row of the table.

    >>> Layout(W=(2, 5), b=(5,)).size
    15
    """

    def __init__(self, **shapes: tuple[int, ...]):
        self.shapes = shapes
        self.sizes = [math.prod(shape) for shape in shapes.values()]
        self.size = sum(self.sizes)

    def views(self, table: Tensor) -> dict[str, Tensor]:
        """The named parameters as views of `table` [..., P]: writing to one writes to the table."""
        if table.shape[-1] != self.size:
            raise ValueError(f"table has rows of {table.shape[-1]} numbers, the layout {self.shapes} needs {self.size}")
        parts = table.split(self.sizes, dim=-1)
        return {name: part.unflatten(-1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def pack(self, **tensors: Tensor) -> Tensor:
        """A new table [..., P] from named parameters [..., *shape]."""
        if set(tensors) != set(self.shapes):
            raise ValueError(f"pack got {sorted(tensors)}, the layout has {sorted(self.shapes)}")
        return torch.cat([tensors[name].flatten(-len(shape)) for name, shape in self.shapes.items()], dim=-1)


class Adam:
    """Adam with bias correction on the flat table, m <- b1 m + (1-b1) g, v <- b2 v + (1-b2) g^2, in place.

    theta <- theta - lr * (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps).

    Args:
        theta: table [I, P], updated in place by `step`.
    Source: Kingma and Ba 2015, algorithm 1.
    """

    def __init__(self, theta: Tensor, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        self.theta, self.beta1, self.beta2, self.eps, self.t = theta, beta1, beta2, eps, 0
        self.m, self.v, self._scratch = (torch.zeros_like(theta) for _ in range(3))

    @torch.no_grad()
    def step(self, grad: Tensor, lr: float) -> None:
        """One update with gradient [I, P]."""
        self.t += 1
        self.m.lerp_(grad, 1 - self.beta1)
        self.v.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        scale = torch.sqrt(self.v, out=self._scratch)
        scale.div_(math.sqrt(1 - self.beta2**self.t)).add_(self.eps)
        self.theta.addcdiv_(self.m, scale, value=-lr / (1 - self.beta1**self.t))


@dataclass(frozen=True)
class TrainedEnsemble:
    """A trained ensemble: final rows, and what was logged on the way.

    Attributes:
        theta: trained table, [I, P].
        steps: the T logged step numbers; a log at step s is taken after s updates.
        losses: [T, I], the loss each logged update was computed from.
        tables: [T, I, P] when snapshots were asked for, else None.
    """

    theta: Tensor
    steps: list[int]
    losses: Tensor
    tables: Tensor | None


@own_session()
@torch.no_grad()
def train_ensemble(
    loss_and_grad: LossAndGrad, theta: Tensor, steps: int, lr: float, schedule: str = "constant",
    log_at: Iterable[int] = (), snapshots: bool = False,
) -> TrainedEnsemble:
    """Train every row of `theta` for `steps` Adam updates; the table passed in is not changed.

    Args:
        loss_and_grad: fills the gradient table and returns the loss per row; draws its own data.
        theta: initial table, [I, P]; its device and dtype are the training's.
        lr: peak learning rate; schedule: a name in `SCHEDULES`.
        log_at: steps in 1..steps whose loss (and, with `snapshots`, table) is kept; the last is always.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule {schedule!r} is not one of {sorted(SCHEDULES)}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    factor = SCHEDULES[schedule]
    training = _Table(loss_and_grad, theta.clone(), lambda step: lr * factor(step, steps), snapshots)
    with denormals_flushed():
        rows = run(training, steps, log_at={step - 1 for step in (*log_at, steps)})
    losses, tables = torch.cat([row.mT for _, row in rows]), torch.stack(training.tables) if snapshots else None
    return TrainedEnsemble(training.theta, [step + 1 for step, _ in rows], losses, tables)


class _Table(Training):
    """The table in training; a row has the loss of every model, [I, 1]."""

    def __init__(self, loss_and_grad: LossAndGrad, theta: Tensor, rate: Callable[[int], float], keeps: bool):
        self.loss_and_grad, self.theta, self.rate, self.keeps = loss_and_grad, theta, rate, keeps
        self.adam, self.grad, self.tables = Adam(theta), torch.zeros_like(theta), []

    def step(self, step: int, log: bool) -> Tensor | None:
        loss = self.loss_and_grad(self.theta, self.grad)
        self.adam.step(self.grad, self.rate(step))
        self.tables += [self.theta.clone()] if log and self.keeps else []
        return loss[:, None].clone() if log else None


def by_autograd(loss: Callable[[Tensor], Tensor]) -> LossAndGrad:
    """Turn `loss(theta [I, P]) -> [I]` into a `LossAndGrad`; rows are independent, so one backward serves all."""

    def loss_and_grad(theta: Tensor, grad: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = theta.detach().requires_grad_()
            value = loss(leaf)
            grad.copy_(torch.autograd.grad(value.sum(), leaf)[0])
        return value.detach()

    return loss_and_grad


def best_restart(loss: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
    """Rows of lowest loss: loss [..., R] and tables [..., R, *rest] to [...] and [..., *rest]."""
    best = loss.argmin(-1, keepdim=True)  # [..., 1]
    picked = [loss.gather(-1, best).squeeze(-1)]
    for table in tables:
        index = best.reshape(*best.shape, *[1] * (table.ndim - best.ndim))
        picked.append(table.take_along_dim(index, best.ndim - 1).squeeze(best.ndim - 1))
    return tuple(picked)
