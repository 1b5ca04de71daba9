"""Where an image classifier is read."""
from __future__ import annotations

from typing import NamedTuple

from torch import nn

from lib.activations.hooks import match_modules


class ModuleNames(NamedTuple):
    """Names of a model's modules."""

    layers: str
    """Layers whose units lie on sheets."""
    blocks: tuple[str, ...]
    site: str
    """The block, half-way, after which activations are read and patched."""
    codes: str
    """Where its non-negative codes are."""
    last: str


def module_names(model: nn.Module) -> ModuleNames:
    """Where the sheets, blocks and site of a timm vision transformer or ResNet are."""
    if hasattr(model, "blocks"):
        blocks = tuple(match_modules(model, "blocks.*"))
        site = blocks[len(blocks) // 2]
        return ModuleNames("blocks.*.attn.proj", blocks, site, f"{site}.mlp.act", "norm")
    if not hasattr(model, "layer4"):
        raise ValueError(f"module_names knows vision transformers and ResNets, got a {type(model).__name__}")
    return ModuleNames("layer*.*.conv*", ("layer1", "layer2", "layer3", "layer4"), "layer3", "layer3", "layer4")
