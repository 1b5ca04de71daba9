"""Everything the shapes_and_colours chapter shows: its parameters, and its runs over all networks.

A seed is a network: its decompositions, coders and their components are nested in it. `train`, `train_spd` and
`train_coders` train, `measure`, `convolutions` and `gallery` read what they leave, `tables` lays it side by side;
comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from lib.data.shapes_colours import checked_counts
from lib.press.runs import collect
from lib.studies.shapes_and_colours import measure
from lib.studies.shapes_and_colours.common import HEADS, HELD_OUT, TASKS, Counts, images
from lib.studies.shapes_and_colours.convolutions import four_metrics
from lib.studies.shapes_and_colours.gallery import gallery, maps
from lib.studies.shapes_and_colours.measure import MeasuringBehind, MeasuringCoders, MeasuringWhole

__all__ = ["Params", "behind", "coders", "four_metrics", "gallery", "held", "maps", "other", "swept", "test_labels",
           "whole"]


class Params(MeasuringBehind, MeasuringWhole, MeasuringCoders):
    """Every knob of the study; the values per profile stand in params/shapes_and_colours."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    networks: int = Field(ge=2, le=100, description="networks of each kind")
    all_networks: int = Field(ge=1, le=100, description="of those with heads, decomposed in all five layers")
    first_networks: int = Field(ge=0, le=100, description="of those, decomposed again with the reference's averaging")
    held_networks: int = Field(ge=0, le=100, description="networks that are not shown three combinations; 0: not run")
    other_counts: Counts = Field(description="shapes, colours and sizes of further images")
    other_networks: int = Field(ge=0, le=100, description="networks of each kind that are shown those; 0: not run")
    sweep: tuple[Annotated[float, Field(gt=0)], ...] = Field(description="further weights of the importance loss")
    sweep_networks: int = Field(ge=1, le=100, description="of those with heads, decomposed at each of them")

    @field_validator("other_counts")
    @classmethod
    def _others_can_be_drawn(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        return checked_counts(counts)


def behind(params: Params) -> pd.DataFrame:
    """`measure.readings_behind` of every network of every kind, a row each."""
    todo = [{"task": task, "seed": seed} for task in TASKS for seed in range(params.networks)]
    return _each(measure.readings_behind, params, todo)


def other(params: Params) -> pd.DataFrame:
    """The same of some networks of every kind that are shown `other_counts`."""
    todo = [{"task": task, "seed": seed} for task in TASKS for seed in range(params.other_networks)]
    return _each(measure.readings_behind, params.replace(counts=params.other_counts), todo)


def swept(params: Params) -> pd.DataFrame:
    """The same of some networks with heads at other weights of the importance loss."""
    todo = [{"task": HEADS, "seed": s, "importance": b} for b in params.sweep for s in range(params.sweep_networks)]
    return _each(measure.readings_behind, params, todo)


def held(params: Params) -> pd.DataFrame:
    """The same of networks that are not shown three combinations, decomposed on the rest and on all."""
    todo = [{"task": HELD_OUT, "seed": s, "every_cell": e} for e in (False, True) for s in range(params.held_networks)]
    return _each(measure.readings_behind, params, todo)


def coders(params: Params) -> pd.DataFrame:
    """`measure.readings_coders` of every network with heads, a row each."""
    return _each(measure.readings_coders, params, [{"seed": s} for s in range(params.networks)])


def whole(params: Params) -> pd.DataFrame:
    """`measure.readings_whole` of some networks with heads, by their own positions and by the first layer's."""
    arms = {"own": params.all_networks, "first": params.first_networks}
    todo = [{"task": HEADS, "seed": s, "positions": arm} for arm, n in arms.items() for s in range(n)]
    return _each(measure.readings_whole, params, todo)


def test_labels(params: Params) -> np.ndarray:
    """Label of every test image, [n]."""
    return images(params, "test")[1]


def _each(function: Any, params: Params, todo: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """`function(params, ...)` of everything to do, in worker processes where that is worth starting them."""
    jobs = 1 if params.profile == "smoke" else None
    return collect(function, [{"params": params, **one} for one in todo], jobs, label=function.__name__)
