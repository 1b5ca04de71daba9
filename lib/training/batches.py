"""Batches of labelled images: their order is a function of (seed, epoch), their changes of (seed, epoch, index)."""
from __future__ import annotations

import warnings
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lib.checkpoints import content_digest
from lib.schedules import EpochOrder
from lib.training.augmentation import augment, epoch_key
from lib.training.recipe import Recipe

SAMPLED = 1024
"""Images that stand for the whole in a digest, evenly spaced; labels count all."""


def image_tensor(images: np.ndarray | Tensor) -> Tensor:
    """Images as training wants them, uint8 [n, C, H, W], without a copy where there need be none.

    Args:
        images: uint8, [n, H, W], [n, H, W, 3] (as `lib.data.images.load` gives), [n, C, H, W] of 1 or 3 channels, or
            a memory map of one of these.
    """
    x = images if isinstance(images, Tensor) else _shared(images)
    if x.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 as stored, got {x.dtype}; they are scaled on the device")
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] == 3:
        return x.permute(0, 3, 1, 2)  # [n, 3, H, W]
    if x.ndim == 4:
        return x
    raise ValueError(f"images must be [n, H, W], [n, H, W, 3] or [n, C, H, W], got {list(x.shape)}")


def _shared(images: np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # a read-only memory map is welcome: nothing here writes to the data
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(images))


class ImageBatches:
    """`batches[step]` -> (x float32 [b, C, H, W], labels int64 [b]) on the device.

    Args:
        images, labels: uint8 [n, C, H, W] and int64 [n].
        resident: keep the data set on the device; otherwise batches are fetched from where it is, one ahead.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, recipe: Recipe, seed: int, device: torch.device, resident: bool
    ):
        self.recipe, self.seed, self.device = recipe, seed, device
        self.images, self.labels = images, labels
        if resident:
            self.images, self.labels = images.to(device), labels.to(device)
        recipe.steps_per_epoch(len(images))
        self.order = EpochOrder(len(images), recipe.batch, seed, "order", self.labels.device)
        self.ahead: tuple[int, Future] | None = None
        self.pool = None if resident else ThreadPoolExecutor(1)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        if self.pool is None:
            images, labels, index = self._fetch(step)
        else:
            number, future = self.ahead or (-1, None)
            images, labels, index = future.result() if number == step else self._fetch(step)
            self.ahead = step + 1, self.pool.submit(self._fetch, step + 1)
            images, labels, index = (t.to(self.device, non_blocking=True) for t in (images, labels, index))
        key = epoch_key(self.seed, step // self.order.per_epoch)
        return augment(images, index, self.recipe.augment, key, self.recipe.image_size), labels

    def _fetch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        index = self.order[step]
        parts = self._rows(index), self.labels[index], index
        return tuple(part.pin_memory() for part in parts) if self.pool and self.device.type == "cuda" else parts

    def _rows(self, index: Tensor) -> Tensor:
        """Images [b, C, H, W]; NumPy copies those stored as [n, H, W, C] whole, torch byte by byte, to one layout."""
        if self.images.device.type != "cpu":
            return self.images[index]
        return torch.from_numpy(self.images.numpy()[index.numpy()])

    def digest(self) -> str:
        """SHA-256 of the labels and of evenly spaced images."""
        some = torch.linspace(0, len(self.labels) - 1, min(SAMPLED, len(self.labels))).long().to(self.images.device)
        return content_digest([list(self.images.shape), self.images[some], self.labels])

    def close(self) -> None:
        """End the thread that fetches ahead."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)


def labelled(images: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """Images as uint8 [n, C, H, W] and labels as int64 [n], of one length."""
    images, labels = image_tensor(images), torch.as_tensor(labels)
    if labels.dtype.is_floating_point or labels.dtype == torch.bool or labels.ndim != 1:
        raise ValueError(f"labels must be whole numbers, one per image, got {labels.dtype} {list(labels.shape)}")
    if len(labels) != len(images) or not len(labels):
        raise ValueError(f"there are {len(images)} images and {len(labels)} labels; they must be as many, and some")
    if int(labels.min()) < 0:
        raise ValueError(f"labels must lie in 0 .. classes - 1, got {int(labels.min())}")
    return images, labels.long()
