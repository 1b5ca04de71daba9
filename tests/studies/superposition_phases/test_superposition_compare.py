"""What the chapter compares, by hand; and that any values a reader types give a whole page and a record per claim."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lib.files import ROOT
from lib.params import load
from lib.press import claims
from lib.studies.superposition_phases import compare
from lib.studies.superposition_phases import protocol as study

PROFILES = ROOT / "params" / "superposition_phases"
GRID = np.array(compare.GRID)


def values(profile: str = "quick", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


@pytest.fixture
def runs():
    cells = [(s, seed) for s in (0.8, 0.85) for seed in (0, 1)]
    loss = [1.0, 3.0, 2.0, 6.0]
    return pd.DataFrame(cells, columns=["sparsity", "seed"]).assign(heldout_loss=loss)


def test_a_table_by_seed_holds_nan_where_a_claim_needs_a_sparsity_that_is_missing(runs):
    table = compare.by_seed({"arm": runs}, "heldout_loss")["arm"]
    assert table[0.85].tolist() == [2, 6] and table[0.9].isna().all()
    assert set(GRID) <= set(table.columns) and table.columns.is_monotonic_increasing


def test_relative_loss_by_hand(runs):
    """At .8 the losses are 1 and 3, mean 2; those at .85 are 1 and 3 more, half and one and a half times that mean."""
    table = compare.by_seed({"arm": runs}, "heldout_loss")["arm"]
    assert compare.relative(table, 0.85, 0.8).tolist() == [1.5, 2.5]
    found = compare.ratios({"arm": table}, 0.85, (0.8, 0.9))
    assert found["arm", 0.8].estimate == 2 and np.isnan(found["arm", 0.9]).all()
    half = 12.706 * 0.5  # t_.975 with one degree of freedom, standard error of 1.5 and 2.5
    assert found["arm", 0.8].high == pytest.approx(2 + half, abs=0.01)
    shown = compare.ratio_table(found, 0.85)
    assert shown.loc[("arm", 0.8), "ratio"] == 2 and list(shown.columns) == ["ratio", "low", "high"]


def test_steepest_step_by_hand_on_both_axes():
    """Storage that is the logarithm itself, .3 higher from 0.87 on: slope 1, and 1 + .3 / log(18/13) up to there."""
    axis = -np.log1p(-GRID)
    rows = np.tile(axis + 0.3 * (GRID >= 0.87), (3, 1))
    assert compare.steepest(rows) == pytest.approx(0.845)
    assert compare.claimed_step(rows) == pytest.approx(1 + 0.3 / np.log(18 / 13))
    assert compare.steepest_per_S(np.tile(axis, (3, 1))) == pytest.approx(0.97)  # log(1/(1-S)) is steepest at its end
    assert compare.steepest_per_S(np.tile(-GRID**2, (3, 1))) == pytest.approx(0.55)
    missing = rows.copy()
    missing[:, 2] = np.nan
    assert np.isnan([compare.steepest(missing), compare.claimed_step(missing)]).all()


def test_a_flat_curve_has_nothing_to_divide_by():
    rows = np.zeros((2, len(GRID)))
    rows[:, GRID >= 0.87] = 0.01
    assert compare.claimed_step(rows) == pytest.approx(0.01 / np.log(18 / 13) / 0.02)


def test_intervals_of_the_storage_resample_seeds_and_repeat():
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(20, len(GRID))), columns=compare.GRID)
    first = compare.over_seeds(rows, compare.steepest, 0)
    assert first == compare.over_seeds(rows, compare.steepest, 0) and first.low <= first.estimate <= first.high
    one = compare.over_seeds(rows[:1], compare.steepest, 0)
    assert np.isfinite(one.estimate) and np.isnan([one.low, one.high]).all()


def test_slope_table_has_a_row_per_step_and_both_axes_of_both_arms():
    stored = {arm: pd.DataFrame(np.tile(GRID, (2, 1)), columns=compare.GRID) for arm in ("a", "b")}
    found = compare.slope_table(stored)
    assert found.shape == (8, 4) and (found["a, per S"] == 1).all() and found.index[4] == "0.82 to 0.87"


@pytest.mark.parametrize(
    ("sparsities", "found"),
    [
        ((0.1, 0.8, 0.82, 0.85, 0.87, 0.9, 0.95), (0.8, 0.85, 0.9)),
        ((0.82, 0.85, 0.87), (0.82, 0.85, 0.87)),
        ((0.1, 0.3, 0.7, 0.75), (0.7, 0.75, 0.8)),  # 0.80 was not swept: its column is nan
        ((0.4,), (0.3, 0.4, 0.5)),
        ((0.995,), (0.99, 0.995, 0.995)),
    ],
)
def test_a_middle_lies_between_what_was_swept(sparsities, found):
    assert compare.neighbours(sparsities) == found


def test_what_the_comparisons_need_is_what_the_claims_say():
    found = claims.of_study("superposition_phases")
    place, step = found["SP-4"].parts
    assert place.range == compare.REGION == tuple(found["SP-2"].prints["S, from and to"])
    assert ", ".join(f"{s:g}" for s in compare.GRID) in " ".join(place.estimate.split())
    for claim, needed in compare.NEEDED.items():
        said = " ".join(part.name + part.estimate for part in found[claim].parts) + "".join(
            " ".join(part.nulls) for part in found[claim].parts)
        assert all(f"{s:g}" in said for s in needed), claim


@pytest.mark.parametrize("profile", ["quick", "long", "full"])
def test_every_profile_can_test_every_claim(profile):
    assert compare.lacking(values(profile)) == dict.fromkeys(("SP-1", "SP-2", "SP-3", "SP-4"), "")


def test_what_a_run_lacks_is_said_per_claim():
    only = compare.lacking(values(sparsities=(0.8, 0.85, 0.9)))
    assert only["SP-2"] == "" and only["SP-1"] == "needs S = 0.1, 0.3, 0.7 too"
    wide = compare.lacking(values(n_features=30, n_hidden=8))
    assert set(wide.values()) == {"made of 20 features in 5 dimensions, here 30 in 8"}
    assert set(compare.lacking(values(seeds=1)).values()) == {"one seed has no scatter"}


def test_long_trains_twice_as_long_as_quick_and_by_the_published_recipe_as_it_is():
    quick, long = values("quick"), values("long")
    variant = (p.variant_samples * p.variant_epochs for p in (quick, long))
    assert 2 * next(variant) <= next(variant) and 2 * quick.trained_steps <= long.trained_steps
    assert (long.published_samples, long.published_epochs) == (10000, 10) and long.seeds >= quick.seeds
    assert long.model_dump(include={"seed", "n_features", "n_hidden", "sparsities"}) == quick.model_dump(
        include={"seed", "n_features", "n_hidden", "sparsities"})


SHORT = {"seeds": 3, "published_samples": 500, "published_epochs": 1, "variant_samples": 100, "variant_epochs": 1,
         "trained_steps": 100}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "changes", "tested"),
    [
        ("quick", {"sparsities": [0.82, 0.85, 0.87]}, set()),
        ("quick", {"n_features": 30, "n_hidden": 8}, set()),
        ("quick", {"seeds": 1}, set()),
        ("long", {"published_epochs": 2, "trained_steps": 200}, {"SP-1", "SP-2", "SP-3", "SP-4"}),
    ],
)
def test_values_a_reader_types_give_a_whole_page_and_a_record_per_claim(profile, changes, tested, tmp_path):
    """At smoke's lengths, but in a profile that judges: a claim is tested, or says why not, and no check breaks."""
    typed = [f"-p{name}={json.dumps(value)}" for name, value in (SHORT | changes).items()]
    command = [sys.executable, "-m", "lib.press", "run", "superposition_phases", "--profile", profile, "--jobs", "1"]
    done = subprocess.run([*command, *typed], cwd=ROOT, env={**os.environ, "BOOK_BUILD": str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path], [page] = tmp_path.glob("results/*/*.json"), tmp_path.glob("executed/*/*.ipynb")
    records = {record["claim_id"]: record for record in json.loads(path.read_text())["records"]}
    assert {claim for claim, record in records.items() if record["word"] != "not tested here"} == tested
    assert set(records) == set(compare.NEEDED)
    assert all(records[claim]["reason"] for claim in set(records) - tested)
    notebook = json.loads(page.read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    if not tested:
        assert notebook["metadata"]["book"]["broken"] == []
