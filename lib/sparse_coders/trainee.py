"""One coder in training: its start, its step, its counters, and what a checkpoint keeps of it."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lib.metrics import sparsity
from lib.rng import generator
from lib.sparse_coders.coder import SparseCoder
from lib.sparse_coders.initial import geometric_median, unit_rows, unit_scale
from lib.sparse_coders.losses import Moment, Terms, loss
from lib.sparse_coders.resampling import resample

COLUMNS = ("step", "tokens", "lr", "loss", "reconstruction", "penalty", "aux", "l0")


@dataclass(frozen=True)
class Plan:
    """Options of `lib.sparse_coders.fit` that shape the training; see there."""

    steps: int
    batch_size: int
    lr: float | None
    seed: int
    lr_warmup: int
    lr_decay: float
    sparsity_warmup: int
    clip: float
    dead_after: int
    resample_every: int | None
    normalise: bool
    b_dec: str
    precision: str
    log_every: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "dead_after", "log_every", "resample_every"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        for name in ("lr", "lr_warmup", "sparsity_warmup", "lr_decay", "clip"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ValueError(f"{name} must be a number, got {value!r}")
        for name in ("lr_warmup", "sparsity_warmup", "lr_decay", "clip"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        if self.lr_decay > 1 or (self.lr is not None and not self.lr > 0) or not self.clip > 0:
            raise ValueError(f"need lr > 0, clip > 0, lr_decay <= 1; got {self.lr}, {self.clip}, {self.lr_decay}")
        choices = {"b_dec": ("mean", "geometric_median", "zero"), "precision": ("float32", "bf16")}
        for name, accepted in choices.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(accepted)}")

    def lr_factor(self, step: int) -> float:
        """Linear warm-up, then constant, then linear to 0 over the last `lr_decay` of training."""
        left = (self.steps - step) / (self.lr_decay * self.steps) if self.lr_decay else 1.0
        return min(1.0, (step + 1) / max(1, self.lr_warmup), left)

    def moment(self, step: int, dead: Tensor | None, rng: torch.Generator) -> Moment:
        """Penalties grow linearly over their warm-up; thresholds are averaged over the last twentieth of training."""
        sparsity_now = min(1.0, (step + 1) / max(1, self.sparsity_warmup))
        memory = min(1000.0, max(1.0, self.steps / 20))
        return Moment(sparsity_now, step / self.steps, dead, rng, 1 - 1 / memory, self.precision == "bf16")


@dataclass(frozen=True)
class FitResult:
    """What training one coder gave.

    Attributes:
        coder: the trained coder, the same object that was given.
        history: one row per logged step: step, tokens, lr, loss, reconstruction, penalty, aux, l0 (of that batch, in
            scaled units).
        metrics: held out: fvu, l0; over training: dead_fraction within the last dead_window samples.
    """

    coder: SparseCoder
    history: pd.DataFrame
    metrics: dict[str, float]


class Trainee:
    """One coder in training.

    Attributes:
        since: samples since each latent was last active, to the batch, int64 [n_latents].
        tokens: samples trained on.
    """

    def __init__(self, coder: SparseCoder, plan: Plan, index: int):
        self.coder, self.plan = coder, plan
        self.dtype, self.device = coder.W_dec.dtype, coder.W_dec.device
        self.lr = plan.lr or default_lr(coder.n_latents)
        self.parameters = list(coder.parameters())
        self.optimizer = adam(self.parameters, self.lr)
        self.since = torch.zeros(coder.n_latents, dtype=torch.int64, device=self.device)
        self.rng = generator(plan.seed, "noise", index, device=self.device)
        self.tokens = 0
        self.history: list[list[float]] = []

    def scaled(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Data in the coder's units, dtype and device."""
        x = x.to(self.device, self.dtype) * self.coder.scale.to(self.dtype)
        return x, None if y is None else y.to(self.device, self.dtype) * self.coder.target_scale.to(self.dtype)

    def step(self, step: int, x: Tensor, y: Tensor | None) -> None:
        """One optimiser step on a batch x [B, d_in + context], y [B, d_out] or None, in the data's units."""
        coder, plan = self.coder, self.plan
        x, y = self.scaled(x, y)
        terms = loss(coder, x, y, plan.moment(step, self.dead(), self.rng))
        self.optimizer.zero_grad()
        terms.total.backward()
        remove_parallel(coder)
        torch.nn.utils.clip_grad_norm_(self.parameters, plan.clip)
        self.optimizer.param_groups[0]["lr"] = self.lr * plan.lr_factor(step)
        self.optimizer.step()
        coder.tidy()
        self.count(step, len(x), terms)
        if plan.resample_every and (step + 1) % plan.resample_every == 0 and (dead := self.dead()) is not None:
            resample(coder, self.optimizer, dead, x, y, self.rng)
            self.since[dead] = 0

    def dead(self) -> Tensor | None:
        """Ids of dead latents; None, without asking the device, while none can be."""
        return (self.since >= self.plan.dead_after).nonzero()[:, 0] if self.tokens >= self.plan.dead_after else None

    def count(self, step: int, samples: int, terms: Terms) -> None:
        """Keep the books of a step, and a row of history where one is due."""
        self.since.add_(samples).masked_fill_(terms.fired > 0, 0)
        self.coder.trained_on.add_(samples)
        self.tokens += samples
        if step % self.plan.log_every and step != self.plan.steps - 1:
            return
        parts = (terms.total, terms.reconstruction, terms.penalty, terms.aux, terms.fired.sum() / samples)
        values = torch.stack([part.detach().double() for part in parts]).tolist()
        if not all(map(math.isfinite, values)):
            raise ValueError(f"training diverged by step {step}: the loss is {values[0]}; lower lr, or look for NaN in "
                             "the data")
        self.history.append([step, self.tokens, self.lr * self.plan.lr_factor(step), *values])

    def state(self) -> dict[str, Any]:
        """All that continuing bit for bit needs: tensors, numbers and strings only."""
        return {
            "model": self.coder.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "since": self.since,
            "tokens": self.tokens,
            "rng": self.rng.get_state(),
            "history": torch.tensor(self.history, dtype=torch.float64).reshape(-1, len(COLUMNS)),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.coder.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.since.copy_(state["since"])
        self.tokens, self.history = state["tokens"], state["history"].tolist()
        self.rng.set_state(state["rng"])

    def release(self) -> None:
        """Nothing to do: the coder's parameters are its own."""

    @torch.no_grad()
    def result(self, x: Tensor, y: Tensor | None) -> FitResult:
        """Judge the coder on held-out samples."""
        coder, window = self.coder, min(self.plan.dead_after, self.tokens)
        x = x.to(self.device, self.dtype)
        recons = torch.cat([coder(part) for part in x.split(1024)])
        metrics = {
            "fvu": sparsity.fvu((x[:, : coder.d_in] if y is None else y).to(recons), recons),
            "l0": sum(sparsity.l0(coder.encode(part)) * len(part) for part in x.split(1024)) / len(x),
            "dead_fraction": sparsity.dead_fraction(self.since, window),
            "dead_window": window,
        }
        history = pd.DataFrame(self.history, columns=list(COLUMNS)).astype({"step": int, "tokens": int})
        return FitResult(coder, history, metrics)


def default_lr(n_latents: int) -> float:
    """2e-4 / sqrt(n_latents / 2^14)."""
    return 2e-4 / math.sqrt(n_latents / 2**14)


def adam(parameters: list[Tensor], lr: float) -> torch.optim.Adam:
    """Adam, fused on the devices that have it."""
    return torch.optim.Adam(parameters, lr=lr, fused=all(p.device.type in ("cpu", "cuda") for p in parameters))


@torch.no_grad()
def remove_parallel(coder: SparseCoder) -> None:
    """Take from the gradient of each unit decoder row the part along the row, which renormalising would undo."""
    if coder.has_unit_rows:
        grad, rows = coder.W_dec.grad, coder.W_dec
        grad.sub_((grad * rows).sum(1, keepdim=True) * rows)


@torch.no_grad()
def start(coder: SparseCoder, x: Tensor, y: Tensor | None, normalise: bool, b_dec: str) -> None:
    """Measure scale and b_dec on the first samples; a coder that was trained before keeps its own.

    Args:
        x, y: samples in the data's units, [n, d_in + context] and [n, d_out] or None.
        normalise: choose `scale` so that E|x|^2 is the width of x (for a transcoder, `target_scale` likewise).
        b_dec: "mean", "geometric_median" or "zero".
    """
    if coder.trained_on > 0:
        unit_rows(coder)
        return
    x, y = (None if part is None else part.to(coder.W_dec.device, torch.float64) for part in (x, y))
    if normalise:
        coder.scale.fill_(unit_scale(x, "data"))
        coder.target_scale.fill_(coder.scale if y is None else unit_scale(y, "target"))
    y = (x[:, : coder.d_in] if y is None else y) * coder.target_scale
    if b_dec != "zero":
        coder.b_dec.copy_(y.mean(0) if b_dec == "mean" else geometric_median(y))
