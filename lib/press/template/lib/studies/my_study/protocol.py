"""One run of everything the my_study chapter shows: parameters and protocol, plain data out.

Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lib.metrics.superposition import feature_norms, interference, unit_columns
from lib.models.toy_training import train_grid
from lib.params import Params as Base
from lib.rng import generator


class Params(Base):
    """Every knob of the study; the values per profile stand in params/my_study."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    seed: int = Field(ge=0, description="root of every random stream")
    seeds: int = Field(ge=2, description="models, trained from different initial weights on different samples")
    n_features: int = Field(ge=2, description="features per model")
    n_hidden: int = Field(ge=1, description="dimensions they share")
    sparsity: float = Field(ge=0, lt=1, description="S = P(feature = 0)")
    steps: int = Field(ge=10, description="training steps")
    draws: int = Field(ge=20, description="random twins per model")


def overlaps(params: Params) -> dict[str, np.ndarray]:
    """Mean interference of trained models and of twins with the same column lengths and random directions.

    Returns:
        trained [seeds]; null [seeds, draws].
    """
    rng = generator(params.seed, "my_study", "models")
    density, importance = torch.tensor([1 - params.sparsity]), torch.ones(params.n_features)
    grid = train_grid(density, importance, params.n_hidden, params.seeds, params.steps, 256, rng)
    W = grid.W[0]  # [seeds, n_hidden, n_features]
    twins = random_twins(W, params.draws, generator(params.seed, "my_study", "null"))
    return {"trained": interference(W).mean(-1).numpy(), "null": interference(twins).mean(-1).numpy()}


def random_twins(W: Tensor, draws: int, rng: torch.Generator) -> Tensor:
    """Matrices with the column lengths of `W` and directions uniform on the sphere.

    Args:
        W: [..., n_hidden, n_features].
    Returns:
        [..., draws, n_hidden, n_features].
    """
    shape = (*W.shape[:-2], draws, *W.shape[-2:])
    return unit_columns(torch.randn(shape, generator=rng)) * feature_norms(W)[..., None, None, :]
