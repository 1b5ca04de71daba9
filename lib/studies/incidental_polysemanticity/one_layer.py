"""The one-layer tied model measured: what the law of a noise does to how many units a feature uses."""
from __future__ import annotations

import numpy as np
from pydantic import Field

from lib.press.runs import reuse
from lib.studies.incidental_polysemanticity.collisions import tied
from lib.studies.incidental_polysemanticity.groups import Root

LAWS = ("none", "bipolar", "uniform", "gaussian", "laplace")
"""Laws of noise by rising kurtosis; t(3), the published one, diverges here."""


class Kurtosis(Root):
    """What the laws of noise take."""

    kurtosis_runs: int = Field(ge=2, description="instances of the one-layer model per law of noise (n=8, m=16)")
    kurtosis_steps: int = Field(ge=12, description="steps of each")


def concentration(W: np.ndarray) -> np.ndarray:
    """How few units a feature uses, |W_i|_4^4 / |W_i|_2^4: 1 on one unit, 1/m spread evenly, 3/(m + 2) at random.

    The value for N(0, 1/m) starts is exact: direction and length of a Gaussian vector are independent. W [..., n, m],
    one row per feature; result [..., n]. Source: Lecomte et al. 2023, noise in the hidden layer.
    """
    return (W**4).sum(-1) / (W**2).sum(-1) ** 2


def kurtosis(params: Kurtosis) -> dict:
    """The tied model (n=8, m=16) under noise of `LAWS` and equal variance: law [5], step [T], and the concentration of
    its features on few units, [5, T, I]."""
    size = 8, 16, params.kurtosis_runs, params.kurtosis_steps, params.seed, params.device
    runs = [reuse(tied, *size, law) for law in LAWS]
    course = np.stack([concentration(run["W"].astype(float)).mean(-1) for run in runs])
    return {"law": list(LAWS), "step": np.array(runs[0]["step"]), "concentration": course}
