"""One model in training: its optimiser, its step, its record, and what a checkpoint keeps of it."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.checkpoints import content_digest
from lib.loop import Keeping, Row, Training, loss_digest, run
from lib.rng import stream_seed
from lib.training.batches import ImageBatches
from lib.training.evaluation import autocast, in_mode, scores
from lib.training.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

ExtraLoss = Callable[[nn.Module, int], Tensor]
"""(model, step) -> a scalar to add to the loss, its weight and schedule included; see `weighted`."""
COLUMNS = ("step", "epoch", "lr", "loss", "grad_norm", "extra", "extra_grad_norm")


@dataclass(frozen=True)
class History:
    """What training one model recorded.

    Attributes:
        table: one row per logged step: step, epoch, lr, loss (cross-entropy of that batch), grad_norm (of the
            cross-entropy, before clipping); with an extra loss also extra, extra_grad_norm, and pressure, the ratio
            |grad extra| / |grad cross-entropy|, nan where the latter is 0 (as in a step that float16 skips).
        steps: optimiser steps done, those before a resume included.
    """

    table: pd.DataFrame
    steps: int


class ModelTraining(Training):
    """One model in training; a row has the loss, cross-entropy, its gradient's norm, the extra loss and its norm."""

    remedy = "lower lr, give clip or warmup, or look at the extra loss"

    def __init__(self, module: nn.Module, batches: ImageBatches, extra_loss: ExtraLoss | None = None):
        self.module, self.batches, self.extra_loss = module, batches, extra_loss
        self.recipe, self.seed, self.samples = batches.recipe, batches.seed, batches.recipe.batch
        self.n = len(batches.labels)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.optimizer = adamw(module, self.recipe)
        fp16 = self.device.type == "cuda" and self.recipe.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)

    def step(self, step: int, log: bool) -> Tensor:
        """Nothing here waits for the device."""
        return self.update(step, *self.batches[step], log)

    def run(self, steps: int, keep: Keeping) -> History:
        """Take the steps in training mode; the model's mode and the global generators are then as they were."""
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), in_mode(self.module, training=True):
            rows = run(self, steps, keep)
        return History(self.table(rows), steps)

    def update(self, step: int, x: Tensor, labels: Tensor, log: bool) -> Tensor:
        """One optimiser step on x [b, C, H, W] and labels [b]; its row, or the loss alone."""
        noise = stream_seed(self.seed, "noise", step, 0)  # of dropout; `run` gives the caller's generators back
        torch.default_generator.manual_seed(noise)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(noise)
        with autocast(self.device, self.recipe.precision):
            out = scores(self.module(x))
        loss = F.cross_entropy(out.float(), labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = self.norm() if log else None
        extra, extra_norm = self.add_extra(step, log)
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        for part in self.optimizer.param_groups:
            part["lr"] = self.recipe.lr_at(step, self.n)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        loss = loss.detach()
        return torch.stack((loss + extra, loss, norm, extra, extra_norm) if log else (loss + extra,))

    def add_extra(self, step: int, log: bool) -> tuple[Tensor, Tensor]:
        """Add the extra loss's gradient, in float32, to that of the cross-entropy; its value and its gradient's norm.

        The norm is 0 where it is not logged.
        """
        zero = torch.zeros((), device=self.device)
        if self.extra_loss is None:
            return zero, zero
        extra = self.extra_loss(self.module, step)
        grads = torch.autograd.grad(extra, self.parameters, allow_unused=True) if extra.requires_grad else ()
        reached = [(p, g) for p, g in zip(self.parameters, grads, strict=False) if g is not None]
        for p, g in reached:
            p.grad = g if p.grad is None else p.grad.add_(g)
        norm = torch.nn.utils.get_total_norm([g for _, g in reached]) if reached and log else zero
        return extra.detach().to(zero), norm

    def norm(self) -> Tensor:
        """Norm of the gradient as it stands; 0 where float16 overflowed, a step the scaler then skips."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        return torch.where(torch.isfinite(norm), norm, 0.0) if self.scaler.is_enabled() else norm

    def table(self, rows: list[Row]) -> pd.DataFrame:
        """The record of the logged steps."""
        import pandas as pd  # here, because it takes longer to import than all the rest

        known = ([step, step // self.batches.order.per_epoch, self.recipe.lr_at(step, self.n)] for step, _ in rows)
        values = [row.tolist()[1:] for _, row in rows]
        table = pd.DataFrame([a + b for a, b in zip(known, values, strict=True)], columns=list(COLUMNS))
        table["pressure"] = table["extra_grad_norm"] / table["grad_norm"].where(table["grad_norm"] > 0)
        return table.astype({"step": int, "epoch": int}) if self.extra_loss is not None else table[list(COLUMNS[:5])]

    def identity(self, steps: int) -> dict[str, Any]:
        weights = content_digest(dict(self.module.state_dict()))
        with in_mode(self.module, training=False):  # so that it can tell, and moves no running statistics
            extra = loss_digest(self.extra_loss, [self.module], steps)
        return self.recipe.model_dump(exclude={"epochs"}) | {
            "seed": int(self.seed), "data": self.batches.digest(), "architecture": content_digest(str(self.module)),
            "initial weights": weights, "extra loss": extra, "device": self.device.type,
        }

    def spread(self, steps: int) -> list[str]:
        return ["schedule"] * (self.recipe.schedule != "constant")

    def kept(self) -> list[dict[str, Any]]:
        """Random draws are functions of (seed, step), so none are kept."""
        return [{"model": self.module, "optimizer": self.optimizer, "scaler": self.scaler}]


def weighted(loss: Callable[[nn.Module], Tensor], weight: float | Callable[[int], float]) -> ExtraLoss:
    """weight · loss(model), as `train` takes it.

    Args:
        weight: a number, or a schedule: step -> number.
    """

    def extra_loss(model: nn.Module, step: int) -> Tensor:
        return (weight(step) if callable(weight) else weight) * loss(model)

    return extra_loss


def adamw(module: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW, fused; biases, norms and what the model names in `no_weight_decay` are not decayed."""
    spared = module.no_weight_decay() if hasattr(module, "no_weight_decay") else set()
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, p in module.named_parameters():
        if p.requires_grad:
            groups[p.ndim > 1 and name not in spared].append(p)
    parts = [{"params": params, "weight_decay": recipe.weight_decay * decayed} for decayed, params in groups.items()]
    return torch.optim.AdamW([part for part in parts if part["params"]], lr=recipe.lr, fused=True)
