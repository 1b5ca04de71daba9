"""The one training loop of sparse coders: any rule, one coder or many on the same batches."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import pandas as pd
import torch
from torch import Tensor

from lib.live import Progress
from lib.metrics import sparsity
from lib.rng import generator
from lib.sparse_coders.coder import SparseCoder
from lib.sparse_coders.losses import Moment, Terms, loss


class Store(Protocol):
    """Anything with a length that hands out rows by their numbers, such as `lib.activations`' store."""

    def __len__(self) -> int: ...
    def batch(self, indices: Tensor) -> Tensor: ...


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


@dataclass(frozen=True)
class Plan:
    """Options of `fit` that shape the run; see there."""

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
    log_every: int

    def lr_factor(self, step: int) -> float:
        """Linear warm-up, then constant, then linear to 0 over the last `lr_decay` of training."""
        left = self.steps - step
        decay = left / max(1.0, self.lr_decay * self.steps) if self.lr_decay else 1.0
        return min(1.0, (step + 1) / max(1, self.lr_warmup), decay)

    def sparsity_factor(self, step: int) -> float:
        """Linear from 0 over the sparsity warm-up."""
        return min(1.0, (step + 1) / max(1, self.sparsity_warmup))


@overload
def fit(coder: SparseCoder, data: Any, **options: Any) -> FitResult: ...
@overload
def fit(coder: Sequence[SparseCoder], data: Any, **options: Any) -> list[FitResult]: ...
def fit(
    coder: SparseCoder | Sequence[SparseCoder],
    data: Any,
    *,
    target: Any = None,
    steps: int = 2000,
    batch_size: int = 4096,
    lr: float | None = None,
    seed: int = 0,
    lr_warmup: int | None = None,
    lr_decay: float = 0.0,
    sparsity_warmup: int | None = None,
    clip: float = 1.0,
    dead_after: int = 10_000_000,
    resample_every: int | None = None,
    normalise: bool = True,
    b_dec: str = "mean",
    held_out: int | Any | None = None,
    log_every: int = 50,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1000,
    progress: bool = True,
) -> FitResult | list[FitResult]:
    """Train a coder, or several on the same batches, in place.

    Args:
        coder: one coder, or several whose inputs have one width; they may differ in everything else.
        data: activations [n_samples, d_in + context]: NumPy, torch, or a store with __len__ and batch(indices).
        target: what a transcoder predicts, [n_samples, d_out], in the same forms.
        steps: optimiser steps.
        batch_size: samples per step; at most the number of training samples.
        lr: of Adam; default 2e-4 / sqrt(n_latents / 2^14), for each coder its own.
        seed: of the order of samples and of noise; the coder's own seed drew its directions.
        lr_warmup, sparsity_warmup: steps; default 1,000 and 2,000, at most a tenth and a fifth of training.
        lr_decay: share of training, at its end, over which lr falls linearly to 0.
        clip: largest global norm of a coder's gradient.
        dead_after: a latent silent for so many samples is dead.
        resample_every: reinitialise dead latents after so many steps, their Adam moments zeroed.
        normalise: measure `scale` so that E|x|^2 = d (once; a coder trained before keeps its own).
        b_dec: "mean" or "geometric_median" of the first data, or "zero".
        held_out: samples kept from training for evaluation (default a twentieth, at most 8,192), or the samples
            themselves: x, or (x, y) for a transcoder.
        log_every: steps between rows of the history.
        checkpoint: file to write every `checkpoint_every` steps and to resume from, bit for bit on CPU, if it exists.
        progress: show one line of progress.
    Returns:
        A FitResult, or a list of them if a list was given.
    Raises:
        ValueError: data, options or a checkpoint that cannot be; training that diverged, with the step.
        TypeError: data that is not floating point.
    Chapter: instruments/sparse_coders, studies/sparse_coders_recovery.
    """
    many = not isinstance(coder, SparseCoder)
    coders = list(coder) if many else [coder]
    plan = Plan(
        steps, min(batch_size, len(data)), lr, seed,
        min(1000, steps // 10) if lr_warmup is None else lr_warmup, lr_decay,
        min(2000, steps // 5) if sparsity_warmup is None else sparsity_warmup,
        clip, dead_after, resample_every, normalise, b_dec, log_every,
    )  # fmt: skip
    results = _train(coders, data, target, plan, progress)
    return results if many else results[0]


def default_lr(n_latents: int) -> float:
    """2e-4 / sqrt(n_latents / 2^14)."""
    return 2e-4 / math.sqrt(n_latents / 2**14)


def _train(coders, data, target, plan, progress) -> list[FitResult]:
    data = torch.as_tensor(data)
    order = torch.randperm(len(data), generator=generator(plan.seed, "held out"))
    n_held = max(1, min(8192, len(data) // 20))
    held, rows = order[:n_held], order[n_held:]
    runs = [_Run(coder, plan, index) for index, coder in enumerate(coders)]
    for run in runs:
        run.start(data[rows[:16384]], None if target is None else torch.as_tensor(target)[rows[:16384]])
    per_epoch = max(1, len(rows) // plan.batch_size)
    with Progress(plan.steps, "training", every=0.5 if progress else math.inf) as line:
        for step in range(plan.steps):
            if step % per_epoch == 0:
                epoch = torch.randperm(len(rows), generator=generator(plan.seed, "epoch", step // per_epoch))
            at = (step % per_epoch) * plan.batch_size
            ids = rows[epoch[at : at + plan.batch_size]]
            y = None if target is None else torch.as_tensor(target)[ids]
            for run in runs:
                run.step(step, data[ids], y)
            line.advance()
    y = None if target is None else torch.as_tensor(target)[held]
    return [run.result(data[held], y) for run in runs]


class _Run:
    """One coder in training: its optimiser, counters, noise and history."""

    COLUMNS = ("step", "tokens", "lr", "loss", "reconstruction", "penalty", "aux", "l0")

    def __init__(self, coder: SparseCoder, plan: Plan, index: int):
        self.coder, self.plan = coder, plan
        device = coder.W_dec.device
        self.lr = plan.lr or default_lr(coder.n_latents)
        self.optimizer = torch.optim.Adam(coder.parameters(), lr=self.lr, fused=device.type in ("cpu", "cuda"))
        self.since = torch.zeros(coder.n_latents, dtype=torch.int64, device=device)
        self.rng = generator(plan.seed, "noise", index, device=device)
        self.tokens, self.history = 0, []

    def start(self, x: Tensor, y: Tensor | None) -> None:
        coder = self.coder
        dtype, device = coder.W_dec.dtype, coder.W_dec.device
        x = x.to(device, dtype)
        y = x[:, : coder.d_in] if y is None else y.to(device, dtype)
        if self.plan.normalise:
            coder.scale.fill_(math.sqrt(x.shape[1] / float(x.double().square().sum(1).mean())))
            coder.target_scale.copy_(coder.scale)
            if coder.is_transcoder:
                coder.target_scale.fill_(math.sqrt(y.shape[1] / float(y.double().square().sum(1).mean())))
        with torch.no_grad():
            coder.b_dec.copy_(y.mean(0) * coder.target_scale)

    def step(self, step: int, x: Tensor, y: Tensor | None) -> None:
        coder, plan = self.coder, self.plan
        dtype, device = coder.W_dec.dtype, coder.W_dec.device
        x = x.to(device, dtype) * coder.scale.to(dtype)
        y = None if y is None else y.to(device, dtype) * coder.target_scale.to(dtype)
        dead = (self.since >= plan.dead_after).nonzero()[:, 0] if self.tokens >= plan.dead_after else None
        terms = loss(coder, x, y, Moment(plan.sparsity_factor(step), step / plan.steps, dead, self.rng))
        self.optimizer.zero_grad()
        terms.total.backward()
        _remove_parallel(coder)
        torch.nn.utils.clip_grad_norm_(coder.parameters(), plan.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * plan.lr_factor(step)
        self.optimizer.step()
        coder.tidy()
        self.since.add_(len(x)).masked_fill_(terms.fired > 0, 0)
        self.tokens += len(x)
        if step % plan.log_every == 0 or step == plan.steps - 1:
            self._log(step, len(x), terms)

    def _log(self, step: int, samples: int, terms: Terms) -> None:
        parts = (terms.total, terms.reconstruction, terms.penalty, terms.aux, terms.fired.sum() / samples)
        values = torch.stack([part.detach().double() for part in parts]).tolist()
        if not all(map(math.isfinite, values)):
            raise ValueError(f"training diverged at step {step}: the loss is {values[0]}; lower lr or look at the data")
        self.history.append([step, self.tokens, self.optimizer.param_groups[0]["lr"], *values])

    @torch.no_grad()
    def result(self, x: Tensor, y: Tensor | None) -> FitResult:
        coder = self.coder
        recons = torch.cat([coder(part) for part in x.split(1024)])
        active = sum(sparsity.l0(coder.encode(part)) * len(part) for part in x.split(1024)) / len(x)
        window = min(self.plan.dead_after, self.tokens)
        metrics = {
            "fvu": sparsity.fvu((x[:, : coder.d_in] if y is None else y).to(recons), recons),
            "l0": active,
            "dead_fraction": sparsity.dead_fraction(self.since, window),
            "dead_window": float(window),
        }
        return FitResult(coder, pd.DataFrame(self.history, columns=self.COLUMNS), metrics)


@torch.no_grad()
def _remove_parallel(coder: SparseCoder) -> None:
    """Take from the gradient of each unit decoder row the part along the row, which renormalising would undo."""
    if coder.has_unit_rows:
        grad, rows = coder.W_dec.grad, coder.W_dec
        grad.sub_((grad * rows).sum(1, keepdim=True) * rows)
