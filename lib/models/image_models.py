"""`image_model`: the one builder of image classifiers, with a start of their own from a named stream."""
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lib.models.resnet import resnet18
from lib.models.vit import tiny_vit, vit
from lib.rng import stream_seed

MODELS = {"vit_small": vit, "tiny_vit": tiny_vit, "resnet18": resnet18}


def image_model(name: str, image_size: int, channels: int, classes: int, seed: int, **options: Any) -> nn.Module:
    """An untrained classifier of images [B, channels, image_size, image_size] -> logits [B, classes], float32, on CPU.

    The weights depend on the arguments alone; the global random generators stay as they are.

    Args:
        name: "vit_small" (ViT-S/16), "tiny_vit" or "resnet18".
        seed: of the initial weights.
        options: keyword arguments of the model's own function (`lib.models.vit`, `lib.models.resnet`): patch, width,
            depth, heads, dropout, drop_path; small_stem.
    """
    if name not in MODELS:
        raise ValueError(f"there is no image model {name!r}; there are {', '.join(MODELS)}")
    sizes = {"image_size": image_size, "channels": channels, "classes": classes}
    for what, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{what} must be a whole number of at least 1, got {value!r}")
    with torch.random.fork_rng(devices=[]):  # timm draws from the global CPU generator
        torch.default_generator.manual_seed(stream_seed(seed, "image_model", name))
        return MODELS[name](**sizes, **options)
