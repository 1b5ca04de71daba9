"""One run of the topographic study: who is trained, on what, and that every part returns what it promises."""
from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from lib import files
from lib.data.registry import DatasetUnavailable
from lib.files import ROOT
from lib.params import load
from lib.press.runs import planned
from lib.press.sweep import plan
from lib.studies.topoloss_hypotheses import data, measure, train
from lib.studies.topoloss_hypotheses import protocol as study
from lib.topoloss import TopoLoss

PROFILES = ROOT / "params" / "topoloss_hypotheses"
SCALARS = {"accuracy", "step", "published_l0", "effective_rank", "rms", "topo_loss", "exponent", "h1_entropy",
           "h1_entropy_null", "h1_auroc", "h1_published", "h1_monosemanticity_null", "participation", "d95", "d95_null",
           "stream_morans_i", "stream_morans_i_null", "pressed_z", "pressed_preferred"}
CLASSES = {"log_sufficiency", "log_matched", "log_specificity", "z", "distance", "published_ratio", "log_disc"}


@cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


@pytest.mark.parametrize("profile", ["smoke", "quick", "long", "full", "paper"])
def test_profile_is_accepted_and_opens_with_its_story(profile):
    assert params(profile).profile == profile
    header = (PROFILES / f"{profile}.yaml").read_text().splitlines()[:3]
    assert [line.split(":")[0] for line in header] == ["# Reproduces", "# Command", "# Expected"]


def test_every_point_of_the_sweep_starts_from_the_plain_model():
    points = plan.read(plan.find("topoloss_hypotheses", "alpha")).points
    assert len(points) == 11
    assert {study.arms(study.Params(**as_tuples(point.values)))[0].name for point in points} == {"α = 0"}


def as_tuples(values):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


@pytest.mark.parametrize(
    ("group", "stages"),
    [(data.Data, [data]), (train.Training, [data, train]), (measure.Measuring, [data, train, measure]),
     (study.Params, [data, train, measure, study])],
)
def test_every_parameter_is_used_by_the_stages_that_take_it(group, stages):
    nodes = [node for stage in stages for node in ast.walk(ast.parse(inspect.getsource(stage)))]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert set(group.model_fields) - {"profile"} <= used


def test_arms_hold_weights_controls_and_what_the_full_profile_adds():
    names = [arm.name for arm in study.arms(params("quick"))]
    assert names == ["α = 0", "α = 1", "permuted sheet", "earlier checkpoint"]
    assert not study.other_arms(params("quick"))
    assert [arm.name for arm in study.arms(params(alphas=(1.0,)))] == ["α = 1"]
    assert [arm.name for arm in study.arms(params(alphas=(0.0, 0.5)))] == ["α = 0", "α = 0.5"]
    others = {arm.name: arm for arm in study.other_arms(params("full"))}
    assert {"factor 2", "depth 8, α = 1", "depth 2, permuted", "ResNet-18, α = 0"} <= set(others)
    assert others["ResNet-18, permuted"].factor == 4 and others["ResNet-18, permuted"].permuted
    assert {0.01, 0.1, 0.38, 1.0} <= set(params("full").alphas) and params("full").seeds >= 5
    for wrong in ((-0.1, 1.0), (0.0, 1.0, 0.1), (1.0, 1.0)):
        with pytest.raises(ValueError, match="alphas must rise"):
            study.arms(params(alphas=wrong))


def test_models_of_another_root_seed_start_and_lie_on_their_sheets_otherwise():
    assert params().model_seeds() == [0, 1] and params(seed=2).model_seeds(3) == [2000, 2001, 2002]
    orders = [TopoLoss(train.untrained(params(), study.arms(params())[0], 0), "blocks.*.attn.proj", params().factor,
                       permute=params(seed=root).model_seeds()[0]) for root in (0, 1)]
    model = train.untrained(params(), study.arms(params())[0], 0)
    assert not torch.equal(*(loss(model).detach() for loss in orders))


def test_coders_are_compared_at_a_number_of_latents_that_is_trained():
    with pytest.raises(ValueError, match="fixed_k must be one of k"):
        params(fixed_k=5)


@pytest.mark.parametrize(("changes", "said"), [
    ({"patch": 3}, "patch that divides image_size"), ({"heads": 3}, "heads that divide width"),
    ({"other_factors": (5.0,)}, "up to 4, the shorter side"), ({"expansion": 1, "k": (4, 33)}, "k from 1 to width"),
    ({"k": (0, 4), "fixed_k": 4}, "k from 1 to width"),
    ({"top_units": 32}, "top_units below width"), ({"generated_images": 31}, "generated_images up from batch"),
    ({"select_images": 26}, "more select_images"), ({"scored_images": 26}, "shapes of every class"),
    ({"patch_images": 6}, "fewer patch_images")])  # of 140 for 27 classes, 5 each
def test_what_cannot_be_is_refused_before_anything_runs(changes, said):
    with pytest.raises(ValueError, match=said):
        params(**changes)


def test_a_model_is_asked_for_by_what_trains_it_alone():
    def asked(**changes):
        changed = params().replace(**changes)
        return planned(train.trained, changed, tuple(study.arms(params())[0]), 0).path

    measuring = {"null_draws": 11, "coder_steps": 7, "patch_images": 1, "coder_images": 50, "scored_images": 130}
    assert asked(profile="quick", seeds=3, alphas=(0.0, 1.0), **measuring) == asked()
    assert asked(lr=0.1) != asked() != asked(select_images=150)


def test_splits_share_no_image_and_every_class_is_patched():
    parts = study.splits(params())
    seen = {name: {image.tobytes() for image in part.images} for name, part in parts._asdict().items()}
    assert not seen["select"] & seen["test"] and not seen["select"] & seen["patch"]
    assert not (seen["train"] & (seen["test"] | seen["select"])) and seen["coder"] <= seen["train"]
    assert (np.bincount(parts.patch.labels) == params().patch_images).all()
    with pytest.raises(ValueError, match="too few for this profile"):
        study.splits(params().model_copy(update={"patch_images": 60}))


@pytest.mark.parametrize(
    ("profile", "named"), [("quick", "fashion_mnist"), ("full", "cifar10"), ("paper", "imagenet100")]
)
def test_without_its_data_a_profile_says_what_gets_it_and_trains_nothing(profile, named, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BUILD", tmp_path)
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    monkeypatch.delenv("BOOK_IMAGENET100", raising=False)
    monkeypatch.setattr(train, "train", None)  # calling it would fail with another error
    data._pool.cache_clear()
    with pytest.raises(DatasetUnavailable, match=f"python -m lib.data.*{named}|{named}.*python -m lib.data"):
        train.trained(params(profile), tuple(study.arms(params(profile))[0]), 0)


def test_arms_of_a_seed_start_alike_and_seeds_differ():
    first, second, other = (train.untrained(params(), study.arms(params())[a], s) for a, s in ((0, 0), (3, 0), (0, 1)))
    weights = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["head.weight"], weights[2]["head.weight"])


@cache
def model_of(name: str, steps: int = 40):
    [arm] = [arm for arm in study.arms(params()) if arm.name == name]
    return train.trained(params(steps=steps), tuple(arm), 0)


def loss_on_sheet(done: dict, permute: int | None = None) -> float:
    model = train.untrained(params(), study.arms(params())[0], 0)
    model.load_state_dict({name: torch.as_tensor(value) for name, value in done["weights"].items()})
    return float(TopoLoss(model, "blocks.*.attn.proj", params().factor, permute=permute)(model))


def test_the_loss_is_reached_on_the_sheet_it_was_asked_on():
    plain, topo, permuted = (model_of(name) for name in ("α = 0", "α = 1", "permuted sheet"))
    assert loss_on_sheet(topo) < 0.5 < loss_on_sheet(plain)
    assert loss_on_sheet(permuted, permute=0) < loss_on_sheet(permuted)
    assert topo["history"].pressure.gt(0).all() and plain["history"].pressure.eq(0).all()
    assert [kept["step"] for kept in plain["snapshots"]] == [20, 28, 34] and not topo["snapshots"]


def test_training_repeats_exactly():
    again = train.trained(params(steps=40), tuple(study.arms(params())[4]), 0)
    assert all(np.array_equal(again["weights"][name], value) for name, value in model_of("α = 1")["weights"].items())


def test_the_earlier_checkpoint_is_the_one_as_accurate_as_the_topographic_model(monkeypatch):
    plain, topo = model_of("α = 0"), model_of("α = 1")
    kept = [{**own, "accuracy": value} for own, value in zip(plain["snapshots"], (0.2, 0.5, 0.6), strict=True)]
    told = {"α = 0": {**plain, "accuracy": 0.8, "snapshots": kept}, "α = 1": {**topo, "accuracy": 0.54}}
    monkeypatch.setattr(measure, "reuse", lambda function, p, arm, seed: told[arm[0]])
    arm = study.arms(params())[-1]
    model, known = measure.restored(params(steps=40), arm, 0)
    assert arm.earlier and known["accuracy"] == 0.5 and known["step"] == 28 and not model.training
    assert np.array_equal(model.head.weight.detach().numpy(), kept[1]["weights"]["head.weight"])
    told["α = 1"]["accuracy"] = 0.9
    assert measure.restored(params(steps=40), arm, 0)[1]["step"] == 40


@pytest.mark.parametrize(("step", "models"), [(6, 26), (5, 28)])
def test_a_control_that_is_the_plain_model_itself_is_not_measured_twice(step, models, monkeypatch):
    asked, trains_coders = [], []

    def collect(function, configs, jobs, label):
        asked.extend(config["arm"].name for config in configs if label == "measurements")
        trains_coders.extend(config["is_main"] for config in configs if label == "measurements")
        row = {kind: pd.DataFrame({"x": [1.0]}) for kind in ("scalars", "coders", "classes", "history", "maps")}
        return pd.DataFrame([{**config, **row} for config in configs])

    monkeypatch.setattr(study, "collect", collect)
    monkeypatch.setattr(study, "matching", lambda *_: {"step": step})
    found = study.runs(params())
    assert len(asked) == models and ("earlier checkpoint" in asked) == (step < params().steps)
    assert found["scalars"].groupby("arm").seed.nunique().eq(2).all() and found["scalars"].arm.nunique() == 14
    assert trains_coders == [True] * (models - 14) + [False] * 14


def test_a_model_is_measured_whole_and_the_same_again():
    arm = study.arms(params())[4]
    found, again = measure.measured(params(), arm, 0), measure.measured(params(), arm, 0)
    assert set(found["scalars"]) >= SCALARS and all(np.isfinite(v) for v in found["scalars"].values())
    assert found["scalars"]["exponent"] == pytest.approx(-1, abs=1e-3)
    assert len(found["classes"]) == 27 and set(found["classes"]) >= CLASSES
    assert len(found["coders"]) == params().coder_seeds * len(params().k)
    assert found["coders"][found["coders"].k == params().fixed_k].ce.notna().sum() == params().coder_seeds
    assert found["maps"]["contrast"].shape == found["maps"]["means"].shape == (27, params().width)
    assert found["scalars"] == again["scalars"] and found["classes"].equals(again["classes"])
    assert found["maps"]["pressed"].shape == found["maps"]["pressed_means"].shape == (27, params().width)


def test_an_arm_beside_the_main_comparison_trains_no_coder_and_reads_the_same_units():
    arm = study.arms(params())[4]
    whole, part = measure.measured(params(), arm, 0), measure.measured(params(), arm, 0, is_main=False)
    assert "coders" not in part and "log_disc" not in part["classes"]
    assert not {"h1_entropy", "published_l0"} & set(part["scalars"])
    assert part["classes"].log_matched.equals(whole["classes"].log_matched)
    assert all(part["scalars"][name] == whole["scalars"][name] for name in ("d95", "exponent", "stream_morans_i"))


def test_a_residual_network_goes_through_the_same_measurements():
    small = params(steps=2, coder_steps=2, k=(2, 4), fixed_k=4, coder_images=64, random_sets=2, top_units=2)
    arm = study.Arm("ResNet-18, α = 1", 1.0, 4.0, model="resnet18")
    found = measure.measured(small, arm, 0)
    assert found["maps"]["contrast"].shape == (27, 256)  # channels of the third stage
    assert "pressed" not in found["maps"] and len(found["coders"]) == 2
    assert np.isfinite(found["classes"].log_matched).all()


@pytest.mark.slow
def test_one_topographic_model_alone_makes_a_page_that_judges_nothing_but_algebra(tmp_path):
    given = [f"-p{own}" for own in ("alphas=[1.0]", "seeds=1", "other_depths=[]", "other_factors=[]")]
    command = [sys.executable, "-m", "lib.press", "run", "topoloss_hypotheses", "--profile", "smoke", *given]
    done = subprocess.run(command, env={**os.environ, "BOOK_BUILD": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = tmp_path.glob("results/*/topoloss_hypotheses.json")
    records = json.loads(path.read_text())["records"]
    reasons = {record["claim_id"]: record["reason"] for record in records}
    assert len(records) == 11 and {record["word"] for record in records} == {"not tested here"}
    assert reasons["TL-3"] == "needs topo_weight 0 and 1" and reasons["TL-6"] == "the profile smoke settles nothing"
