"""One run of everything the transformer_saes chapter shows: parameters and protocol, plain data out.

An arm is an encoder rule on the activations of a site of a language model. The seed draws a coder's start and the order
of its training, and, with `model_per_seed`, the language model's as well; texts are the same for all. Comparisons and
conclusions belong to the chapter.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field, model_validator

from lib import files
from lib.dashboard.page import dashboard
from lib.params import Count
from lib.press.runs import collect
from lib.rng import stream_seed
from lib.sparse_coders.rule import RULES
from lib.studies.transformer_saes.follow import (
    as_the_source_says,
    attributed,
    births,
    cluster_agreement,
    held_out_loss,
    split,
)
from lib.studies.transformer_saes.measure import chance, judged, polysemanticity, trained
from lib.studies.transformer_saes.published import ACTIVATIONS, LENGTH, Recipe, comparison, interrupted
from lib.studies.transformer_saes.train import PENALISED, Arm, Coders, acts
from lib.studies.transformer_saes.train_lm import Language, language_model, model_of
from lib.studies.transformer_saes.tuning import Tuning, after_tuning
from lib.studies.transformer_saes.world import OWN, SLUG, SMOLLM2, read_speeches

__all__ = ["ACTIVATIONS", "Params", "after_tuning", "as_the_source_says", "attributed", "births", "chance",
           "cluster_agreement", "comparison", "controls", "described", "held_out_loss", "interrupted",
           "language_model", "main", "once_more", "others", "polysemanticity", "sites", "split", "with_model"]
RAW, UNIT = "x", "x/|x|"
MAIN = {(rule, data): Arm(rule, data == UNIT) for rule, data in (
    ("topk", RAW), ("relu", RAW), ("jumprelu", RAW), ("jumprelu", UNIT), ("batch_topk", RAW), ("batch_topk", UNIT))}
"""The main contrast: rule and data -> arm; the first three, which claims compare, have more seeds."""
CONTROLS = {
    "trained": Arm("topk"), "frozen decoder": Arm("topk", decoder="frozen"),
    "soft-frozen decoder": Arm("topk", decoder="soft"), "random model": Arm("topk", source="random"),
    "shuffled activations": Arm("topk", source="shuffled"),
}
SITES = {
    "autoencoder of the MLP's output": Arm("topk", site="mlp_out"), "transcoder of the MLP": Arm("topk", site="mlp"),
    "skip-transcoder of the MLP": Arm("topk", site="mlp_skip"), "layer before": Arm("topk", site="before"),
    "layer before, with context": Arm("topk", site="joined"),
    "layer before, shuffled context": Arm("topk", site="joined_shuffled"),
}


class Params(Tuning, Recipe):
    """Every knob of the study; the values per profile stand in params/transformer_saes."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    seeds: int = Field(ge=1, le=100, description="coders of each arm")
    model_per_seed: bool = Field(description="whether each has a language model of its own, or all read one")
    few_seeds: int = Field(ge=1, le=100, description="the same where no claim is judged, at most seeds")
    other_rules: tuple[str, ...] = Field(min_length=1, description="rules beside those of the main contrast")
    tuned_seeds: Count = Field(description="times a model is tuned, at most seeds")
    null_draws: int = Field(ge=10, description="draws of every null")
    ablated: int = Field(ge=3, description="latents taken away one by one; half as many are clustered by firings")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        held = {name for name, rule in RULES.items() if "k" in rule.model_fields} | PENALISED.keys()
        needs = {
            "layer below depth": self.model != OWN or self.layer < self.depth,
            f"context of {LENGTH} or more, as long as the source's sequences": self.context >= LENGTH,
            "published_latents of 5 or more, the source's k": self.published_latents >= 5,
            "active up to n_latents": self.active <= self.n_latents,
            "n_latents of 16 or more, to be clustered": self.n_latents >= 16,
            "moments up to steps": self.moments <= self.steps,
            "steps times batch of 4 or more, a quarter of which tells a dead latent": self.steps * self.batch >= 4,
            "few_seeds up to seeds": self.few_seeds <= self.seeds,
            "tuned_seeds up to seeds": self.tuned_seeds <= self.seeds,
            "rank up to width": self.rank <= self.width,
            f'model "{OWN}", for model_per_seed': self.model == OWN or not self.model_per_seed,
            "heads that divide width": self.width % self.heads == 0,
            f"other_rules among {', '.join(sorted(held))}": set(self.other_rules) <= held,
        }
        if lacking := [need for need, holds in needs.items() if not holds]:
            raise ValueError(f"the study needs {'; '.join(lacking)}")
        return self


def with_model(params: Params, seed: int) -> Params:
    """The parameters under which the language model of that seed and its coders are drawn."""
    if not params.model_per_seed or seed == 0:
        return params
    return params.model_copy(update={"seed": stream_seed(params.seed, SLUG, "language model", seed)})


def described(params: Params) -> tuple[str, int, int]:
    """What the language model is called, its blocks and the width of its residual stream."""
    if params.model == OWN:
        return "the book's own model", params.depth, params.width
    model = model_of(params.view(Language), False)
    return "SmolLM2-135M" if params.model == SMOLLM2 else files.unpinned(params.model), len(model.blocks), model.width


def main(params: Params) -> pd.DataFrame:
    """The main contrast: one row per rule, data and seed, columns as `judged` says."""
    judging = dict(list(MAIN.items())[:3])
    rest = {cell: arm for cell, arm in MAIN.items() if cell not in judging}
    parts = [_table(params, judging, params.seeds, ["rule", "data"]),
             _table(params, rest, params.few_seeds, ["rule", "data"])]
    return pd.concat(parts, ignore_index=True)


def once_more(params: Params) -> pd.DataFrame:
    """As `main`, its first three arms: the next seed's coders on the same models, what a seed alone changes."""
    return _table(params, dict(list(MAIN.items())[:3]), params.seeds, ["rule", "data"], turn=1)


def others(params: Params) -> pd.DataFrame:
    """A coder of each further rule on the first model: columns rule, seed and those of `judged`."""
    return _table(_first(params), {(rule,): Arm(rule) for rule in params.other_rules}, 1, ["rule"])


def controls(params: Params) -> pd.DataFrame:
    """TopK coders beside what should not work as well: columns control, seed and those of `judged`."""
    return _table(params, {(name,): arm for name, arm in CONTROLS.items()}, params.seeds, ["control"])


def sites(params: Params) -> pd.DataFrame:
    """A TopK coder at each of the other sites of the first model: columns site, seed and those of `judged`."""
    return _table(_first(params), {(name,): arm for name, arm in SITES.items()}, 1, ["site"])


def latent_page(params: Params) -> Path:
    """The page of the first TopK coder's latents on parts of held-out speeches, under `_build/dashboards`."""
    own, arm = params.view(Coders), MAIN["topk", RAW]
    [site] = acts(own, False, arm.site).sites
    texts = [speech.text[:4000] for speech in read_speeches(params)[1][::3]]
    return dashboard(trained(own, list(arm), 0), model_of(params.view(Language), False), texts, site,
                     files.BUILD / "dashboards" / f"{SLUG}.html", title="Latents of a TopK coder on speeches")


def _first(params: Params) -> Params:
    return params.model_copy(update={"model_per_seed": False})


def _table(params: Params, arms: Mapping[tuple, Arm], seeds: int, names: list[str], turn: int = 0) -> pd.DataFrame:
    """`judged` of every arm and seed; all coders of one model and arm in a row, so that activations are read once.

    turn: by how many seeds a coder is ahead of its model.
    """
    models = [[seed] for seed in range(seeds)] if params.model_per_seed else [list(range(seeds))]
    cells = [(key, arm, seed) for own in models for key, arm in arms.items() for seed in own]
    todo = [{"params": with_model(params, seed).view(Coders), "arm": list(arm), "seed": (seed + turn) % seeds}
            for _, arm, seed in cells]
    done = collect(judged, todo, 1, "coders").drop(columns=["params", "arm", "seed"])
    keys = pd.DataFrame([(*key, seed) for key, _, seed in cells], columns=[*names, "seed"])
    return pd.concat([keys, done], axis=1)
