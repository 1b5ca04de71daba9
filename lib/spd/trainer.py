"""Training of a decomposition: one call, one target, one seed or several side by side; resumed bit for bit."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from lib import checkpoints
from lib.ensembles import SCHEDULES
from lib.rng import generator
from lib.spd.decomposition import Decomposition, seeds_of
from lib.spd.losses import Step, faithfulness
from lib.spd.masks import Noise
from lib.spd.options import SPDConfig
from lib.tensors import denormals_flushed

Draw = Callable[[torch.Generator, int], Tensor]
"""(rng, samples) -> a fresh batch [samples, ...] on the generator's device."""


class Result(NamedTuple):
    """What one seed gave.

    Attributes:
        decomposition: trained.
        history: a row per logged step: step, loss and every term that counts.
        snapshots: step -> arrays of the decomposition then, for `Decomposition.load`.
    """

    decomposition: Decomposition
    history: pd.DataFrame
    snapshots: dict[int, dict[str, Any]]


def decompose(
    target: nn.Module, data: Tensor | Draw, config: SPDConfig, seed: int | Sequence[int] = 0, *,
    sites: Sequence[str] | None = None, ties: dict[str, str] | None = None, checkpoint: str | Path | None = None,
    checkpoint_every: int = 1000, snapshot_at: Iterable[int] = (), log_every: int = 100,
    report: Callable[[int], None] | None = None,
) -> Result | list[Result]:
    """Decompose a frozen target into components whose causal importances are sparse.

    Args:
        target: module with `forward(x, op=plain)`, see `lib.spd.components`; trained where its weights lie.
        data: inputs [N, ...], of which batches are drawn with replacement, or a function that draws a batch.
        config: every option of the method.
        seed: of initial values, noise and batches; a list of different ones trains all at once (linear sites only) and
            gives a list.
        sites, ties: as `Decomposition`.
        checkpoint: file to continue from, written every `checkpoint_every` steps and at the end; None: none.
        snapshot_at: steps 0..steps after which the trained values are kept.
        log_every: steps between rows of the history.
        report: called with the number of steps done whenever a row is logged.
    Returns:
        A `Result`, or a list of them for a list of seeds.
    Source: Bushnaq, Braun and Sharkey 2025.
    """
    for name, every in {"checkpoint_every": checkpoint_every, "log_every": log_every}.items():
        if every < 1:
            raise ValueError(f"{name} must be at least 1 step, got {every}")
    training = _Training(target, data, config, seed, sites, ties, set(snapshot_at), log_every)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.is_file():
        training.restore(*checkpoints.read(path, training.identity()))
    with denormals_flushed():
        while training.done < training.steps:
            training.step()
            if path is not None and (training.done % checkpoint_every == 0 or training.done == training.steps):
                checkpoints.write(path, training.identity(), training.done, [training.state()])
            if report is not None and training.logged:
                report(training.done)
    return training.results()


class _Training:
    """Everything a step changes. Steps below `warmup_steps` train faithfulness alone; they come before step 0."""

    def __init__(self, target, data, config: SPDConfig, seed, sites, ties, snapshot_at: set[int], log_every: int):
        self.data, self.config, self.snapshot_at, self.log_every = data, config, snapshot_at, log_every
        if never := sorted(step for step in snapshot_at if not 0 <= step <= config.steps):
            raise ValueError(f"snapshot_at: steps are 0 to {config.steps}, got {never}")
        self.seeds, self.single = seeds_of(seed), isinstance(seed, Integral)
        self.device = next(target.parameters()).device
        self.streams = [generator(s, "spd", "data", device=self.device) for s in self.seeds]
        self.noise = Noise(self.seeds, not self.single, self.device)
        drawn = data if isinstance(data, Tensor) else data(generator(0, "example", device=self.device), 256)
        self.data_digest, example = checkpoints.content_digest(drawn), drawn[:2].to(self.device)
        options = config.n_components, config.gate, config.width, seed, sites, ties
        self.dec = Decomposition(target, example, *options)
        named = self.dec.named_parameters()
        self.weights = [t for name, t in named.items() if name.endswith((".V", ".U"))]
        gates = [t for name, t in named.items() if ".gate." in name]
        self.warmup = _adamw([{"params": self.weights}], config.warmup_lr)
        groups = [{"params": self.weights, "weight_decay": config.weight_decay}, {"params": gates}]
        self.optimizer = _adamw(groups, config.lr)
        self.steps = config.warmup_steps + config.steps
        self.done, self.logged, self.history, self.snapshots = 0, False, [], {}
        if config.drop_zero_rows:
            _check_zero_rows(self.dec, example)

    def step(self) -> None:
        """One update of warm-up or training."""
        number = self.done - self.config.warmup_steps
        if number in self.snapshot_at:
            self._snapshot(number)
        if number < 0:
            self._update(self.warmup, faithfulness(self.dec))
        else:
            self._train(number)
        self.done += 1
        if number + 1 == self.config.steps and self.config.steps in self.snapshot_at:
            self._snapshot(number + 1)

    def _train(self, number: int) -> None:
        config = self.config
        x, weights = self._batch()
        progress = number / config.steps
        total, terms = Step(self.dec, x, config, self.noise, progress, weights, config.batch_size).total()
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * SCHEDULES[config.schedule](number, config.steps)
        self._update(self.optimizer, total)
        self.logged = number % self.log_every == 0 or number + 1 == config.steps
        if self.logged:
            values = torch.stack([total, *terms.values()], -1).detach().double()  # [(S,) 1 + terms]
            self.history.append((number, values))

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        # a term may leave a parameter out (faithfulness alone no gate learns from): its gradient is 0
        # panels share no parameter, so the gradient of the sum is each panel's own; the fused kernel reads memory in
        # order and does not look at strides
        found = torch.autograd.grad(loss.sum(), parameters, materialize_grads=True)
        for p, g in zip(parameters, found, strict=True):
            p.grad = g.contiguous()
        optimizer.step()

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        parts = [self._draw(rng) for rng in self.streams]
        x = parts[0] if self.single else torch.stack(parts)
        return without_zero_rows(x, int(not self.single)) if self.config.drop_zero_rows else (x, None)

    def _draw(self, rng: torch.Generator) -> Tensor:
        n = self.config.batch_size
        if not isinstance(self.data, Tensor):
            return self.data(rng, n)
        rows = torch.randint(len(self.data), (n,), generator=rng, device=self.device)
        return self.data[rows.to(self.data.device)].to(self.device)

    def _snapshot(self, number: int) -> None:
        self.snapshots[number] = {name: t.detach().cpu().clone() for name, t in self.dec.named_parameters().items()}

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        target = [str(self.dec.target), self.dec.target.state_dict()]
        return {
            **self.config.identity(), "seeds": self.seeds, "panels": not self.single,
            "target": checkpoints.content_digest(target), "sites": list(self.dec.sites), "data": self.data_digest,
            "ties": self.dec.ties, "snapshot_at": sorted(self.snapshot_at), "log_every": self.log_every,
        }

    def state(self) -> dict[str, Any]:
        """All that continuing bit for bit needs."""
        return {
            "values": {name: t.detach() for name, t in self.dec.named_parameters().items()},
            "optimizers": [self.warmup.state_dict(), self.optimizer.state_dict()],
            "noise": self.noise.state(),
            "data": [rng.get_state() for rng in self.streams],
            "history": [[number, values] for number, values in self.history],
            "snapshots": self.snapshots,
        }

    def restore(self, done: int, states: list[dict[str, Any]]) -> None:
        """Continue from `state()`."""
        (state,) = states
        self.done = done
        self.dec.load(state["values"])
        for optimizer, kept in zip((self.warmup, self.optimizer), state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.noise.restore(state["noise"])
        for rng, kept in zip(self.streams, state["data"], strict=True):
            rng.set_state(kept)
        self.history = [(number, values.to(self.device)) for number, values in state["history"]]
        self.snapshots = state["snapshots"]

    def results(self) -> Result | list[Result]:
        """Of every seed."""
        columns = ["step", "loss", *self.config.coefficients()]
        values = torch.stack([values for _, values in self.history])  # [T, (S,) columns]
        if not bool(values.isfinite().all()):
            raise ValueError(f"training diverged: the loss ends at {values[-1, ..., 0].tolist()}; lower lr")
        steps = [number for number, _ in self.history]
        per_seed = [values] if self.single else list(values.unbind(1))
        histories = [pd.DataFrame(v.cpu().numpy(), columns=columns[1:]) for v in per_seed]
        for history in histories:
            history.insert(0, "step", steps)
        if self.single:
            return Result(self.dec, histories[0], self.snapshots)
        snapshots = [
            {step: {name: t[i] for name, t in kept.items()} for step, kept in self.snapshots.items()}
            for i in range(len(self.seeds))
        ]
        panels = enumerate(zip(histories, snapshots, strict=True))
        return [Result(self.dec.panel(i), history, kept) for i, (history, kept) in panels]


def without_zero_rows(x: Tensor, lead: int = 0) -> tuple[Tensor, Tensor]:
    """The batch without its all-zero samples, but for one that stands for them all.

    Args:
        x: [(S,) B, d]; lead: axes of panels, 0 or 1.
    Returns:
        Rows [(S,) n, d], n the largest number of non-zero samples of a panel plus one (at most B), and how many samples
        each row stands for, [(S,) n]: 1 for the samples kept, the number left out for the first zero row, else 0.
    """
    keep = (x != 0).flatten(lead + 1).any(-1)  # [(S,) B]
    count = keep.sum(-1, keepdim=True)  # [(S,) 1]
    n = min(int(count.max()) + 1, keep.shape[-1])
    order = keep.sort(dim=-1, descending=True, stable=True).indices[..., :n]
    weights = keep.gather(-1, order).to(x.dtype)
    left_out = (keep.shape[-1] - count).to(x.dtype)
    weights += left_out * (torch.arange(n, device=x.device) == count)
    index = order.view(*order.shape, *[1] * (x.ndim - lead - 1)).expand(*order.shape, *x.shape[lead + 1 :])
    return x.gather(lead, index), weights


def _check_zero_rows(dec: Decomposition, example: Tensor) -> None:
    zero = torch.zeros_like(example if dec.panels is None else example.expand(dec.panels, *example.shape))
    inputs = dec.capture(zero).inputs
    alive = [name for name, x in inputs.items() if bool((x != 0).any())]
    if alive or not example.is_floating_point():
        raise ValueError(f"drop_zero_rows: an all-zero sample is not zero at site {', '.join(alive) or 'of tokens'}")


def _adamw(groups: list[dict], lr: float) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=lr, weight_decay=0.0, fused=True)
