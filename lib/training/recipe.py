"""How a model is trained: everything but the model, the data and the seed."""
from __future__ import annotations

import math
from dataclasses import dataclass

AUGMENTATIONS = ("random_resized_crop", "shift", "flip", "colour_jitter")
CHOICES = {"schedule": ("cosine", "cosine_per_epoch", "constant"), "precision": ("bf16", "fp16", "float32")}


@dataclass(frozen=True)
class Recipe:
    """AdamW with warm-up and a learning-rate schedule, for a number of steps or epochs.

    Attributes:
        steps, epochs: length of training; give one of them. An epoch is n // batch steps, its order drawn anew.
        batch: images per step.
        lr: largest learning rate.
        weight_decay: of AdamW, for matrices and kernels; biases, norms, class token and positions have none.
        warmup: steps over which the learning rate grows linearly.
        schedule: "cosine" to 0 at the end, step by step; "cosine_per_epoch", which changes once an epoch; "constant".
        clip: largest global norm of the gradient, extra loss included; None: no limit.
        label_smoothing: share of the target spread evenly over all classes.
        precision: of products on CUDA: "bf16", "fp16" with a scaled loss, or "float32", which leaves TF32 to torch's
            settings (unless changed, cuDNN's convolutions use it and matrix products do not). A CPU always takes
            float32.
        augment: what training images go through, of "random_resized_crop", "shift", "flip", "colour_jitter".
        image_size: side of the images the model sees, in pixels: random_resized_crop makes it, evaluation takes the
            centre. None: as stored.
    """

    steps: int | None = None
    epochs: int | None = None
    batch: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 0
    schedule: str = "cosine"
    clip: float | None = 1.0
    label_smoothing: float = 0.0
    precision: str = "bf16"
    augment: tuple[str, ...] = ()
    image_size: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.augment, str):
            raise ValueError(f"augment must be a tuple of names, got the string {self.augment!r}")
        object.__setattr__(self, "augment", tuple(self.augment))
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"give steps or epochs, not both or neither; got {self.steps} and {self.epochs}")
        for name, least in {"steps": 1, "epochs": 1, "batch": 1, "warmup": 0, "image_size": 1}.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        for name in ("lr", "weight_decay", "clip", "label_smoothing"):
            value = getattr(self, name)
            if value is None and name == "clip":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
            object.__setattr__(self, name, float(value))  # a NumPy number would not come back from a checkpoint
        if self.label_smoothing >= 1 or self.clip == 0:
            raise ValueError(f"need label_smoothing < 1 and clip > 0, got {self.label_smoothing} and {self.clip}")
        for name, accepted in CHOICES.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(accepted)}")
        if unknown := sorted(set(self.augment) - set(AUGMENTATIONS)):
            raise ValueError(f"augment has {', '.join(unknown)}; accepted: {', '.join(AUGMENTATIONS)}")
        if {"random_resized_crop", "shift"} <= set(self.augment):
            raise ValueError("augment has random_resized_crop and shift, which both choose the place; take one")

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
        steps, warm = self.total_steps(n), min(1.0, (step + 1) / max(1, self.warmup))
        if self.schedule == "constant":
            return self.lr * warm
        done = step
        if self.schedule == "cosine_per_epoch":
            per_epoch = self.steps_per_epoch(n)
            done, steps = step // per_epoch, math.ceil(steps / per_epoch)
        elif steps > self.warmup:
            done, steps = max(0, step - self.warmup), steps - self.warmup
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * done / steps))
