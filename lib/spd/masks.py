"""Masks m = g + (1 - g) r between a component's causal importance g and 1, and where r comes from.

The noise r is uniform on [0, 1] or one of {0, 1}; either way dm/dg = 1 - r, so the gates learn. A mask drawn as
Bernoulli(g) has the same mean for binary g, and no gradient at all: its derivative in g is 0 in every draw.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.rng import generator
from lib.tensors import WithGradient

KINDS = ("uniform", "binary", "bernoulli")


class Mask(NamedTuple):
    """How one site is masked: out = (a * m) U + delta * (x Δᵀ) + bias, m = importance + (1 - importance) noise.

    Attributes:
        importance: g, [..., C], or broadcasting against it; with noise None the mask itself.
        noise: r, shaped like it; None: m = importance.
        delta: mask of the weight-delta component, one per position [...] or a number.
        route: where the mask applies, bool, broadcasting against positions; elsewhere the target's weight acts. None:
            everywhere.
    """

    importance: Tensor
    noise: Tensor | None = None
    delta: Tensor | float = 1.0
    route: Tensor | None = None


class Noise:
    """Random numbers of a decomposition, from one stream, or one per panel: a panel draws what it would draw alone.

    Args:
        seeds: one per panel; without panels just one.
        panels: whether tensors have a leading axis of panels.
    """

    def __init__(self, seeds: Sequence[int], panels: bool, device: torch.device | str = "cpu"):
        self.streams = [generator(seed, "spd", "noise", device=device) for seed in seeds]
        self.panels = panels

    def uniform(self, like: Tensor) -> Tensor:
        """U(0, 1), in the shape, layout, type and place of `like`."""
        out = torch.empty_like(like, requires_grad=False)
        for part, rng in zip(out if self.panels else [out], self.streams, strict=True):
            part.uniform_(generator=rng)
        return out

    def noise(self, importance: Tensor, kind: str) -> tuple[Tensor, Tensor | None]:
        """What a `Mask` takes as importance and noise.

        Args:
            kind: "uniform", "binary", or "bernoulli", which has no gradient.
        """
        if kind not in KINDS:
            raise ValueError(f"mask {kind!r} is not one of {', '.join(KINDS)}")
        r = self.uniform(importance)
        if kind == "uniform":
            return importance, r
        if kind == "binary":
            return importance, (r < 0.5).to(r.dtype)
        return bernoulli(importance, r), None


def bernoulli(importance: Tensor, uniform: Tensor) -> Tensor:
    """1 with probability g, else 0: an indicator whose gradient in g is 0 wherever it exists.

    It stays in the graph with that gradient, as `torch.bernoulli(g)` does: nothing fails, and nothing is learnt.
    """
    return (uniform < importance).to(importance.dtype) + 0 * importance


def masked(acts: Tensor, mask: Mask) -> Tensor:
    """a * (m - delta), [..., C]: what U has to add to delta * (x Wᵀ) for the masked output.

    (a m) U + delta x Δᵀ with x Δᵀ = x Wᵀ - a U, so Δ itself is never formed.
    """
    delta = mask.delta
    if isinstance(delta, Tensor):
        delta = delta.unsqueeze(-1)
    fused = mask.noise is not None and mask.noise.shape == mask.importance.shape == acts.shape
    if not fused or mask.noise.requires_grad or getattr(delta, "requires_grad", False):
        m = mask.importance if mask.noise is None else mask.importance + (1 - mask.importance) * mask.noise
        out = acts * (m - delta)
    else:
        out = _fused(acts, mask.importance, mask.noise, delta)
    return out if mask.route is None else out * mask.route.unsqueeze(-1)


def _fused(a: Tensor, g: Tensor, r: Tensor, delta: Tensor | float) -> Tensor:
    """a (g + (1 - g) r - delta), all of one shape and delta one per position, for r and delta without gradients."""
    def mask(g: Tensor, r: Tensor, delta: Tensor) -> Tensor:
        return torch.rsub(g, 1).mul_(r).add_(g).sub_(delta)

    def gradient(d: Tensor, a: Tensor, g: Tensor, r: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return mask(g, r, delta).mul_(d), torch.rsub(r, 1).mul_(a).mul_(d), None, None

    delta = torch.as_tensor(delta, dtype=a.dtype, device=a.device)
    return WithGradient.apply(lambda a, g, r, delta: mask(g, r, delta).mul_(a), gradient, a, g, r, delta)


def subset_routes(names: Sequence[str], noise: Noise, rows: Tensor) -> dict[str, Tensor]:
    """For every sample a uniform number k of 1..L layers, and k layers chosen uniformly.

    Args:
        rows: any tensor with one entry per sample, [(S,) B].
    Returns:
        bool [(S,) B] per layer; broadcast over further positions by the caller.
    """
    layers = torch.stack([noise.uniform(rows) for _ in names], -1)  # [..., L]
    k = (noise.uniform(rows) * len(names)).floor().clamp(max=len(names) - 1)  # [...], one less than chosen
    rank = layers.argsort(-1).argsort(-1)
    return {name: rank[..., i] <= k for i, name in enumerate(names)}
