"""The images of the study, the same for every model."""
from __future__ import annotations

import functools
from typing import NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from lib.data.images import Images, load
from lib.data.shapes_colours import shapes_colours
from lib.params import Params as Base
from lib.rng import numpy_generator

SLUG = "topoloss_hypotheses"


class Data(Base):
    """Which images, and how many of the test images select units and judge accuracy."""

    seed: int = Field(ge=0, description="root of every random stream")
    dataset: str = Field(pattern="^(shapes|fashion_mnist|cifar10|imagenet100)$", description="labelled images")
    generated_images: int = Field(ge=0, description="training images of shapes; the others have a fixed number")
    image_size: int = Field(ge=8, description="side of the images the model sees")
    select_images: int = Field(ge=10, description="split A: images units are selected on")
    test_images: int = Field(ge=10, description="images that judge accuracy")

    @model_validator(mode="after")
    def _shapes_are_drawn(self) -> Self:
        if self.dataset == "shapes" and not self.generated_images:
            raise ValueError("generated_images: 0 leaves nothing to train on with dataset: shapes; give some, say 400")
        return self


class Pool(NamedTuple):
    """Images as the data set gives them, its test images dealt into two parts that share none."""

    train: Images
    select: Images
    """Split A."""
    rest: Images
    test: Images
    """The first of the rest, which judge accuracy."""


def pool(params: Data) -> Pool:
    """The images of a profile, read once per process.

    Raises:
        DatasetUnavailable: the data set is not there and not to be had; the message gives the command.
        ValueError: it has too few images.
    """
    return _pool(params.view(Data))


@functools.lru_cache(maxsize=1)
def _pool(params: Data) -> Pool:
    shown, tested = _images(params)
    order = numpy_generator(params.seed, SLUG, "test").permutation(len(tested))
    select, rest = tested.take(order[: params.select_images]), tested.take(order[params.select_images :])
    if len(rest) < params.test_images:
        raise ValueError(f"{params.dataset} has {len(shown)} and {len(tested)} images, too few for this profile")
    return Pool(shown, select, rest, rest.take(np.arange(params.test_images)))


def _images(params: Data) -> tuple[Images, Images]:
    """Training and test images of the profile's data set."""
    if params.dataset == "shapes":
        sizes = params.generated_images, params.select_images + params.test_images
        made = [numpy_generator(params.seed, SLUG, "shapes", split) for split in ("train", "test")]
        return tuple(shapes_colours(n, params.image_size, rng=rng) for n, rng in zip(sizes, made, strict=True))
    return load(params.dataset, "train"), load(params.dataset, "test")
