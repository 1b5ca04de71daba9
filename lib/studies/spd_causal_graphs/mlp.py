"""A multilayer perceptron on images whose weights are applied by an operation given to it, for decompositions."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.rng import generator
from lib.training import History, Recipe, train


class MLP(nn.Module):
    """logits = W_L relu(... relu(W_1 x + b_1) ...) + b_L, every W applied through `op(name, module, x)`.

    Args:
        sizes: widths from the pixels to the classes, such as (784, 128, 10).
        seed: of the weights, uniform in ± 1/sqrt(fan_in) as torch draws them.
    Attributes:
        fc1, fc2, ...: its linear layers.
    """

    def __init__(self, sizes: Sequence[int], seed: int):
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"an MLP needs at least two widths, got {tuple(sizes)}")
        self.sizes, rng = tuple(sizes), generator(seed, "mlp")
        for place, (d_in, d_out) in enumerate(zip(sizes, sizes[1:], strict=False), start=1):
            layer, bound = nn.utils.skip_init(nn.Linear, d_in, d_out), 1 / math.sqrt(d_in)
            for parameter in (layer.weight, layer.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=rng)
            setattr(self, f"fc{place}", layer)

    def forward(self, x: Tensor, op=lambda name, module, x: module(x)) -> Tensor:
        """Logits, [B, classes], of `pixels` [B, d_in] in [0, 1] or of images [B, C, H, W] in [-1, 1].

        Args:
            op: called as op(name, module, input) in place of module(input).
        """
        x = (x.flatten(1) + 1) / 2 if x.ndim == 4 else x
        names = [name for name, _ in self.named_children()]
        for name in names[:-1]:
            x = op(name, getattr(self, name), x).relu()
        return op(names[-1], getattr(self, names[-1]), x)


def pixels(images: np.ndarray, peak: int) -> Tensor:
    """Images [n, ...] of whole numbers as the MLP reads them, float32 [n, d_in] in [0, 1]."""
    return torch.from_numpy(np.asarray(images).reshape(len(images), -1)).float() / peak


def train_mlp(
    images: np.ndarray, labels: np.ndarray, sizes: Sequence[int], seed: int, steps: int, batch: int = 128,
    lr: float = 1e-3, **options: Any,
) -> tuple[MLP, History]:
    """A trained MLP and its history: Adam, a cosine to 0, no weight decay, no augmentation; one seed, one network.

    Args:
        images: uint8, [n, H, W], black 0 and white 255; labels: [n].
        sizes, seed: as in `MLP`; steps, batch, lr: of `lib.training.Recipe`.
        options: of `lib.training.train`, such as device and checkpoint.
    """
    model = MLP(sizes, seed)
    history = train(model, images, labels, mlp_recipe(steps, batch, lr), seed, progress=False, **options)
    return model.eval().requires_grad_(False), history


def mlp_recipe(steps: int, batch: int, lr: float) -> Recipe:
    """Adam with a cosine to 0, without decay and clipping."""
    return Recipe(steps=steps, batch=batch, lr=lr, weight_decay=0.0, clip=None, precision="float32")
