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
Swept = Annotated[Sparsities, Field(description="S of the published sweep and its well-trained twin")]
Seeds = Annotated[int, Field(ge=2, le=200, description="models per sparsity and arm, 1000 x seed + 0, 1, 2, ...")]
Restarts = Annotated[int, Field(ge=1, le=64, description="restarts of the zoo, the plane and the other small models")]
Steps = Annotated[int, Field(ge=50, le=20000, description="steps of each of those")]
Batch = Annotated[int, Field(ge=16, le=8192, description="samples per step in those")]


class Device(Base):
    """What every part takes."""

    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where the ensembles run")


class Root(Device):
    """What every part takes that draws."""

    seed: int = Field(ge=0, le=10**6, description="root of every random stream; 0 gives the source's own")


def tensor(params: Device, array: np.ndarray) -> Tensor:
    """An array in single precision on the device."""
    return torch.as_tensor(array, dtype=torch.float32).to(device_named(params.device))


def model_seeds(params: Root, n: int) -> range:
    """The first n seeds of the published programme under this root; the source's own, 0 .. n-1, at root 0."""
    return range(1000 * params.seed, 1000 * params.seed + n)


def stream(params: Root, label: str) -> torch.Generator:
    """The study's random stream of that label, on the device."""
    return generator(params.seed, "superposition_phases", label, device=device_named(params.device))


def arrays(**tensors: Tensor) -> Arrays:
    """Named tensors as NumPy."""
    return {name: as_array(values) for name, values in tensors.items()}
