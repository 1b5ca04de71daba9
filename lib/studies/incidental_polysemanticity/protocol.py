"""Everything the incidental_polysemanticity chapter shows: its parameters, and the stages it calls.

A stage takes its group of the parameters and returns plain data. What is compared stands in `comparisons`; conclusions
belong to the chapter. A run may lack what a claim compares, such as a second penalty: the claim is then not tested.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from pydantic import Field

from lib.studies.incidental_polysemanticity import factorial as parts
from lib.studies.incidental_polysemanticity.coders import coders
from lib.studies.incidental_polysemanticity.combinations import Published, published_arm
from lib.studies.incidental_polysemanticity.factorial import clipping, ends, factorial, nothing, strengths, widths
from lib.studies.incidental_polysemanticity.network import PUBLISHED as PUBLISHED
from lib.studies.incidental_polysemanticity.one_layer import Kurtosis, kurtosis
from lib.studies.incidental_polysemanticity.train_coders import Coders

STAGES = published_arm, factorial, ends, nothing, strengths, coders, clipping, widths, kurtosis
"""In the order of the chapter."""
LEVEL, SAE_LEVEL = 1e-4, 1.0
"""The published penalty of both L1 and L2, and that of the autoencoder in the units of the rigorous ones."""


class Params(
    parts.Ends, parts.Nothing, parts.Strengths, parts.Widths, parts.Clipping,
    Published, Coders, Kurtosis,
):
    """Every knob of the study; the values per profile stand in params/incidental_polysemanticity."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")


def nearest(values: Sequence[float], to: float) -> float:
    """Which of the values is the smallest factor away from `to`."""
    return min(values, key=lambda value: abs(math.log(value / to)))


def compared(runs: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Runs that can be compared, with the columns `anchor` and `combination`.

    A layer that has collapsed to a constant has no directions, and its run is left out. anchor: whether the run has the
    penalty nearest to the published one of those swept. combination: 1..8, 0 if the cell is none of the published ones.
    """
    level = {"L1": nearest(params.l1_penalties, LEVEL), "L2": nearest(params.l2_penalties, LEVEL)}
    cells, runs = [(c.init, c.noise, c.reg, c.act) for c in PUBLISHED], runs[runs.fvu.notna()]
    number = {cell: n for n, cell in enumerate(cells, start=1)}
    keys = runs[["init", "noise", "reg", "act"]].itertuples(index=False, name=None)
    return runs.assign(anchor=runs.penalty == runs.reg.map(level), combination=[number.get(key, 0) for key in keys])
