"""One model in training: its optimiser, its step, its record, and what a checkpoint keeps of it."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.rng import stream_seed
from lib.training.evaluation import autocast
from lib.training.recipe import Recipe

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
        images_per_second: of this call, without its first step.
        steps: optimiser steps done, those before a resume included.
    """

    table: pd.DataFrame
    images_per_second: float
    steps: int


class ModelTraining:
    """One model in training."""

    def __init__(self, module: nn.Module, recipe: Recipe, seed: int, n: int, extra_loss: ExtraLoss | None):
        self.module, self.recipe, self.seed, self.n, self.extra_loss = module, recipe, seed, n, extra_loss
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.device = self.parameters[0].device
        self.optimizer = adamw(module, recipe)
        fp16 = self.device.type == "cuda" and recipe.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.losses = torch.zeros(recipe.total_steps(n), device=self.device)
        self.rows: list[Tensor] = []

    def step(self, step: int, x: Tensor, labels: Tensor, log: bool) -> None:
        """One optimiser step on x [b, C, H, W] and labels [b]; nothing here waits for the device."""
        seed_noise(stream_seed(self.seed, "noise", step, 0), self.device)
        with autocast(self.device, self.recipe.precision):
            out = self.module(x)
        loss = F.cross_entropy(out.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = self.norm() if log else None
        extra, extra_norm = self.add_extra(step, log)
        self.losses[step] = loss.detach() + extra
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        for part in self.optimizer.param_groups:
            part["lr"] = self.recipe.lr_at(step, self.n)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if log:
            self.rows.append(torch.stack((loss.detach(), norm, extra, extra_norm)))

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

    def check(self, done: int) -> None:
        """Refuse to go on from a loss that is not finite."""
        bad = (~torch.isfinite(self.losses[:done])).nonzero()
        if len(bad):
            step = int(bad[0])
            raise ValueError(f"training diverged: the loss of step {step} is {float(self.losses[step])}; lower lr, "
                             "give clip or warmup, or look at the extra loss")

    def table(self, logged: list[int]) -> pd.DataFrame:
        """The record of the logged steps."""
        per_epoch = self.recipe.steps_per_epoch(self.n)
        known = [[step, step // per_epoch, self.recipe.lr_at(step, self.n)] for step in logged]
        values = [row.double().tolist() for row in self.rows]
        table = pd.DataFrame([a + b for a, b in zip(known, values, strict=True)], columns=list(COLUMNS))
        table["pressure"] = table["extra_grad_norm"] / table["grad_norm"].where(table["grad_norm"] > 0)
        return table.astype({"step": int, "epoch": int}) if self.extra_loss is not None else table[list(COLUMNS[:5])]

    def state(self, done: int) -> dict[str, Any]:
        """All that continuing bit for bit needs; random draws are functions of (seed, step), so none are kept."""
        epoch, cursor = divmod(done, self.recipe.steps_per_epoch(self.n))
        return {
            "model": dict(self.module.state_dict()), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "epoch": epoch, "cursor": cursor * self.recipe.batch,
            "losses": self.losses, "rows": list(self.rows),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.losses.copy_(state["losses"])
        self.rows = [row.to(self.device) for row in state["rows"]]


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


def seed_noise(seed: int, device: torch.device) -> None:
    """Start the generators dropout draws from; only inside `torch.random.fork_rng`, which gives the caller's back."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
