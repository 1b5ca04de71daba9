"""The one-layer tied model measured: how many features collide although there is room, and what a noise's law does."""
from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from lib.press.runs import reuse
from lib.studies.incidental_polysemanticity import collisions
from lib.studies.incidental_polysemanticity.groups import Root
from lib.studies.incidental_polysemanticity.units import (
    concentration,
    opposite_sign_share,
    polysemantic_units,
    represented,
)

LAWS = ("none", "bipolar", "uniform", "gaussian", "laplace")
"""Laws of noise by rising kurtosis; t(3), the published one, diverges here."""


class Collisions(Root):
    """What the count of collisions takes."""

    collision_features: tuple[Annotated[int, Field(ge=4)], ...] = Field(min_length=2, description="n of the tied model")
    collision_units: int = Field(ge=8, description="its m")
    collision_runs: int = Field(ge=2, description="instances per n")
    collision_steps: int = Field(ge=1, description="AdamW steps of each")
    collision_penalty: float = Field(gt=0, description="its L1 penalty")


class Kurtosis(Root):
    """What the laws of noise take."""

    kurtosis_runs: int = Field(ge=2, description="instances per law of noise (n=8, m=16)")
    kurtosis_steps: int = Field(ge=10, description="SGD steps of each")


def expected_collisions(n: int, m: int) -> float:
    """Published expectation of polysemantic units, n^2/4m: half the n^2/2m pairs that share their largest unit."""
    return n * n / (4 * m)


def expected_shared_units(n: int, m: int) -> float:
    """Expected units chosen with both signs when n features choose at random, m (1 - 2 (1 - 1/2m)^n + (1 - 1/m)^n).

    A unit chosen by three features counts once here and as up to two pairs in n^2/4m, which this tends to for n << m.
    Features that lose a unit to one of their own sign choose again, which is left out.
    """
    return m * (1 - 2 * (1 - 0.5 / m) ** n + (1 - 1 / m) ** n)


def collision_counts(params: Collisions) -> dict:
    """The tied model y = ReLU(W Wᵀ x) under L1: units that represent two features, against n^2/4m.

    Returns:
        runs: DataFrame, one row per (n, instance): polysemantic units, expected (n^2/4m), expected_units (units chosen
            with both signs at finite n and m), and represented, the share of features with a unit.
        opposite: share of two-feature units whose weights differ in sign, [n]; nan where there is none.
    """
    m, frames, opposite = params.collision_units, [], []
    for n in params.collision_features:
        size = m, params.collision_runs, params.collision_steps, params.seed, params.device, params.collision_penalty
        W = torch.from_numpy(reuse(collisions.tied, n, *size)["history"][-1])
        found = {"polysemantic": polysemantic_units(W).numpy(), "instance": np.arange(len(W)),
                 "represented": represented(W).any(2).double().mean(1).numpy()}
        expected = {"n": n, "expected": expected_collisions(n, m), "expected_units": expected_shared_units(n, m)}
        frames.append(pd.DataFrame(found | expected))
        opposite.append(float(opposite_sign_share(W)))
    return {"runs": pd.concat(frames, ignore_index=True), "opposite": np.array(opposite)}


def kurtosis(params: Kurtosis) -> dict:
    """The tied model (n=8, m=16, SGD) under noise of `LAWS` and equal variance: law [5], step [T], concentration of its
    features on few units [5, T, I]."""
    at = np.unique(np.linspace(1, params.kurtosis_steps, 12).astype(int)).tolist()
    size = 8, 16, params.kurtosis_runs, params.kurtosis_steps, params.seed, params.device
    runs = [reuse(collisions.tied, *size, noise=law, sgd=0.02, log_at=at)["history"] for law in LAWS]
    course = [concentration(torch.from_numpy(history)).mean(-1).numpy() for history in runs]
    return {"law": list(LAWS), "step": np.array(at), "concentration": np.stack(course)}
