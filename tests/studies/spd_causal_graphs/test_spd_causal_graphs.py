"""The study's oracles, and that every part returns what its docstring promises."""
from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lib.files import ROOT
from lib.params import ParameterError, load
from lib.press import claims
from lib.rng import numpy_generator
from lib.studies.spd_causal_graphs import measure, tables, train, train_spd, train_toy
from lib.studies.spd_causal_graphs import protocol as study
from lib.studies.spd_causal_graphs.predictors import STEPS

PROFILES = ROOT / "params" / "spd_causal_graphs"


@cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


@cache
def tiny() -> study.Params:
    return params(steps=60, components=12, null_draws=3, toy_steps=20)


@pytest.fixture(autouse=True)
def runs_elsewhere(tmp_path_factory, monkeypatch):
    """Runs of these tests are kept for these tests alone."""
    folder = tmp_path_factory.getbasetemp() / "spd_runs"
    monkeypatch.setattr("lib.press.runs.BUILD", folder)


@pytest.mark.parametrize("path", [p for p in PROFILES.glob("*.yaml") if "sweep" not in p.stem],
                         ids=lambda path: path.stem)
def test_profile_is_accepted_and_opens_with_its_story(path: Path):
    assert load(study.Params, path).profile == path.stem
    header = path.read_text().splitlines()[:3]
    assert [line.split(":")[0] for line in header] == ["# Reproduces", "# Command", "# Expected"]


def test_every_parameter_is_used():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(study.__file__).parent.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "params"}
    assert set(study.Params.model_fields) - {"profile"} <= used


def test_full_profile_has_the_reports_sizes():
    full = params("full")
    assert (full.data, full.hidden, full.components, full.seeds) == ("mnist", 128, 500, 10)
    assert (full.recipe_components, full.recipe_steps, full.recipe_batch) == (500, 200_000, 1024)


def test_long_doubles_every_training_of_quick_and_runs_the_recipe():
    quick, long = params("quick"), params("long")
    doubled = {name: 2 * getattr(quick, name) for name in ("steps", "coder_steps", "toy_steps")}
    assert quick.replace(profile="long", recipe_networks=3, **doubled) == long
    assert quick.recipe_networks == 0 and 1_000 <= long.recipe_steps


def test_data_is_split_by_image_and_black_is_zero():
    own = train.data(params())
    assert len(own.held) == params().held_out and len(own.train) + len(own.held) == 1797
    assert own.train.dtype == np.uint8 and own.train.min() == 0 and own.train.max() == 255
    x, held = own.pixels(torch.device("cpu"))
    assert x.shape[1] == 64 and 0 <= held.min() and held.max() == 1
    assert len(set(own.held_labels)) == 10  # shuffled: they are stored by writer


def test_a_restored_decomposition_is_the_one_that_was_trained():
    network, dec, net = measure.restored(tiny(), 0, "noise")
    own = train.data(tiny())
    kept = train_spd.decomposed(tiny(), 0, "noise")
    assert all(np.array_equal(values, kept["decomposition"][name]) for name, values in dec.arrays().items())
    assert np.array_equal(network.fc1.weight, train.trained(tiny(), 0)["fc1.weight"])
    x = own.pixels(torch.device("cpu"))[1]
    torch.testing.assert_close(net.output(x), network(x), atol=1e-5, rtol=1e-5)  # all components and delta on


def test_every_arm_is_read_and_the_importance_loss_lowers_l0():
    rows = study.arms(tiny())
    assert len(rows) == len(train_spd.ARMS) * tiny().seeds and rows.drop(columns="alike").notna().all().all()
    assert rows.loc["unimportant"].l0_1.mean() > rows.loc["noise"].l0_1.mean()
    frozen = rows.loc[list(train_spd.AFTER)]
    assert (frozen.groupby("seed").accuracy.nunique() == 1).all()  # one network, several decompositions
    assert rows.alike.abs().max() <= 1 and rows.accuracy.between(0, 1).all() and rows.masked.between(0, 1).all()


def test_a_network_that_is_its_components_has_no_delta_and_is_its_masked_pass():
    row = study.arms(tiny()).loc["pre-decomposed"].iloc[0]
    assert row.leftover_1 == row.leftover_2 == pytest.approx(0, abs=1e-6) and row.kl == pytest.approx(0, abs=1e-6)
    frozen, dec, net = measure.restored(tiny(), 0, "pre-decomposed")
    assert net.delta1.abs().max() < 1e-5 and torch.allclose(frozen.fc1.weight, dec.weight("fc1").detach(), atol=1e-5)


def test_analysis_is_consistent_with_itself():
    found = study.analyses(tiny()).iloc[0]
    shape = len(found["inputs"]), len(found["outputs"])
    assert found["mean"].shape == found["keep"].shape == shape and found["unit"].shape == shape[1:]
    assert (found["n"] >= tiny().least_images).all() and not (found["keep"] & ~found["significant"]).any()
    assert len(found["on_edges"]) == found["keep"].sum() == len(found["on_edges"].dropna())
    assert found["curves"].shape[0] == shape[1] and found["reads"].shape[0] == shape[0]
    for null in ("chance_needed", "gauge"):
        assert np.ptp(found[null]) > 0
    assert np.ptp(found["large_null"], axis=0).min() > 0
    assert (found["scores"].top2 <= 1).all() and found["variants"].same_sign.between(0, 1).all()


@pytest.mark.parametrize("arm", [0, 1], ids=["ours", "recipe"])
def test_the_reports_reading_counts_components_by_activation(arm):
    rows = study.published(tiny())[arm]
    assert len(rows) == (tiny().seeds, tiny().recipe_networks)[arm]
    found, pool = rows.iloc[0], (tiny().components, tiny().recipe_components)[arm]
    assert 1 <= found["effects"] <= found["outs"] <= pool and 1 <= found["needed"] <= found["ins"] <= pool
    assert found["steps"] <= found["all"] + 1e-6 and found["lasso_null"] < 0.2 < found["lasso"] <= 1
    assert list(found["wrong"]) == list(STEPS) and all(0 <= share <= 1 for share in found["wrong"].values())
    assert found["largest"][0] >= found["largest"][1] >= 0 >= found["largest"][3] >= found["largest"][2]
    assert found["large_null"].shape == (4,) and found["needed"] < found["chance_needed"]


def test_a_recipe_of_one_network_is_refused():
    assert params(recipe_networks=0).recipe_networks == 0 and params(recipe_networks=2).recipe_networks == 2
    with pytest.raises(ParameterError, match="recipe_networks must be 0 or at least 2"):
        params(recipe_networks=1)


def test_a_recipe_without_effects_was_run_and_one_of_no_networks_was_not():
    whole = study.published(tiny())[0]
    mute = whole.copy()
    mute.loc[1, "needed"] = np.nan  # no output of the second network matters on enough images
    counted = pd.DataFrame({"ins": [3, 4], "outs": [0, 0], "effects": [0, 0], "needed": np.nan})  # none of any
    columns = {name: tables.reported_parts(rows, 12)
               for name, rows in {"whole": whole, "mute": mute, "counted": counted, "none": whole[:0]}.items()}
    assert [list(parts) for parts in columns.values()] == [[f"PD-{n}" for n in (2, 1, 3, 4, 5, 6)], *[["PD-2"]] * 2, []]
    shown = tables.beside_printed(columns, claims.of_study("spd_causal_graphs"))
    assert shown.loc["alive input components (PD-2)"].tolist()[2:] == ["3.50", "not run", "28"]
    assert shown.loc["inputs for 80 % (PD-1)"].tolist() == [
        f"{whole.needed.mean():.2f}", *["run, but no output matters"] * 2, "not run", "5 to 9"]


def test_a_reading_without_effects_has_the_same_columns_and_nothing_in_them(monkeypatch):
    whole = study.published(tiny())[0]
    monkeypatch.setattr(measure, "PUBLISHED_LEAST", 10**6)
    dec, net = measure.restored(tiny(), 0, "sized")[1:]
    rows = pd.DataFrame([measure._reported(tiny(), 0, dec, net)] * 2)
    assert set(rows) == set(whole) - {"params", "seed"} and rows.effects.tolist() == [0, 0]
    assert np.isnan([np.mean(value) for value in rows.iloc[0][["needed", "lasso", "largest", "large_null"]]]).all()
    assert set(rows.wrong[0]) == set(STEPS) and list(tables.reported_parts(rows, 12)) == ["PD-2"]


def test_transcoders_are_swept_and_compared_with_rotations():
    found = measure.transcoders(tiny(), 0)
    rows = found["rows"]
    assert len(rows) == len(tiny().coder_k) + len({*tiny().coder_sizes} - {1.0})
    assert (rows.l0 >= 0).all() and (rows.kl >= 0).all()
    assert rows[["matched", "null"]].abs().max().max() <= 1 and -1 <= found["coders"] <= 1


def test_bernoulli_masks_have_no_gradient_and_noise_does():
    found = study.gate_gradients(tiny(), draws=3).pivot(index=["seed", "draw"], columns="mask", values="gradient")
    assert (found.bernoulli == 0).all() and (found.uniform > 0).all() and len(found) == 3 * tiny().seeds


def test_the_toy_reads_one_number_per_seed():
    found = study.toy(tiny(), "uniform")
    assert found["errors"].shape == found["used"].shape == (tiny().seeds,)
    one = train_toy.one_feature(torch.Generator().manual_seed(0), 50)
    assert one.shape == (50, 5) and ((one > 0).sum(1) <= 1).all()


@pytest.mark.slow
def test_the_page_runs_through_without_the_reports_own_recipe(tmp_path):
    """Every cell runs, and every claim has its word."""
    command = [sys.executable, "-m", "lib.press", "run", study.__name__.split(".")[-2], "--profile", "smoke", "-p",
               "recipe_networks=0", "--jobs", "1"]
    environment = {**os.environ, "BOOK_BUILD": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = tmp_path.glob("results/smoke+*/*.json")
    assert len(json.loads(path.read_text())["records"]) == len(claims.of_study("spd_causal_graphs"))


def test_matrices_are_ranked_beside_the_effects_entry_by_entry():
    effect = np.array([[1.0, 2.0], [3.0, 4.0]])
    swapped = np.array([[1.0, 2.0], [4.0, 3.0]])  # 1 - 6 * 2 / (4 * 15) = .8
    same, mixed = tables.rank_correlations([{"a": 10 * effect, "b": swapped, "effect": effect},
                                            {"a": effect**3, "b": effect, "effect": effect}])
    assert same.estimate == 1 and mixed.estimate == pytest.approx(0.9) and mixed.low < 0.9 < mixed.high
    drawn = [tables.rank_correlations([{"a": numpy_generator(0, "null", i).permuted(effect), "effect": effect}])
             for i in range(20)]
    assert np.ptp([row[0].estimate for row in drawn]) > 0.5  # a null that moves


def test_matrices_of_a_network_are_free_of_the_gauge_but_for_the_raw_path():
    found = study.analyses(tiny()).iloc[0]
    raw, oriented, lasso, effect = found.matrices.values()
    assert {own.shape for own in found.matrices.values()} == {(len(found.inputs), len(found.outputs))}
    assert np.allclose(effect, found["mean"] / found.unit)
    assert set(np.unique(np.sign(oriented * raw))) <= {-1, 0, 1} and np.isfinite(lasso).all()
