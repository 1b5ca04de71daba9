"""What coders are trained and judged on: the parameters of each world, its ground truth and its samples.

A run in one world is given the parameters of that world alone (`of_world`): those of another are not in its key.
"""
from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lib.models.toy_training import train_grid
from lib.press.runs import reuse
from lib.studies.sparse_coders_recovery.worlds import (
    Common,
    Law,
    World,
    flat_twin,
    planted_law,
    planted_world,
    small_law,
    stream,
    toy_world,
)
from lib.tensors import device_named

TOYS = ("toy", "large toy")
TOY = (20, 5)
"""Features and hidden units of the toy model; the large one's are parameters."""


class ToyModels(Common):
    """What trains a toy model."""

    seeds: int = Field(ge=1, le=100, description="ground truths per world, each with its own coders")
    toy_sparsity: float = Field(ge=0, lt=1, description="S of the features of both toy models")
    toy_steps: int = Field(ge=50, le=20000, description="steps that train a toy model (batch 256, cosine)")


class Samples(Common):
    """What every world reads."""

    samples: int = Field(ge=500, description="training samples of a world")
    held_out: int = Field(ge=100, description="samples that judge a coder")


class Toys(Samples, ToyModels):
    """The small toy world."""


class LargeToys(Toys):
    """The large toy world."""

    large_features: int = Field(ge=10, le=2000, description="n of the large toy model; the small one has 20 in 5")
    large_hidden: int = Field(ge=3, le=500, description="its m")


class Bench(Samples, Law):
    """The planted world."""

    planted_width: int = Field(ge=4, description="its dimensions (768)")
    planted_latents: int = Field(ge=4, description="latents of its coders (4096)")


class Small(Samples):
    """The dictionaries of the SV claims: independent, signed, hierarchy, flat."""

    small_features: int = Field(ge=15, description="features of the dictionaries of the SV claims, as many latents")
    small_width: int = Field(ge=4, description="their dimensions")


OneWorld = Toys | Bench | Small
"""The parameters of one world: what its runs take, and all that is in their keys."""


class Data(NamedTuple):
    """Samples of a world: x, features (in training of the first samples only) and their second view."""

    train: tuple[Tensor, Tensor, Tensor]
    held: tuple[Tensor, Tensor, Tensor]


def of_world(params: OneWorld, world: str) -> OneWorld:
    """Those of the study's parameters that `world` is made of."""
    return params.view({"toy": Toys, "large toy": LargeToys, "planted": Bench}.get(world, Small))


def toy_models(params: ToyModels, n: int, m: int) -> dict[str, np.ndarray]:
    """Toy models in superposition, one per seed: n features in m dimensions, the importance of 20 features .7^i.

    Returns:
        W [seeds, m, n] and b [seeds, n].
    """
    decay = 0.7 ** (20 / n)  # the same range of importances for every n
    device = device_named(params.device)
    importance = torch.tensor(decay ** np.arange(n), dtype=torch.float32, device=device)
    density = torch.tensor([1 - params.toy_sparsity], device=device)
    rng = stream(params, "toy model", n, device=device)
    grid = train_grid(density, importance, m, params.seeds, params.toy_steps, 256, rng)
    return {"W": grid.W[0].cpu().numpy(), "b": grid.b[0].cpu().numpy()}


@functools.lru_cache(maxsize=2)
def ground_truth(params: OneWorld, world: str, seed: int) -> World:
    """The directions of a world and the law of its samples."""
    origin = "hierarchy" if world == "flat" else world
    device, rng = device_named(params.device), stream(params, origin, "directions", seed)
    if world in TOYS:
        n, m = TOY if world == "toy" else (params.large_features, params.large_hidden)
        models = reuse(toy_models, params, n, m)
        return toy_world(*(torch.from_numpy(models[name][seed]).to(device) for name in ("W", "b")), params.toy_sparsity)
    if world == "planted":
        law = planted_law(params, params.planted_width, rng)
    else:
        law = small_law(params.small_features, params.small_width, world in ("hierarchy", "flat"), rng)
    parent = None
    if world == "flat":  # the twin of that seed's hierarchy
        law, parent = flat_twin(law, rng), law.parent.to(device)
    view = stream(params, world, "site", seed, device=device)
    return planted_world(law.to(device), view, world == "signed", parent)


@functools.lru_cache(maxsize=2)
def samples(params: OneWorld, world: str, seed: int) -> Data:
    """Training and held-out samples of a world, from streams of their own."""
    truth, parts = ground_truth(params, world, seed), []
    for label, n in (("train", params.samples), ("held", params.held_out)):
        rng = stream(params, world, label, seed, device=truth.dictionary.device)
        parts.append(truth.sample(n, rng, min(n, params.held_out)))
    return Data(*parts)


def size(params: OneWorld, world: str, truth: World) -> int:
    """Latents of a coder: as many as the toy model has features, stored or not; as the parameters say elsewhere."""
    if world in TOYS:
        return truth.law.W.shape[1]
    return params.planted_latents if world == "planted" else params.small_features
