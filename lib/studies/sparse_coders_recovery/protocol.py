"""One run of everything the sparse_coders_recovery chapter shows: parameters and protocol, plain data out.

A world is a ground truth with samples; an arm is an encoder rule with the sparsity knob that is swept. One run trains
one arm in one world with one seed at every setting of its knob, another judges what was trained. The seed draws the
world's directions, its samples, the coder and the order of training from streams of their own. Comparisons and
conclusions belong to the chapter.
"""
from __future__ import annotations

from typing import Any, Self

import pandas as pd
from pydantic import Field, model_validator

from lib.press.runs import collect, reuse
from lib.studies.sparse_coders_recovery.alignment import alignment, alignment_alone
from lib.studies.sparse_coders_recovery.measure import facts, gate_gradients, sweep
from lib.studies.sparse_coders_recovery.published import Published, published_arm
from lib.studies.sparse_coders_recovery.samples import TOY, TOYS, ground_truth, of_world
from lib.studies.sparse_coders_recovery.train import Training, plan_of
from lib.studies.sparse_coders_recovery.train_aligned import Aligned, Alone

__all__ = ["RULES", "TOYS", "Params", "alignment_runs", "example", "gate_gradients", "published_runs", "runs"]
RULES = ("relu", "p_anneal", "gated", "jumprelu", "stochastic", "topk", "batch_topk", "matryoshka", "abs_topk",
         "multi_input", "matching_pursuit")
"""The arms of the comparison on toy models."""
AT_SCALE = ("relu", "gated", "jumprelu", "topk", "multi_input", "matching_pursuit")
"""Those that are trained on the planted dictionary too."""
CELLS = [("toy", arm) for arm in RULES] + [("planted", arm) for arm in AT_SCALE]
CELLS += [("toy", "batch_topk_unit")]  # every sample divided by its length, which one threshold for all asks for
CELLS += [("large toy", arm) for arm in ("relu", "topk")]
CELLS += [(world, arm) for world in ("independent", "signed") for arm in ("topk", "abs_topk")]
CELLS += [("independent", arm) for arm in ("noise", "bernoulli", "multi_input", "shuffled_input")]
CELLS += [("hierarchy", arm) for arm in ("unablated_transcoder", "transcoder", "unablated", "stochastic")]
CELLS += [("flat", "transcoder")]
"""Every world with every arm that is trained in it."""


class Params(Training, Published, Aligned, Alone):
    """Every knob of the study; the values per profile stand in params/sparse_coders_recovery."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    null_draws: int = Field(ge=2, description="random dictionaries per world and seed")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        trees = self.planted_roots * sum(4**level for level in range(self.planted_depth + 1))
        needs = {
            f"planted_features of {trees} or more, or smaller planted_roots or planted_depth":
                self.planted_features >= trees,
            f"toy_k from 1 to {min(TOY[0], self.large_features)}, the features of the smaller toy model":
                {*self.toy_k} <= {*range(1, min(TOY[0], self.large_features) + 1)},
            "planted_k from 1 to planted_latents": {*self.planted_k} <= {*range(1, self.planted_latents + 1)},
            "small_k from 1 to small_features": {*self.small_k} <= {*range(1, self.small_features + 1)},
        }
        if lacking := [need for need, holds in needs.items() if not holds]:
            raise ValueError(f"the study needs {'; '.join(lacking)}")
        return self


def runs(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every run of the study and what is known of every world.

    Returns:
        runs: one row per world, arm, seed and setting, with what `lib.sparse_coders.report.report` measures; in toy
        worlds cka, procrustes and rsa too.
        worlds: one row per world and seed: true_l0, n_features, probe_f1, probe_auc, and null_* of those metrics; no
            probe_* where features are signed: a linear probe cannot tell +x and -x, both active, from an inactive 0.
    """
    seeds = range(params.seeds)
    names = list(dict.fromkeys(world for world, _ in CELLS))
    draws = params.null_draws
    todo = [{"params": of_world(params, w), "world": w, "seed": s, "draws": draws} for w in names for s in seeds]
    known = _collected(facts, todo, "worlds", params)
    # all arms of one world and seed in a row, so that a worker makes its samples once
    todo = [asked(params, w, a, s) for w in names for s in seeds for world, a in CELLS if world == w]
    done = _collected(sweep, todo, "coders", params)
    rows = [row.rows.assign(world=row.world, arm=row.arm, seed=row.seed) for row in done.itertuples()]
    return pd.concat(rows, ignore_index=True), known.drop(columns=["params", "draws"])


def asked(params: Params, world: str, arm: str, seed: int) -> dict[str, Any]:
    """The arguments of a run of one arm: what its world is made of and what its training needs, no more."""
    plan = plan_of(params, world, arm)
    return {"params": of_world(params, world), "world": world, "arm": arm, "seed": seed, "plan": plan}


def published_runs(params: Params) -> pd.DataFrame:
    """`published_arm` of every seed, columns seed, activation, loss, train_loss, inactive, inactive_before."""
    todo = [{"params": params, "seed": seed} for seed in range(params.seeds)]
    done = _collected(published_arm, todo, "published arm", params)
    return pd.concat([row.rows.assign(seed=row.seed) for row in done.itertuples()], ignore_index=True)


def alignment_runs(params: Params) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Rows of `alignment`, and those by the published recipe, None where the parameters leave it out."""
    good = reuse(alignment, params)["rows"]
    return good, reuse(alignment_alone, params)["rows"] if params.alone_passes else None


def example(params: Params, arms: tuple[str, ...], seed: int = 0) -> dict[str, Any]:
    """Directions of one toy model and what some arms made of them.

    Returns:
        dictionary [n_features, d]; decoders, arm -> [settings, n_latents, d].
    """
    truth = ground_truth(params, "toy", seed)
    done = collect(sweep, [asked(params, "toy", arm, seed) for arm in arms], 1, "examples")
    found = dict(zip(arms, done.decoders, strict=True))  # reused from `runs`, which made them
    return {"dictionary": truth.dictionary.cpu().numpy(), "decoders": found}


def _collected(function: Any, configs: list[dict[str, Any]], label: str, params: Params) -> pd.DataFrame:
    """`collect` with worker processes only where the runs take longer than starting them."""
    pooled = params.profile == "full" or (params.profile in ("quick", "long") and label == "coders")
    return collect(function, configs, None if pooled else 1, label)
