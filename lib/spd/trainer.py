"""Training of a decomposition: one call, one target, one seed or several side by side; resumed bit for bit."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor, nn

from lib.checkpoints import content_digest
from lib.loop import Keeping, Row, Training, run
from lib.rng import generator
from lib.schedules import SCHEDULES
from lib.spd.decomposition import Decomposition, seeds_of
from lib.spd.losses import Step, faithfulness
from lib.spd.masks import Noise
from lib.spd.options import SPDConfig
from lib.tensors import denormals_flushed, own_session, widest

if TYPE_CHECKING:
    import pandas as pd

Draw = Callable[[torch.Generator, int], Tensor]
"""(rng, samples) -> a fresh batch [samples, ...] on the generator's device."""


class Watching(Keeping):
    """How `lib.spd.decompose` is recorded, kept and shown."""

    owner: ClassVar = "decompose"
    snapshot_at: tuple[int, ...] = Field((), description="steps 0..steps after which the trained values are kept")


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


@own_session()
def decompose(
    target: nn.Module, data: ArrayLike | Draw, config: SPDConfig, seed: int | Sequence[int] = 0, *,
    sites: Sequence[str] | None = None, ties: dict[str, str] | None = None, **options: Any,
) -> Result | list[Result]:
    """Decompose a frozen target into components whose causal importances are sparse.

    Args:
        target: module with `forward(x, op=plain)`, see `lib.spd.components`, or a Sequential; trained where it lies.
        data: inputs [N, ...], of which batches are drawn with replacement, or a function that draws a batch.
        config: every option of the method.
        seed: of initial values, noise and batches; a list of different ones trains all at once (linear sites only) and
            gives a list.
        sites, ties: as `Decomposition`.
        options: of `Watching`: checkpoint, log_every, snapshot_at and the rest.
    Returns:
        A `Result`, or a list of them for a list of seeds.
    Source: Bushnaq, Braun and Sharkey 2025.
    """
    watching = Watching(**options)
    if never := sorted(step for step in watching.snapshot_at if not 0 <= step <= config.steps):
        raise ValueError(f"snapshot_at: steps are 0 to {config.steps}, got {never}")
    weight = next(target.parameters())
    device = weight.device
    if not callable(data):
        data = torch.as_tensor(data)
        data = data.to(weight.dtype) if data.is_floating_point() else data
    example = _example(data, device)[:2].to(device)
    dec = Decomposition(target, example, config.n_components, config.gate, config.width, seed, sites, ties)
    config.check_sites(dec.sites)
    if config.drop_zero_rows:
        _check_zero_rows(dec, example)
    training = Decomposing(dec, config, data, seeds_of(seed), watching.snapshot_at)
    with denormals_flushed():
        rows = run(training, config.steps, watching, first=-config.warmup_steps)
    return training.results(rows)


class Decomposing(Training):
    """A decomposition in training, steps below 0 on faithfulness alone; a row has the loss and its terms."""

    def __init__(
        self, dec: Decomposition, config: SPDConfig, data: Tensor | Draw, seeds: list[int], snapshot_at: tuple[int, ...]
    ):
        self.dec, self.config, self.data, self.seeds, self.snapshot_at = dec, config, data, seeds, snapshot_at
        self.device, self.samples = next(dec.target.parameters()).device, config.batch_size
        self.streams = [generator(s, "spd", "data", device=self.device) for s in seeds]
        self.noise = Noise(seeds, dec.panels is not None, self.device)
        named = dec.named_parameters()
        weights = [t for name, t in named.items() if name.endswith((".V", ".U"))]
        gates = [t for name, t in named.items() if ".gate." in name]
        self.warmup = _adamw([{"params": weights}], config.warmup_lr)
        groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": gates}]
        self.optimizer = _adamw(groups, config.lr)
        self.snapshots: dict[int, dict[str, Tensor]] = {}

    def step(self, step: int, log: bool) -> Tensor:
        self._snapshot(step)
        loss, terms = self._train(step) if step >= 0 else (self._update(self.warmup, faithfulness(self.dec)), {})
        if step + 1 == self.config.steps:
            self._snapshot(step + 1)
        return torch.stack([loss, *(terms.values() if log else ())], -1).detach().to(widest(self.device))

    def _snapshot(self, step: int) -> None:
        if step in self.snapshot_at:
            self.snapshots[step] = {name: t.detach().cpu().clone() for name, t in self.dec.named_parameters().items()}

    def _train(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        config = self.config
        x, weights = self._batch()
        total, terms = Step(self.dec, x, config, self.noise, step / config.steps, weights, config.batch_size).total()
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * SCHEDULES[config.schedule](step, config.steps)
        return self._update(self.optimizer, total), terms

    def _update(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        # a term may leave a parameter out (faithfulness alone no gate learns from): its gradient is 0
        # panels share no parameter, so the gradient of the sum is each panel's own; the fused kernel reads memory in
        # order and does not look at strides
        found = torch.autograd.grad(loss.sum(), parameters, materialize_grads=True)
        for p, g in zip(parameters, found, strict=True):
            p.grad = g.contiguous()
        optimizer.step()
        return loss

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        parts = [self._draw(rng) for rng in self.streams]
        x = parts[0] if self.dec.panels is None else torch.stack(parts)
        return without_zero_rows(x, int(self.dec.panels is not None)) if self.config.drop_zero_rows else (x, None)

    def _draw(self, rng: torch.Generator) -> Tensor:
        n = self.config.batch_size
        if not isinstance(self.data, Tensor):
            return self.data(rng, n)
        rows = torch.randint(len(self.data), (n,), generator=rng, device=self.device)
        return self.data[rows.to(self.data.device)].to(self.device)

    def identity(self, steps: int) -> dict[str, Any]:
        target = [str(self.dec.target), self.dec.target.state_dict()]
        return {
            **self.config.model_dump(), "seeds": self.seeds, "panels": self.dec.panels is not None,
            "target": content_digest(target), "sites": list(self.dec.sites),
            "data": content_digest(_example(self.data, self.device)), "ties": self.dec.ties,
        }

    def spread(self, steps: int) -> list[str]:
        return ["schedule"] * (self.config.schedule != "constant") + ["p_final"] * (self.config.p_final is not None)

    def kept(self) -> list[dict[str, Any]]:
        return [{"values": self.dec.named_parameters(), "optimizers": [self.warmup, self.optimizer],
                 "noise": self.noise.streams, "data": self.streams, "snapshots": self.snapshots}]

    def results(self, rows: list[Row]) -> Result | list[Result]:
        """Of every seed."""
        import pandas as pd  # here, because it takes longer to import than all the rest

        steps, columns = [step for step, _ in rows], ["loss", *self.config.coefficients()]
        values = torch.stack([values.cpu() for _, values in rows])  # [T, (S,) columns]
        per_seed = [values] if self.dec.panels is None else values.unbind(1)
        histories = [pd.DataFrame(v.numpy(), columns=columns) for v in per_seed]
        for history in histories:
            history.insert(0, "step", steps)
        if self.dec.panels is None:
            return Result(self.dec, histories[0], self.snapshots)
        snapshots = [
            {step: {name: t[i] for name, t in kept.items()} for step, kept in self.snapshots.items()}
            for i in range(len(self.seeds))
        ]
        panels = enumerate(zip(histories, snapshots, strict=True))
        return [Result(self.dec.panel(i), history, kept) for i, (history, kept) in panels]


def _example(data: Tensor | Draw, device: torch.device) -> Tensor:
    """The data, or a sample of what draws them."""
    return data if isinstance(data, Tensor) else data(generator(0, "example", device=device), 256)


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
