"""How a model is trained: everything but the model, the data and the seed."""
from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from lib.params import Count, Options, Positive, Weight
from lib.schedules import cosine, warm_up


class Recipe(Options):
    """AdamW with warm-up and a learning-rate schedule, for a number of steps or epochs."""

    steps: Count | None = Field(None, description="length of training; give it or epochs")
    epochs: Count | None = Field(None, description="an epoch is n // batch steps, its order drawn anew")
    batch: Count = Field(128, description="images per step")
    lr: Weight = Field(1e-3, description="largest learning rate")
    weight_decay: Weight = Field(
        0.05, description="of AdamW, for matrices and kernels; biases, norms, class token and positions have none")
    warmup: int = Field(0, ge=0, description="steps over which the learning rate grows linearly")
    schedule: Literal["cosine", "cosine_per_epoch", "constant"] = Field(
        "cosine", description='"cosine" to 0 at the end, step by step; "cosine_per_epoch", which changes once an epoch')
    clip: Positive | None = Field(
        1.0, description="largest global norm of the gradient, extra loss included; None: no limit")
    precision: Literal["bf16", "fp16", "float32"] = Field(
        "bf16", description='of products on CUDA: "fp16" with a scaled loss; "float32" leaves TF32 to torch, whose '
                            "convolutions use it unless told otherwise. A CPU always takes float32")
    augment: tuple[Literal["random_resized_crop", "shift", "flip", "colour_jitter"], ...] = Field(
        (), description="what training images go through")
    image_size: Count | None = Field(
        None, description="side of the images the model sees: random_resized_crop makes it, evaluation takes the "
                          "centre. None: as stored")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"give steps or epochs, not both or neither; got {self.steps} and {self.epochs}")
        if {"random_resized_crop", "shift"} <= set(self.augment):
            raise ValueError("augment has random_resized_crop and shift, which both choose the place; take one")
        return self

    def steps_per_epoch(self, n: int) -> int:
        """Whole batches in n images."""
        if n < self.batch:
            raise ValueError(f"a batch of {self.batch} needs as many images, there are {n}; lower batch")
        return n // self.batch

    def total_steps(self, n: int) -> int:
        """Steps of the whole training on n images."""
        per_epoch = self.steps_per_epoch(n)
        return self.steps if self.epochs is None else self.epochs * per_epoch

    def lr_at(self, step: int, n: int) -> float:
        """Learning rate of step `step` (the first is 0) on n images."""
        done, steps, rate = step, self.total_steps(n), self.lr * warm_up(step, self.warmup)
        if self.schedule == "constant":
            return rate
        if self.schedule == "cosine_per_epoch":
            per_epoch = self.steps_per_epoch(n)
            done, steps = step // per_epoch, math.ceil(steps / per_epoch)
        elif steps > self.warmup:
            done, steps = max(0, step - self.warmup), steps - self.warmup
        return rate * cosine(done, steps)
