"""`train`: the one training loop of image classifiers."""
from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib import checkpoints
from lib.live import Progress
from lib.tensors import device_named
from lib.training.augmentation import prepare
from lib.training.batches import ImageBatches, labelled
from lib.training.evaluation import check_labels, evaluating, in_mode
from lib.training.recipe import Recipe
from lib.training.steps import ExtraLoss, History, ModelTraining


def train(
    model: nn.Module, images: np.ndarray | Tensor, labels: np.ndarray | Tensor, recipe: Recipe, seed: int,
    extra_loss: ExtraLoss | None = None, *, log_every: int = 50, checkpoint: str | Path | None = None,
    checkpoint_every: int = 500, device: str = "auto", resident: bool = True, progress: bool = True,
) -> History:
    """Train a classifier in place, cross-entropy + extra_loss(model, step), on uint8 images scaled on the device.

    Everything drawn is a function of `seed` and the step, epoch or image it is drawn for; the global random generators
    stay as they are.

    Args:
        model: [B, C, H, W] floats as `prepare` gives them -> logits [B, classes]; moved to the device.
        images: uint8, [n, H, W], [n, H, W, 3] or [n, C, H, W], or a memory map.
        labels: whole numbers in 0 .. classes - 1, [n].
        recipe: how.
        seed: of the order of images, augmentation and dropout; the model's own seed drew its weights.
        extra_loss: (model, step) -> a scalar to add, with its weight; computed in float32. Its gradient is clipped
            together with the cross-entropy's. With a checkpoint it is asked at up to 64 steps before the first one.
        log_every: steps between rows of the history; the last step has one too.
        checkpoint: file to write every `checkpoint_every` steps and at the end, and to resume from if it exists, bit
            for bit on CPU. One of another architecture (as the model prints), start, data, recipe, seed or extra loss
            is refused.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        resident: hold the data set on the device; False: fetch batches from the host, one ahead.
        progress: show one line of progress with images per second and the time left.
    Returns:
        The History.
    """
    images, labels = labelled(images, labels)
    where = device_named(device)
    model.to(where)
    _check(model, images, labels, recipe, {"log_every": log_every, "checkpoint_every": checkpoint_every})
    batches = ImageBatches(images, labels, recipe, seed, where, resident)
    path = None if checkpoint is None else Path(checkpoint)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        training = ModelTraining(model, recipe, seed, len(images), extra_loss)
        identity = None if path is None else _model_identity(training, batches, log_every)
        done = _resume_model(path, identity, training)
        try:
            rate = _loop(training, batches, done, path, identity, log_every, checkpoint_every, progress)
        finally:
            batches.close()
    steps = recipe.total_steps(len(images))
    return History(training.table(_logged(steps, log_every)), rate, steps)


def _loop(training, batches, done, path, identity, log_every, checkpoint_every, progress) -> float:
    """The steps from `done` on; images per second, the first step apart."""
    steps, batch = len(training.losses), training.recipe.batch
    start = time.monotonic()
    with in_mode(training.module, training=True), _Line(steps, batch, done) if progress else nullcontext() as line:
        for step in range(done, steps):
            log, end = step % log_every == 0 or step == steps - 1, step + 1
            training.step(step, *batches[step], log)
            if log:
                training.check(end)
            if path and (end % checkpoint_every == 0 or end == steps):
                training.check(end)
                checkpoints.write(path, identity, end, [training.state(end)])
            if step == done:
                start = time.monotonic()
            if line:
                line.advance()
    return max(0, steps - done - 1) * batch / max(time.monotonic() - start, 1e-9)


class _Line(Progress):
    """Progress in steps, with images per second."""

    def __init__(self, steps: int, batch: int, done: int):
        super().__init__(steps, "training", done)
        self.batch = batch

    @property
    def text(self) -> str:
        elapsed = time.monotonic() - self.start
        made = (self.done - self.reused) * self.batch
        return super().text + (f", {made / elapsed:,.0f} images/s" if made and elapsed else "")


def _logged(steps: int, log_every: int) -> list[int]:
    return sorted({*range(0, steps, log_every), steps - 1})


def _resume_model(path: Path | None, identity: dict[str, Any] | None, training: ModelTraining) -> int:
    """Continue from a checkpoint if there is one; the number of steps done."""
    if path is None or not path.is_file():
        return 0
    done, [state] = checkpoints.read(path, identity)
    training.restore(state)
    return done


def _model_identity(training: ModelTraining, batches: ImageBatches, log_every: int) -> dict[str, Any]:
    """What a checkpoint must agree in: recipe, seed, data, model as built, and what the extra loss says of that."""
    extra = []
    if training.extra_loss is not None:
        extra = [float(training.extra_loss(training.module, step).detach()) for step in _probes(len(training.losses))]
    digest = checkpoints.content_digest
    return {
        **asdict(training.recipe), "seed": int(training.seed), "log_every": log_every, "data": batches.digest(),
        "architecture": digest(str(training.module)), "initial weights": digest(dict(training.module.state_dict())),
        "extra loss": digest(extra), "device": training.device.type,
    }


def _probes(steps: int) -> list[int]:
    """Steps that tell schedules apart: the first 32 and 32 evenly spaced, the last among them."""
    return sorted({*range(min(32, steps)), *(round(i * (steps - 1) / 31) for i in range(32))})


def _check(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, counts: dict) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    recipe.steps_per_epoch(len(images))
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("the model has no parameter to train: give one that is not frozen throughout")
    size = recipe.image_size
    x = prepare(images[:2].to(next(model.parameters()).device), size)
    with evaluating(model), torch.no_grad():
        try:
            out = model(x)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"the model cannot take images of {list(x.shape[1:])}: {error}") from error
    if out.ndim != 2:
        raise ValueError(f"the model must give logits [B, classes], it gives {list(out.shape)}")
    check_labels(labels, out.shape[1])
