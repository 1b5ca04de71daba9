"""A module's output on some images and the rest of the model after it: where units are patched.

    site = open_site(model, "blocks.2", images, labels)      # the model runs once
    site.tail(site.acts, site.images)                        # its logits again

For a block of a timm vision transformer and a stage of a timm ResNet the rest starts at the module. For any other
module the whole model runs with the module's output replaced, which gives the same numbers.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib.activations.hooks import capture, one_module, patch
from lib.tensors import as_array

Tail = Callable[[Tensor, Tensor], Tensor]
"""Maps a module's output and the images it came from to logits [n, n_classes]."""


class Site(NamedTuple):
    """A module's output on some images, and the rest of the model after it."""

    tail: Tail
    acts: Tensor
    """[n, tokens, d], or [n, d, height, width] of a convolution."""
    images: Tensor
    labels: Tensor
    """ints [n]."""
    logits: Tensor
    """Of the unpatched model, [n, n_classes]."""
    unit_dim: int
    """Axis of `acts` that holds the units."""

    @property
    def n_units(self) -> int:
        return self.acts.shape[self.unit_dim]

    @property
    def n_classes(self) -> int:
        return self.logits.shape[1]


def tail_of(model: nn.Module, name: str) -> Tail:
    """What turns the output of the module called `name`, with the images, into logits.

    It starts at the module for `blocks.i` of a timm vision transformer and `layeri` of a timm ResNet; otherwise it is
    `replaced(model, name)`.
    """
    name = one_module(model, name)
    part, _, index = name.partition(".")
    if part == "blocks" and index.isdecimal() and _has(model, "blocks", "norm", "forward_head"):
        rest = model.blocks[int(index) + 1 :]
        return lambda acts, _: model.forward_head(model.norm(rest(acts)))
    stages = [f"layer{i}" for i in range(1, 5)]
    if name in stages and _has(model, *stages, "forward_head"):
        later = nn.Sequential(*(getattr(model, stage) for stage in stages[stages.index(name) + 1 :]))
        return lambda acts, _: model.forward_head(later(acts))
    return replaced(model, name)


def replaced(model: nn.Module, name: str) -> Tail:
    """The general tail: run the whole model on the images with the module's output replaced."""
    name = one_module(model, name)

    def tail(acts: Tensor, images: Tensor) -> Tensor:
        with patch(model, {name: acts}):
            return model(images)

    return tail


@torch.no_grad()
def open_site(model: nn.Module, name: str, images: Tensor, labels: Tensor, batch: int = 512) -> Site:
    """Run the model once and keep what the module put out; units are its last axis, or 1 of [n, d, height, width].

    Args:
        model: in eval mode, on the device of `images`; name: dotted name of one module, such as `blocks.2`.
        images: what the model takes, [n, ...]; labels: ints [n].
    """
    if model.training:
        raise ValueError("open_site: the model is in training mode, where effects are noise; call model.eval()")
    if len(images) != len(labels) or not len(images):
        raise ValueError(f"open_site: {len(images)} images do not fit {len(labels)} labels")
    name, acts, logits = one_module(model, name), [], []
    for part in images.split(batch):
        with capture(model, name, copy=True) as found:
            logits.append(model(part))
        acts.append(found[name])
    both = torch.cat(acts), torch.cat(logits)
    axis = 1 if both[0].ndim == 4 else both[0].ndim - 1
    return Site(tail_of(model, name), both[0], images, torch.as_tensor(labels).to(images.device), both[1], axis)


def unit_activity(site: Site) -> np.ndarray:
    """Mean activation of each unit over tokens or places, [n, d]: what units are selected on."""
    rest = [axis for axis in range(1, site.acts.ndim) if axis != site.unit_dim]
    return as_array((site.acts.mean(rest) if rest else site.acts).double())


def other_class_means(site: Site) -> Tensor:
    """Mean output over the images not of class c, token by token: what images of c are patched with.

    [n_classes, *acts.shape[1:]].

    Source: TopoSAE, H3.
    """
    other = (site.labels != torch.arange(site.n_classes, device=site.labels.device)[:, None]).to(site.acts.dtype)
    if not bool((other.sum(1) > 0).all()):
        raise ValueError("other_class_means needs images of at least two classes")
    return torch.tensordot(other / other.sum(1, keepdim=True), site.acts, dims=1)


def _has(model: nn.Module, *names: str) -> bool:
    return all(hasattr(model, name) for name in names)
