"""`train`: training of image classifiers."""
from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lib.loop import Keeping
from lib.tensors import device_named, own_session
from lib.training.augmentation import prepare
from lib.training.batches import ImageBatches, labelled
from lib.training.evaluation import check_labels, in_mode, scores
from lib.training.recipe import Recipe
from lib.training.steps import ExtraLoss, History, ModelTraining


class Running(Keeping):
    """Where `lib.training.train` runs, and how it is recorded, kept and shown."""

    owner: ClassVar = "train"
    device: str = Field("auto", description='"auto" (CUDA where there is one), "cpu" or "cuda"')
    resident: bool = Field(True, description="hold the data set on the device; False: fetch batches, one ahead")

    apart: ClassVar = Keeping.apart | {"device", "resident"}


@own_session()
def train(
    model: nn.Module, images: np.ndarray | Tensor, labels: np.ndarray | Tensor, recipe: Recipe, seed: int,
    extra_loss: ExtraLoss | None = None, **options: Any,
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
            together with the cross-entropy's. With a checkpoint it is asked before the first step what it is at up to
            64 of them, with the model in evaluation mode.
        options: of `Running`: checkpoint, log_every, device and the rest. A checkpoint of another architecture (as the
            model prints), start, data, recipe, seed or extra loss is refused.
    Returns:
        The History.
    """
    running = Running(**options)
    images, labels = labelled(images, labels)
    where = device_named(running.device)
    model.to(where)
    _check(model, images, labels, recipe)
    batches = ImageBatches(images, labels, recipe, seed, where, running.resident)
    try:
        return ModelTraining(model, batches, extra_loss).run(recipe.total_steps(len(images)), running)
    finally:
        batches.close()


def _check(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> None:
    recipe.steps_per_epoch(len(images))
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("the model has no parameter to train: give one that is not frozen throughout")
    if any(p.is_inference() for p in model.parameters()):
        raise ValueError("the model was made in inference mode, which keeps no gradients: make it outside")
    size = recipe.image_size
    x = prepare(images[:2].to(next(model.parameters()).device), size)
    with in_mode(model, training=False), torch.no_grad():
        try:
            out = scores(model(x))
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"the model cannot take images of {list(x.shape[1:])}: {error}") from error
    check_labels(labels, out.shape[1])
