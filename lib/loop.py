"""The one training loop: it resumes, steps, records, refuses what is not finite, writes checkpoints, shows progress.

What a training draws is a function of its seeds and the step, or stands in its state. So one that was killed, or that
ended and is given more steps, goes on as if it had never stopped, bit for bit on a CPU.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from pydantic import Field
from torch import Tensor

from lib import checkpoints
from lib.files import place_for_file
from lib.live import Progress
from lib.params import Count, Options
from lib.watch import Told, Watcher

UNCHECKED = 100
"""Steps whose losses may wait to be looked at: looking waits for the device."""
Row = tuple[int, Tensor]
"""A logged step and its values."""


class Keeping(Options):
    """How a training is recorded, kept and shown."""

    log_every: Count = Field(50, description="steps between rows of the history; the last step has one too")
    checkpoint: str | Path | None = Field(
        None, description="file to write on the way and at the end, and to go on from if it exists, bit for bit on a "
                          "CPU: also to more steps, where no option spreads over all of them; another run's is refused")
    checkpoint_every: Count = Field(1000, description="steps between writings of the checkpoint")
    progress: bool = Field(True, description="show one line of progress")
    watch: tuple[Watcher, ...] = Field((), description="called at each row with what it tells (`lib.watch`)")

    apart: ClassVar[set[str]] = {"checkpoint", "checkpoint_every", "progress", "watch"}
    """Options that change nothing that is trained: a checkpoint must agree with the others."""


SILENT = Keeping(progress=False)


class Training(Protocol):
    """What the loop asks of what is trained; all but `step` only where there is a checkpoint.

    Attributes:
        samples: of a step, for the line of progress; remedy: what to try where it diverges.
    """

    samples: int = 0
    remedy: str = "lower lr"

    def step(self, step: int, log: bool) -> Tensor | None:
        """Take a step: its row [(models,) columns], loss first, if logged; else [(models,) 1] or, unchecked, None."""

    def told(self, values: Tensor) -> Told:
        """What watchers are told of a row."""
        return {"loss": float(values.reshape(-1, values.shape[-1])[:, 0].mean())}

    def identity(self, steps: int) -> dict[str, Any]:
        """What a checkpoint of this training with so many steps must agree with: plain values by name."""

    def spread(self, steps: int) -> list[str]:
        """Options for which a step is another one where there are so many steps in all."""

    def kept(self) -> list[dict[str, Any]]:
        """What continuing bit for bit needs, by part: modules, optimisers, generators, tensors, in dicts and lists."""


def run(
    training: Training, steps: int, keep: Keeping = SILENT, log_at: Collection[int] | None = None, first: int = 0
) -> list[Row]:
    """Take the steps from `first` to `steps` - 1 that no checkpoint has behind it; the logged rows of all of them.

    Args:
        log_at: steps to log, the last among them; None: every `log_every`th from 0, and the last.
    Raises:
        ValueError: a loss is not finite, which names the step; or the checkpoint is of another run, which names what
            differs.
    """
    log_at = set(log_at or {*range(0, steps, keep.log_every), steps - 1})
    path = None if keep.checkpoint is None else place_for_file(keep.checkpoint)
    chosen = keep.model_dump(exclude=keep.apart) | {"steps": steps}
    identity = {} if path is None else training.identity(steps) | chosen
    done, rows, unchecked = first, [], {}
    if path is not None and path.is_file():
        kept = _agreeing(path, identity, training)
        _restore(training.kept(), kept["states"])
        done, rows = kept["step"], [row for row in kept["rows"] if row[0] in log_at]
    shown = steps - first, "training", done - first
    line = Progress(*shown, samples=training.samples) if keep.progress else None
    with line or nullcontext():
        for step in range(done, steps):
            is_due = path is not None and ((step + 1) % keep.checkpoint_every == 0 or step + 1 == steps)
            values = training.step(step, step in log_at)
            if values is not None:
                unchecked[step] = values
            if step in log_at:
                rows.append((step, values))
            if is_due or step in log_at or len(unchecked) == UNCHECKED:
                _refuse_diverged(unchecked, training.remedy, path)
                unchecked.clear()
            for watcher in keep.watch if step in log_at else ():
                watcher(step, training.told(values))
            if is_due:
                checkpoints.write(path, step + 1, _state(training.kept()), identity=identity, rows=rows)
            if line:
                line.advance()
    return rows


def loss_digest(extra_loss: Any, models: Sequence[Any], steps: int) -> str:
    """A digest that tells an extra loss, (model, step) -> scalar, from others, for the `identity` of a training.

    Its own `identity` where it has one; else its values for the models at some steps. None: that of no loss.
    """
    if (own := getattr(extra_loss, "identity", None)) is not None:
        return own
    asked = [] if extra_loss is None else [(model, step) for model in models for step in _probes(steps)]
    return checkpoints.content_digest([float(torch.as_tensor(extra_loss(*each)).detach()) for each in asked])


def _probes(steps: int) -> list[int]:
    """Steps that tell schedules apart: the first 32 and 32 evenly spaced, the last among them."""
    return sorted({*range(min(32, steps)), *(round(i * (steps - 1) / 31) for i in range(32))})


def _agreeing(path: Path, identity: dict[str, Any], training: Training) -> dict[str, Any]:
    """The checkpoint, of this training or of its first steps."""
    kept, steps = checkpoints.read(path), identity["steps"]
    there, before = kept["identity"], kept["identity"]["steps"]
    wanted = identity if before == steps else identity | training.identity(before) | {"steps": steps}
    differing = sorted(name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name))
    changes = ", ".join(f"{name} ({str(there.get(name))[:40]} there)" for name in differing)
    another, remedy = f"{path} belongs to another run: it differs in {changes}", "use another file or delete it"
    if differing == ["steps"]:
        if spread := training.spread(before):
            raise ValueError(f"{another}, and {' and '.join(spread)} spreads over all of them; to train longer, start "
                             f"anew, from its result or with a course that ignores the end; {remedy}")
        if kept["step"] >= steps:  # its last row may not be among those there
            raise ValueError(f"{another}, of which {kept['step']} are done; ask for more, {remedy}")
    elif "initial weights" in differing:
        raise ValueError(f"{another}; begin from the weights that it began from (make the model anew, as it was at the "
                         f"start), or {remedy}")
    elif differing:
        longer = "; for more steps of it, give the rest as it is there" if "steps" in differing else ""
        raise ValueError(f"{another}; {remedy}{longer}")
    return kept


def _state(kept: Any) -> Any:
    """Plain tensors and numbers of what a training keeps."""
    if isinstance(kept, dict):
        return {name: _state(part) for name, part in kept.items()}
    if isinstance(kept, list):
        return [_state(part) for part in kept]
    if isinstance(kept, torch.Generator):
        return kept.get_state()
    return kept.detach() if isinstance(kept, Tensor) else dict(kept.state_dict())


def _restore(kept: Any, state: Any) -> None:
    """Put a `_state` in place; a dict gets what it has not yet."""
    if isinstance(kept, dict):
        for name in state.keys() & kept.keys():
            _restore(kept[name], state[name])
        kept |= {name: state[name] for name in state.keys() - kept.keys()}
    elif isinstance(kept, list):
        for part, own in zip(kept, state, strict=True):
            _restore(part, own)
    elif isinstance(kept, torch.Generator):
        kept.set_state(state)
    elif isinstance(kept, Tensor):
        kept.detach().copy_(state)
    else:
        kept.load_state_dict(state)


def _refuse_diverged(unchecked: dict[int, Tensor], remedy: str, path: Path | None) -> None:
    """Look at the values of some steps at once."""
    if not unchecked or torch.cat([values.reshape(-1) for values in unchecked.values()]).isfinite().all():
        return
    step, values = next((step, values) for step, values in unchecked.items() if not values.isfinite().all())
    values = values.reshape(-1, values.shape[-1])  # [models, columns]
    bad = ~values.isfinite().all(1)
    who = "training" if len(bad) == 1 else f"{int(bad.sum())} of {len(bad)} models"
    unwritten = "" if path is None else f", so that {path} was not written"
    raise ValueError(f"{who} diverged: the loss of step {step} is {float(values[bad][0, 0])}{unwritten}; {remedy}")
