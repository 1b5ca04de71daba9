"""What a trained classifier says of images."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lib.training.augmentation import prepare
from lib.training.batches import image_tensor, labelled


@torch.no_grad()
def logits(
    model: nn.Module, images: np.ndarray | Tensor, *, batch: int = 500, image_size: int | None = None
) -> Tensor:
    """The model's outputs for images, in evaluation mode, on the model's device; the model's mode stays as it was.

    Args:
        images: uint8, [n, H, W], [n, H, W, 3] or [n, C, H, W].
        image_size: side of the middle part the model sees; None: all.
    Returns:
        float32, [n, classes].
    """
    device = next(model.parameters()).device
    with in_mode(model, training=False):
        parts = image_tensor(images).split(batch)
        return torch.cat([scores(model(prepare(part.to(device), image_size))).float() for part in parts])


def evaluate(
    model: nn.Module, images: np.ndarray | Tensor, labels: np.ndarray | Tensor, *, batch: int = 500,
    image_size: int | None = None,
) -> float:
    """Share of images whose largest logit is their label's, a whole number; the rest as in `logits`."""
    images, labels = labelled(images, labels)
    out = logits(model, images, batch=batch, image_size=image_size)
    check_labels(labels, out.shape[1])
    return int((out.argmax(1) == labels.to(out.device)).sum()) / len(labels)


def scores(out: object) -> Tensor:
    """What a classifier gave, or a ValueError where that is no tensor of logits [B, classes]."""
    if isinstance(out, Tensor) and out.ndim == 2:
        return out
    kind = list(out.shape) if isinstance(out, Tensor) else f"a {type(out).__name__}"
    raise ValueError(f"the model must give logits [B, classes], in training too, it gives {kind}; wrap it in a module "
                     "whose forward returns the logits alone")


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels the model has no output for."""
    if int(labels.max()) >= classes:
        raise ValueError(f"label {int(labels.max())} needs {int(labels.max()) + 1} classes, the model has {classes}")


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode inside the block; every module's own mode after it, however it ends."""
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision on CUDA; on a CPU, products in float32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.bfloat16)
    return torch.autocast(device.type, dtype, enabled=device.type == "cuda" and precision != "float32")
