"""Vision transformers: timm's VisionTransformer at the sizes of the book."""
from __future__ import annotations

from torch import nn

from lib.torchvision_import import import_torchvision


def vit(
    image_size: int, channels: int, classes: int, *, patch: int = 16, width: int = 384, depth: int = 12, heads: int = 6,
    dropout: float = 0.0, drop_path: float = 0.0,
) -> nn.Module:
    """A vision transformer that classifies from its class token; the defaults are ViT-S/16.

    Its modules keep timm's names: `blocks.<i>.attn.proj`, `blocks.<i>.mlp.act`, `norm`, `head`.

    Args:
        image_size: side of the square images, in pixels.
        patch: side of a patch, in pixels.
        width: of the residual stream; an MLP is four times as wide.
        dropout: after the position embedding and after every projection of attention and MLP.
        drop_path: share of blocks skipped in training by the last block, growing linearly from 0 at the first.
    Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words".
    """
    for what, value in {"patch": patch, "width": width, "depth": depth, "heads": heads}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{what} must be a whole number of at least 1, got {value!r}")
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


def tiny_vit(image_size: int, channels: int, classes: int, *, patch: int = 16, **options: float) -> nn.Module:
    """TinyViT: 4 blocks, width 128, 4 heads; `options` are those of `vit` and may change each of these.

    Source: the published study's small transformer.
    """
    return vit(image_size, channels, classes, patch=patch, **{"width": 128, "depth": 4, "heads": 4, **options})
