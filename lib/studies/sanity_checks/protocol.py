"""One run of everything the sanity_checks chapter shows: parameters and protocol, plain data out.

An arm is an encoder rule on the samples of a law, raw or each divided by its own length. The seed draws the true
directions, the samples, the coder and the order of training from streams of their own. Comparisons and conclusions
belong to the chapter.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd
from pydantic import Field

from lib.params import Count
from lib.press.runs import collect
from lib.studies.sanity_checks.inherent import METHODS, l1_edge, support_scores
from lib.studies.sanity_checks.measure import chance, counts, judged, plain
from lib.studies.sanity_checks.train import Arm, Training
from lib.studies.sanity_checks.worlds import Law

__all__ = ["METHODS", "Params", "at_full_size", "by_dose", "by_expansion", "chance", "contrast", "counts",
           "featureless", "full_arms", "l1_edge", "plain", "support_scores"]
RAW, UNIT = "x", "x/|x|"
CONTRAST = {(rule, data): Arm(rule, data == UNIT) for rule, data in (
    ("topk", RAW), ("batch_topk", RAW), ("batch_topk", UNIT), ("jumprelu", RAW), ("jumprelu", UNIT))}
"""The main contrast: rule and data -> arm."""
LENGTHS = "x/|x|, random lengths"


class Params(Training):
    """Every knob of the study; the values per profile stand in params/sanity_checks."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    seeds: int = Field(ge=1, le=100, description="true dictionaries, each with its own coders")
    other_seeds: int = Field(ge=1, le=100, description="the same for JumpReLU and for random lengths, at most seeds")
    few_seeds: int = Field(ge=1, le=100, description="the same for curves over dose and expansion")
    doses: tuple[float, ...] = Field(min_length=1, description="a of x/|x|^a, beside 0 and 1")
    spread: float = Field(gt=0, description="sd of the logarithm of the random lengths")
    expansions: tuple[Count, ...] = Field(min_length=1, description="n/d beside that of the main contrast")
    null_draws: int = Field(ge=2, description="random dictionaries per seed")
    supports: tuple[Count, ...] = Field(min_length=2, description="K at which codes are sought with the true features")
    support_samples: int = Field(ge=10, description="samples for each")
    full_seeds: int = Field(ge=0, le=20, description="seeds at the source's size (3200 in 100, K 20); 0: not run")
    full_steps: int = Field(ge=0, description="steps there")
    full_samples: int = Field(ge=0, description="different training samples there")


def contrast(params: Params) -> pd.DataFrame:
    """The main contrast and, with the lengths of its samples replaced by random ones, TopK and BatchTopK.

    Returns:
        One row per rule, data and seed (JumpReLU and random lengths: `other_seeds`), columns as `judged` says.
    """
    lengths = {(rule, LENGTHS): Arm(rule, law=Law(spread=params.spread)) for rule in ("topk", "batch_topk")}
    fewer = {cell for cell in CONTRAST | lengths if cell[0] == "jumprelu" or cell in lengths}
    return _table(params, CONTRAST | lengths, params.seeds, ["rule", "data"], fewer)


def by_dose(params: Params) -> pd.DataFrame:
    """BatchTopK on x/|x|^a: columns dose, seed and those of `judged`."""
    arms = {(a,): Arm("batch_topk", law=Law(power=a)) for a in params.doses}
    return _table(params, arms, params.few_seeds, ["dose"])


def featureless(params: Params) -> pd.DataFrame:
    """BatchTopK on samples without features, random directions as long as real samples, one seed."""
    return _table(params, {("none",): Arm("batch_topk", law=Law("none"))}, 1, ["features"])


def by_expansion(params: Params) -> pd.DataFrame:
    """TopK and BatchTopK on raw samples of fewer features: columns expansion, rule, seed and those of `judged`."""
    arms = {(rule,): Arm(rule) for rule in ("topk", "batch_topk")}
    found = [_table(params.replace(features=e * params.width), arms, params.few_seeds, ["rule"]).assign(expansion=e)
             for e in params.expansions]
    return pd.concat(found, ignore_index=True)


def full_arms(params: Params, p: str) -> pd.DataFrame:
    """TopK, and BatchTopK raw and unit, at the source's size with frequencies of a law: as `contrast`."""
    arms = {cell: arm._replace(law=Law(p)) for cell, arm in CONTRAST.items() if cell[0] != "jumprelu"}
    return _table(at_full_size(params), arms, params.full_seeds, ["rule", "data"])


def at_full_size(params: Params) -> Params:
    """The parameters with the source's size."""
    own = {"width": 100, "features": 3200, "active": 20}
    return params.replace(**own, steps=params.full_steps, samples=params.full_samples)


def _table(
    params: Params, arms: Mapping[tuple, Arm], seeds: int, names: list[str], fewer: Collection[tuple] = ()
) -> pd.DataFrame:
    """`judged` of every arm and seed, all arms of one seed in a row, so that its samples are made once.

    fewer: the arms that have `other_seeds`.
    """
    cells = [(key, arm, seed) for seed in range(seeds) for key, arm in arms.items()
             if key not in fewer or seed < params.other_seeds]
    todo = [{"params": params.view(Training), "arm": plain(arm), "seed": seed} for _, arm, seed in cells]
    done = collect(judged, todo, 1, "coders").drop(columns=["params", "arm"])
    return pd.concat([pd.DataFrame([key for key, *_ in cells], columns=names), done], axis=1)
