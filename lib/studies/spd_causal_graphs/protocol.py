"""Everything the spd_causal_graphs chapter shows: its parameters, and its runs over all networks.

A seed is a network: its weights, the decompositions of it (arms), their effects, regressions and transcoders are
nested in it. `train`, `train_spd`, `together`, `train_coders` and `train_toy` train, `measure` reads what they leave,
`tables` lays it side by side; comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from typing import Any

import pandas as pd
from pydantic import Field, field_validator

from lib.press.runs import collect
from lib.studies.spd_causal_graphs import measure
from lib.studies.spd_causal_graphs.measure import Analysing, Comparing, Reporting, toy
from lib.studies.spd_causal_graphs.train_toy import Toy

__all__ = ["Params", "analyses", "arms", "comparisons", "gate_gradients", "published", "toy"]


class Params(Analysing, Comparing, Toy, Reporting):
    """Every knob of the study; the values per profile stand in params/spd_causal_graphs."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    seeds: int = Field(ge=2, le=100, description="networks, each with its own decompositions")
    recipe_networks: int = Field(
        ge=0, le=100, description="networks by the report's recipe, 2 or more; 0: not run")

    @field_validator("recipe_networks")
    @classmethod
    def _none_or_some(cls, recipe_networks: int) -> int:
        if recipe_networks == 1:
            raise ValueError("recipe_networks must be 0 or at least 2: one network has no interval")
        return recipe_networks


def arms(params: Params) -> pd.DataFrame:
    """What every decomposition is like, a row for every arm and network (its index), see `measure.reading`."""
    return pd.concat(list(_each(measure.readings, params).rows)).set_index(["arm", "seed"])


def analyses(params: Params) -> pd.DataFrame:
    """`measure.analysis` of every network, a row each."""
    return _each(measure.analysis, params)


def comparisons(params: Params) -> pd.DataFrame:
    """`measure.transcoders` of every network, a row each."""
    return _each(measure.transcoders, params)


def published(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Our decompositions read as the report reads its own, and its own recipe read so; a row per network."""
    return _each(measure.as_reported, params), _each(measure.recipe_reported, params, params.recipe_networks)


def gate_gradients(params: Params, draws: int = 10) -> pd.DataFrame:
    """`measure.gate_gradients` of every network: columns seed, mask, draw, gradient."""
    return pd.DataFrame([row for seed in range(params.seeds) for row in measure.gate_gradients(params, seed, draws)])


def _each(function: Any, params: Params, n: int | None = None) -> pd.DataFrame:
    """`function(params, seed)` of every network, in worker processes where that is worth starting them."""
    todo = [{"params": params, "seed": seed} for seed in range(params.seeds if n is None else n)]
    return collect(function, todo, 1 if params.profile == "smoke" else None, label=function.__name__)
