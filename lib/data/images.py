"""Labelled images by name: uint8 pixels as they were published, labels as integers, verified on load."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.data import imagenet100
from lib.data.registry import DataError, Dataset, datasets
from lib.data.resolve import resolve
from lib.rng import numpy_generator

OPTIONS = {"mnist_5k": ("seed",), "imagenet100": ("size", "path")}


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Attributes:
        name: the data set's name.
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


def load(name: str, split: str | None = None, **options: Any) -> Images:
    """The labelled images of data set `name`, in their published order; only mnist_5k comes shuffled.

    Args:
        name: digits, mnist_5k, mnist, fashion_mnist, cifar10 or imagenet100.
        split: "train" (the default) or "test"; digits and mnist_5k are one set and have none.
        options: mnist_5k takes `seed`, of its order (0): it is stored sorted by class, so that unshuffled a prefix
            would hold one digit only. imagenet100 takes `size`, side of its squares in pixels (256), and `path`, the
            folder of your own copy.
    Raises:
        DataError: no such name, split or option; the message lists the accepted ones.
        DatasetUnavailable: not fetched and not to be had; the message gives the command.
        DataCorrupt: what was found is not what the registry pins.
    """
    known = {key: data for key, data in datasets().items() if data.classes}
    if name not in (*known, "imagenet100"):
        raise DataError(f"unknown data set {name!r}; accepted names: {', '.join(sorted((*known, 'imagenet100')))}")
    splits = known[name].splits if name in known else tuple(imagenet100.FOLDERS)
    if split not in (None, *splits):
        raise DataError(f"{name} has no split {split!r}; accepted: {', '.join(splits) or 'none, it is one set'}")
    if wrong := sorted(options.keys() - OPTIONS.get(name, ())):
        raise DataError(f"{name} takes no {wrong[0]}; accepted options: {', '.join(OPTIONS.get(name, ())) or 'none'}")
    split = split or next(iter(splits), None)
    if name == "imagenet100":
        return Images(name, *imagenet100.arrays(split, **options), imagenet100.NAMES, 255)
    return _registered(known[name], split, **options)


def _registered(data: Dataset, split: str | None, seed: int = 0) -> Images:
    arrays, part = resolve(data), f"{split}_" if split else ""
    labels = arrays[f"{part}labels"].astype(np.int64)
    found = Images(data.name, arrays[f"{part}images"], labels, data.classes, data.peak)
    if data.name != "mnist_5k":
        return found
    return found.take(numpy_generator(seed, "mnist_5k", "order").permutation(len(found)))
