"""`image_model`: the one builder of image classifiers, with a start of their own from a named stream.

Vision transformers and a residual network, timm's at small sizes.
"""
from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from lib.rng import stream_seed
from lib.torchvision_import import import_torchvision

SMALL = 64
"""Images of at most so many pixels a side get the stem that does not shrink them."""


def vit(
    image_size: int, channels: int, classes: int, *, patch: int = 16, width: int = 384, depth: int = 12, heads: int = 6,
    dropout: float = 0.0, drop_path: float = 0.0,
) -> nn.Module:
    """A vision transformer that classifies from its class token; the defaults are ViT-S/16.

    Its modules keep timm's names: `blocks.<i>.attn.proj`, `blocks.<i>.mlp.act`, `norm`, `head`.

    Args:
        image_size, patch: sides of the square images and of a patch, in pixels.
        width: of the residual stream; an MLP is four times as wide.
        dropout: after the position embedding and after every projection of attention and MLP.
        drop_path: share of blocks skipped in training by the last block, growing linearly from 0 at the first.
    Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words".
    """
    _check_counts(patch=patch, width=width, depth=depth, heads=heads)
    if not (0 <= dropout < 1 and 0 <= drop_path < 1):
        raise ValueError(f"dropout and drop_path must lie in [0, 1), got {dropout} and {drop_path}")
    if image_size % patch:
        raise ValueError(f"patches of {patch} pixels do not tile images of {image_size}; give a divisor")
    if width % heads:
        raise ValueError(f"{heads} heads do not divide a width of {width}")
    timm = import_torchvision("timm")
    return timm.models.vision_transformer.VisionTransformer(
        img_size=image_size, patch_size=patch, in_chans=channels, num_classes=classes, embed_dim=width, depth=depth,
        num_heads=heads, pos_drop_rate=dropout, proj_drop_rate=dropout, drop_path_rate=drop_path,
    )


def resnet18(image_size: int, channels: int, classes: int) -> nn.Module:
    """ResNet-18: a stem, eight blocks of two 3 x 3 convolutions (`layer<i>.<j>.conv<k>`), mean pool, `fc`.

    For images of at most `SMALL` pixels a side the stem is a 3 x 3 convolution of stride 1 without pooling, in place of
    the 7 x 7 of stride 2 and its pool, which leave little of a small image.

    Source: He et al. 2016, "Deep residual learning"; the small stem as for CIFAR there.
    """
    resnet = import_torchvision("timm").models.resnet
    model = resnet.ResNet(resnet.BasicBlock, (2, 2, 2, 2), num_classes=classes, in_chans=channels)
    if image_size <= SMALL:
        model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    return model


MODELS = {"vit_small": vit, "tiny_vit": partial(vit, width=128, depth=4, heads=4), "resnet18": resnet18}
"""tiny_vit: the published study's small transformer."""


def image_model(name: str, image_size: int, channels: int, classes: int, seed: int, **options: Any) -> nn.Module:
    """An untrained classifier of images [B, channels, image_size, image_size] -> logits [B, classes], float32, on CPU.

    The weights depend on the arguments alone; the global random generators stay as they are.

    Args:
        name: "vit_small" (ViT-S/16), "tiny_vit" or "resnet18".
        options: keyword arguments of `vit` or `resnet18`.
    """
    if name not in MODELS:
        raise ValueError(f"there is no image model {name!r}; there are {', '.join(MODELS)}")
    sizes = {"image_size": image_size, "channels": channels, "classes": classes}
    _check_counts(**sizes)
    with torch.random.fork_rng(devices=[]):  # timm draws from the global CPU generator
        torch.default_generator.manual_seed(stream_seed(seed, "image_model", name))
        return MODELS[name](**sizes, **options)


def _check_counts(**counts: Any) -> None:
    for what, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{what} must be a whole number of at least 1, got {value!r}")
