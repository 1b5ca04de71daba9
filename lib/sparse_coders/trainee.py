"""One coder in training: its options, its step, its counters, and what a checkpoint keeps of it."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from lib.loop import Keeping, Row
from lib.metrics import sparsity
from lib.params import Count, Positive, Share
from lib.rng import generator
from lib.schedules import warm_down, warm_up
from lib.sparse_coders.coder import SparseCoder
from lib.sparse_coders.losses import Moment, Terms, loss
from lib.sparse_coders.starts import resample

if TYPE_CHECKING:
    import pandas as pd

ExtraLoss = Callable[[SparseCoder, int], Tensor]
COLUMNS = ("step", "tokens", "lr", "loss", "reconstruction", "penalty", "aux", "l0")


class FitOptions(Keeping):
    """How `lib.sparse_coders.fit` trains."""

    owner: ClassVar = "fit"
    steps: Count = Field(2000, description="optimiser steps")
    batch_size: Count = Field(4096, description="samples per step; at most the number of training samples")
    lr: Positive | None = Field(
        None, description="rate of Adam; None: 2e-4 / sqrt(n_latents / 2^14), for each coder its own")
    seed: int = Field(0, description="of the order of samples and of noise; the coder's own drew its directions")
    lr_warmup: int = Field(
        ge=0, default_factory=lambda given: min(1000, given["steps"] // 10),
        description="steps over which the rate rises; default 1,000, at most a tenth of training")
    lr_decay: Share = Field(0.0, description="share of training, at its end, over which lr falls to 0")
    sparsity_warmup: int = Field(
        ge=0, default_factory=lambda given: min(2000, given["steps"] // 5),
        description="steps over which penalties rise; default 2,000, at most a fifth of training")
    clip: Positive = Field(1.0, description="largest global norm of a coder's gradient")
    dead_after: Count = Field(10_000_000, description="a latent silent for so many samples is dead")
    resample_every: Count | None = Field(
        None, description="dead latents start anew after so many steps, their Adam moments zeroed; None: never")
    normalise: Literal[True, False, "sample"] = Field(
        True, description='measure `scale` so that E|x|^2 = d (once; a coder trained before keeps its own); "sample": '
                          "divide every sample by its own length too, which makes one threshold fit all of them")
    b_dec: Literal["mean", "zero"] = Field("mean", description="where b_dec starts, of first data")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description='"bf16": matrix products in bfloat16, parameters and sums as they are; topk, abs_topk: '
                               "a screen before the exact choice; refused where it would do nothing")

    def lr_factor(self, step: int) -> float:
        """Linear warm-up, then constant, then linear to 0 over the last `lr_decay` of training."""
        return min(warm_up(step, self.lr_warmup), warm_down(step, self.steps, self.lr_decay))

    def moment(self, step: int, dead: Tensor | None, rng: torch.Generator) -> Moment:
        """Penalties grow linearly over their warm-up; thresholds are averaged over the last twentieth of training."""
        memory, in_bf16 = min(1000.0, max(1.0, self.steps / 20)), self.precision == "bf16"
        return Moment(warm_up(step, self.sparsity_warmup), step / self.steps, dead, rng, 1 - 1 / memory, in_bf16)


@dataclass(frozen=True)
class FitResult:
    """What training one coder gave.

    Attributes:
        coder: the trained coder, the same object that was given.
        history: one row per logged step: step, tokens, lr, loss, reconstruction, penalty, aux, l0 (of that batch, in
            scaled units); an extra loss is in loss alone.
        metrics: held out: fvu, l0; over training: dead_fraction within the last dead_window samples.
    """

    coder: SparseCoder
    history: pd.DataFrame = field(repr=False)
    metrics: dict[str, float]


class Trainee:
    """One coder in training.

    Attributes:
        since: samples since each latent was last active, to the batch, int64 [n_latents].
        tokens: samples trained on, int64.
    """

    def __init__(self, coder: SparseCoder, options: FitOptions, index: int, extra_loss: ExtraLoss | None = None):
        self.coder, self.options, self.extra_loss = coder, options, extra_loss
        self.dtype, self.device = coder.W_dec.dtype, coder.W_dec.device
        self.lr = options.lr or default_lr(coder.n_latents)
        self.parameters = list(coder.parameters())
        self.optimizer = adam(self.parameters, self.lr)
        self.since = torch.zeros(coder.n_latents, dtype=torch.int64, device=self.device)
        self.rng = generator(options.seed, "noise", index, device=self.device)
        self.tokens = torch.zeros((), dtype=torch.int64)  # on the host, which can look at it without waiting

    def scaled(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Data in the coder's units, dtype and device."""
        x, factor = self.coder.scaled(x.to(self.device, self.dtype))
        return x, None if y is None else y.to(self.device, self.dtype) * factor

    def step(self, step: int, x: Tensor, y: Tensor | None) -> dict[Trainee, Terms]:
        """One optimiser step on a batch x [B, d_in + context], y [B, d_out] or None, in the data's units: the loss."""
        coder, options = self.coder, self.options
        x, y = self.scaled(x, y)
        terms = loss(coder, x, y, options.moment(step, self.dead(), self.rng))
        if self.extra_loss is not None:
            terms = terms._replace(total=terms.total + self.extra_loss(coder, step).to(self.device))
        self.optimizer.zero_grad()
        terms.total.backward()
        remove_parallel(coder)
        torch.nn.utils.clip_grad_norm_(self.parameters, options.clip)
        self.optimizer.param_groups[0]["lr"] = self.lr * options.lr_factor(step)
        self.optimizer.step()
        coder.tidy()
        self.count(len(x), terms)
        if options.resample_every and (step + 1) % options.resample_every == 0 and (dead := self.dead()) is not None:
            resample(coder, self.optimizer, dead, x, y, self.rng)
            self.since[dead] = 0
        return {self: terms}

    def dead(self) -> Tensor | None:
        """Ids of dead latents; None, without asking the device, while none can be."""
        after = self.options.dead_after
        return (self.since >= after).nonzero()[:, 0] if self.tokens >= after else None

    def count(self, samples: int, terms: Terms) -> None:
        """Keep the books of a step."""
        self.since.add_(samples).masked_fill_(terms.fired > 0, 0)
        self.coder.trained_on.add_(samples)
        self.tokens += samples

    def kept(self) -> dict[str, Any]:
        """What continuing bit for bit needs."""
        return {"model": self.coder, "optimizer": self.optimizer, "since": self.since, "tokens": self.tokens,
                "rng": self.rng}

    def release(self) -> None:
        """Nothing to do: the coder's parameters are its own."""

    @torch.no_grad()
    def metrics(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        """What `FitResult` says of the coder, on held-out samples."""
        coder, window = self.coder, min(self.options.dead_after, int(self.tokens))
        x = x.to(self.device, self.dtype)
        recons = torch.cat([coder(part) for part in x.split(1024)])
        return {
            "fvu": sparsity.fvu((x[:, : coder.d_in] if y is None else y).to(recons), recons),
            "l0": sum(sparsity.l0(coder.encode(part)) * len(part) for part in x.split(1024)) / len(x),
            "dead_fraction": sparsity.dead_fraction(self.since, window),
            "dead_window": window,
        }

    def history(self, rows: list[Row], samples: int) -> pd.DataFrame:
        """The `FitResult`'s, of the values [columns] of logged steps of so many samples."""
        import pandas as pd  # here, because it takes longer to import than all the rest

        known = ([step, (step + 1) * samples, self.lr * self.options.lr_factor(step)] for step, _ in rows)
        table = [a + values.tolist() for a, (_, values) in zip(known, rows, strict=True)]
        return pd.DataFrame(table, columns=list(COLUMNS)).astype({"step": int, "tokens": int})


def default_lr(n_latents: int) -> float:
    """2e-4 / sqrt(n_latents / 2^14)."""
    return 2e-4 / math.sqrt(n_latents / 2**14)


def adam(parameters: list[Tensor], lr: float) -> torch.optim.Adam:
    """Adam, fused on the devices that have it."""
    return torch.optim.Adam(parameters, lr=lr, fused=all(p.device.type in ("cpu", "cuda") for p in parameters))


@torch.no_grad()
def remove_parallel(coder: SparseCoder) -> None:
    """Take from the gradient of each unit decoder row the part along the row, which renormalising would undo."""
    if coder.rule.has_unit_rows and coder.W_dec.requires_grad:
        grad, rows = coder.W_dec.grad, coder.W_dec
        grad.addcmul_(torch.linalg.vecdot(grad, rows)[:, None], rows, value=-1)
