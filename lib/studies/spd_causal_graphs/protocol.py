"""Everything the spd_causal_graphs chapter shows: its parameters, and its runs over all networks.

A seed is a network: its weights, the decompositions of it (arms), their effects, regressions and transcoders are
nested in it. `train`, `train_spd`, `joint`, `train_coders` and `train_toy` train, `measure` reads what they leave;
comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from typing import Any

import pandas as pd
from pydantic import Field

from lib.press.runs import collect
from lib.studies.spd_causal_graphs import measure
from lib.studies.spd_causal_graphs.measure import Analysing, Comparing, analysis, published_reading, toy, transcoders
from lib.studies.spd_causal_graphs.train_toy import Toy

__all__ = ["Params", "analysis", "arms", "gate_gradients", "over_seeds", "published_reading", "toy", "transcoders"]


class Params(Analysing, Comparing, Toy):
    """Every knob of the study; the values per profile stand in params/spd_causal_graphs."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    seeds: int = Field(ge=2, le=100, description="networks, each with its own decompositions")


def arms(params: Params) -> pd.DataFrame:
    """What every decomposition is like, a row for every network and arm, see `measure.reading`."""
    return pd.concat(list(over_seeds(measure.readings, params).rows), ignore_index=True)


def gate_gradients(params: Params, draws: int = 10) -> pd.DataFrame:
    """`measure.gate_gradients` of every network: columns seed, mask, draw, gradient."""
    return pd.DataFrame([row for seed in range(params.seeds) for row in measure.gate_gradients(params, seed, draws)])


def over_seeds(function: Any, params: Params) -> pd.DataFrame:
    """`function(params, seed)` of every seed, a row each; in worker processes where that is worth starting them."""
    todo = [{"params": params, "seed": seed} for seed in range(params.seeds)]
    return collect(function, todo, 1 if params.profile == "smoke" else None, label=function.__name__)
