"""What parts of the study share: parameters that several of them take, random streams, tensors from and to arrays."""
from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lib.params import Params as Base
from lib.rng import generator
from lib.tensors import as_array, device_named

Arrays = dict[str, np.ndarray]
Sparsity = Annotated[float, Field(ge=0, lt=1)]
Sparsities = Annotated[tuple[Sparsity, ...], Field(min_length=1)]


class Device(Base):
    """What every part takes."""

    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where the ensembles run")


class Root(Device):
    """What every part takes that draws."""

    seed: int = Field(ge=0, le=10**6, description="root of every random stream; 0 gives the source's own")


class Swept(Root):
    """What every sweep takes."""

    sparsities: Sparsities = Field(description="S of the published sweep and its well-trained twin")


class Models(Swept):
    """What sweeps over models of one size take."""

    n_features: int = Field(ge=2, le=100, description="n, features of the model (theirs 20)")
    n_hidden: int = Field(ge=1, le=50, description="m, dimensions that they share (theirs 5)")


class Sweep(Models):
    """What both arms of the main sweep take."""

    seeds: int = Field(ge=1, le=200, description="models per sparsity and arm, 1000 x seed + 0, 1, 2, ...")


def tensor(params: Device, array: np.ndarray) -> Tensor:
    """An array in single precision on the device."""
    return torch.as_tensor(array, dtype=torch.float32).to(device_named(params.device))


def model_seeds(params: Root, n: int) -> range:
    """The first n seeds of the published programme under this root; the source's own, 0 .. n-1, at root 0."""
    return range(1000 * params.seed, 1000 * params.seed + n)


def falling_importance(params: Models) -> np.ndarray:
    """The source's importance of each feature, .7^i, [n]."""
    return 0.7 ** np.arange(params.n_features)


def stream(params: Root, label: str) -> torch.Generator:
    """The study's random stream of that label, on the device."""
    return generator(params.seed, "superposition_phases", label, device=device_named(params.device))


def arrays(**tensors: Tensor) -> Arrays:
    """Named tensors as NumPy."""
    return {name: as_array(values) for name, values in tensors.items()}
