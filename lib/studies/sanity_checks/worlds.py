"""The law of the source's toy section and what may be done to its samples: parameters, directions, samples.

x = sum_i b_i c_i D_i with unit directions D_i, b_i ~ Bernoulli(p_i), c_i ~ LogNormal(0, .25). A law may also bring
samples nearer to one length, x / |x|^a, or take them to one length and give them lengths of its own.
"""
from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from lib.data.planted import random_directions
from lib.params import Count, Params
from lib.rng import generator
from lib.tensors import device_named

SLUG = "sanity_checks"
RARE, FREQUENT = 10**-5.5, 10**-1.2
"""The printed ends of the variable frequencies, at the source's size."""
_CHUNK = 1 << 16


class Common(Params):
    """What every stage reads."""

    seed: int = Field(ge=0, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where coders are trained")


class Size(Common):
    """How large a world is."""

    width: int = Field(ge=4, description="d, dimensions (theirs 100)")
    features: int = Field(ge=8, description="n, true features, and latents of every coder (theirs 3200)")
    active: Count = Field(description="K, active features of a sample on average, and latents (theirs 20)")


class World(Size):
    """A world with its samples."""

    samples: int = Field(ge=500, description="different training samples of a world")
    held_out: int = Field(ge=100, description="samples that judge a coder")


class Law(NamedTuple):
    """How samples are drawn, and what is done to them."""

    p: str = "constant"
    """Frequencies: "constant", K / n each; "variable", log-uniform; "none": no features, random directions."""
    power: float = 0.0
    """a of x / |x|^a."""
    spread: float = -1.0
    """sd of the logarithm of lengths that replace the samples' own; negative: they keep theirs."""


def stream(params: Common, *labels: str | int | float, device: torch.device | str = "cpu") -> torch.Generator:
    """The study's random stream of that name."""
    return generator(params.seed, SLUG, *map(str, labels), device=device)


def directions(params: Size, seed: int) -> Tensor:
    """The true features of a seed, unit rows, float32 [n, d]."""
    size = params.features, params.width
    return random_directions(*size, stream(params, "directions", *size, seed))


def frequencies(params: Size, p: str, seed: int) -> Tensor:
    """P(b_i = 1), float64 [n], with K active features on average.

    The variable ones are the printed 10^U(-5.5, -1.2) times one factor, which is .98 at the source's size.
    """
    n, active = params.features, params.active
    if p != "variable":
        return torch.full((n,), active / n, dtype=torch.float64)
    exponent = torch.rand(n, generator=stream(params, "frequencies", n, seed), dtype=torch.float64)
    mean = (FREQUENT - RARE) / math.log(FREQUENT / RARE)
    return (RARE * (FREQUENT / RARE) ** exponent * active / (n * mean)).clamp_max(1)


def active_places(p: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Row and feature of every b_i = 1 of n samples, sorted: independent Bernoulli(p_i) at a cost of n K.

    Poisson(-log(1 - p)) marks fall on each place; a place is active where there is a mark, with probability p.
    """
    counts = torch.poisson(-torch.log1p(-p) * n, generator=rng).long()
    feature = torch.arange(len(p)).repeat_interleave(counts)
    row = torch.randint(n, (len(feature),), generator=rng)
    place = torch.unique(row * len(p) + feature)
    return place // len(p), place % len(p)


def drawn(dictionary: Tensor, p: Tensor, n: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """n samples x [n, d], and row, feature and value of what each is made of."""
    row, feature = active_places(p, n, rng)
    value = torch.exp(0.25 * torch.randn(len(row), generator=rng))
    starts = torch.searchsorted(row, torch.arange(n))
    x = torch.nn.functional.embedding_bag(feature, dictionary, starts, mode="sum", per_sample_weights=value)
    return x, row, feature, value


@functools.lru_cache(maxsize=2)
def raw(params: World, p: str, seed: int) -> tuple[Tensor, Tensor]:
    """Training and held-out samples as the law draws them, float32 [samples, d] and [held_out, d]."""
    dictionary, often = directions(params, seed), frequencies(params, p, seed)
    parts = []
    for label, n in (("train", params.samples), ("held", params.held_out)):
        rng = stream(params, label, p, params.features, seed)
        sizes = [min(_CHUNK, n - start) for start in range(0, n, _CHUNK)]
        x = torch.cat([drawn(dictionary, often, size, rng)[0] for size in sizes])
        if p == "none":
            x = x.norm(dim=1, keepdim=True) * random_directions(n, params.width, rng)
        parts.append(x)
    return tuple(parts)


def samples(params: World, law: Law, seed: int) -> tuple[Tensor, Tensor]:
    """Training and held-out samples of a law; a sample that is 0 stays 0."""
    device, parts = device_named(params.device), []
    for label, x in zip(("train", "held"), raw(params, law.p, seed), strict=True):
        length = x.norm(dim=1, keepdim=True).clamp_min(1e-12)
        x = x / length if law.spread >= 0 else x / length**law.power
        if law.spread > 0:
            rng = stream(params, "lengths", label, law.spread, seed)
            x = x * torch.exp(law.spread * torch.randn(len(x), 1, generator=rng))
        parts.append(x.to(device))
    return tuple(parts)
