"""Many equal features in few dimensions: how many dimensions each one gets, and in which polytopes they arrange."""
from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import Field

from lib.metrics import superposition as metric
from lib.metrics.polytopes import polytopes
from lib.studies.superposition_phases.common import Batch, Root, arrays
from lib.studies.superposition_phases.train_grids import trained


class Staircase(Root):
    """What the staircase takes."""

    batch: Batch
    staircase_features: int = Field(ge=8, le=400, description="n of the dimensions-per-feature staircase")
    staircase_hidden: int = Field(ge=2, le=60, description="its m")
    staircase_points: int = Field(ge=3, le=64, description="values of 1/(1-S), evenly spaced in the logarithm")
    staircase_restarts: int = Field(ge=1, le=16, description="models per value")
    staircase_steps: int = Field(ge=100, le=50000, description="steps of each")


def staircase(params: Staircase, inverse_densities: np.ndarray | None = None) -> dict:
    """Part 4: many equal features, dimensions per feature against 1/(1-S).

    Args:
        inverse_densities: 1/(1-S), default params.staircase_points of them in [1, 100].
    Returns:
        inverse_density [A]; W [A, R, m, n], b [A, R, n]; loss [A, R], over zero; dstar [A, R] = m/|W|_F^2;
        D [A, R, n]; components: DataFrame, one row per group of features that share dimensions, columns
        inverse_density, restart, name (of the polytope), count, rank, members (tuple), dimensionality (mean D_i).
    """
    axis = np.logspace(0, 2, params.staircase_points) if inverse_densities is None else np.asarray(inverse_densities)
    size = params.staircase_hidden, params.staircase_restarts, params.staircase_steps, params.batch
    grid = trained(params, "staircase", 1 / axis, np.ones(params.staircase_features), size)
    groups = [
        {"inverse_density": axis[a], "restart": r, **group._asdict()}
        for a, r in np.ndindex(*grid.loss.shape)
        for group in polytopes(grid.W[a, r])
    ]
    D, dstar = metric.feature_dimensionality(grid.W), metric.dimensions_per_feature(grid.W)
    found = arrays(W=grid.W, b=grid.b, loss=grid.loss, dstar=dstar, D=D)
    return found | {"inverse_density": axis, "components": pd.DataFrame(groups)}
