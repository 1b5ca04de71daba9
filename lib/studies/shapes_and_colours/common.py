"""What every stage shares: the root seed, the images, and what each kind of network is asked of them."""
from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from lib.data import shapes_colours as generated
from lib.params import Params as Base
from lib.rng import numpy_generator
from lib.tensors import device_named

SLUG = "shapes_and_colours"
ATTRIBUTES = ("shape", "colour", "size")
HEADS, JOINT, SCRAMBLED, HELD_OUT = "heads", "joint", "scrambled", "held out"
TASKS = (HEADS, JOINT, SCRAMBLED)
"""A head per attribute; one label for each combination; heads on attributes that a random one-to-one map of the
combinations makes up: as many outputs, and nothing in the image that they name."""
Counts = Annotated[tuple[int, ...], Field(min_length=3, max_length=3)]


class Common(Base):
    """What every stage takes."""

    seed: int = Field(ge=0, le=10**6, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where networks and decompositions are trained")


class Images(Common):
    """Of the images."""

    counts: Counts = Field(description="shapes, colours and sizes, 2 to 8 each (the report: 3, 3, 3 and 3, 3, 2)")
    train_images: int = Field(ge=100, description="images that networks and decompositions learn from")
    test_images: int = Field(ge=54, description="images that judge everything")

    @field_validator("counts")
    @classmethod
    def _can_be_drawn(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        return generated.checked_counts(counts)


def cells(params: Images) -> int:
    """Combinations of shape, colour and size."""
    return math.prod(params.counts)


def held_out(params: Images) -> tuple[int, ...]:
    """Combinations kept from a network's training: of the last shape, one with each of three colours, sizes apart."""
    n_shapes, n_colours, n_sizes = params.counts
    last = (n_shapes - 1) * n_colours
    return tuple((last + i) * n_sizes + n_sizes - 1 - i % n_sizes for i in range(min(3, n_colours)))


def images(params: Images, split: str, without: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images [n, 28, 28, 3] and labels [n] of a split, "train" or "test", the same for every network."""
    return _images(params.view(Images), split, without)


@functools.lru_cache(maxsize=3)
def _images(params: Images, split: str, without: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    n, rng = getattr(params, f"{split}_images"), numpy_generator(params.seed, SLUG, "images", split, str(without))
    drawn = generated.shapes_colours(n, rng=rng, counts=params.counts, without=without)
    return drawn.images, drawn.labels


def pixels(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [n, H, W, 3] as the network reads them, float32 [n, 3, H, W] in [0, 1]."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous().float() / 255


def heads(params: Images, task: str) -> dict[str, int]:
    """Name and classes of each head of a network."""
    return {"combination": cells(params)} if task == JOINT else dict(zip(ATTRIBUTES, params.counts, strict=True))


def answers(params: Images, task: str, seed: int, labels: np.ndarray) -> Tensor:
    """What each head should say, [n, heads]; `scrambled` has a map of its own for every network."""
    if task == JOINT:
        return torch.from_numpy(labels)[:, None]
    if task == SCRAMBLED:
        labels = numpy_generator(params.seed, SLUG, "scramble", seed).permutation(cells(params))[labels]
    return torch.from_numpy(generated.atoms(labels, params.counts))


def kept(checkpoints: Path | None, name: str) -> dict[str, Any]:
    """Options of a training that can be killed and continued."""
    return {} if checkpoints is None else {"checkpoint": checkpoints / f"{name}.pt", "checkpoint_every": 500}


def place(params: Common) -> torch.device:
    """The device by name."""
    return device_named(params.device)
