"""The study's oracles, and that every part returns what its docstring promises."""
from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.files import ROOT
from lib.params import load
from lib.sparse_coders import options
from lib.sparse_coders.report import METRICS
from lib.studies.sparse_coders_recovery import protocol as study

PROFILES = ROOT / "params" / "sparse_coders_recovery"


@cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_profile_is_accepted_and_opens_with_its_story(path: Path):
    assert load(study.Params, path).profile == path.stem
    header = path.read_text().splitlines()[:3]
    assert [line.split(":")[0] for line in header] == ["# Reproduces", "# Command", "# Expected"]


def test_every_parameter_is_used():
    used = {node.attr for node in ast.walk(ast.parse(inspect.getsource(study))) if isinstance(node, ast.Attribute)}
    assert set(study.Params.model_fields) <= used


def test_every_rule_of_the_library_is_an_arm():
    assert {study.ARMS[arm].rule for arm in study.RULES} == set(options.RULES)
    assert all(arm.knob in options.RULES[arm.rule] for arm in study.ARMS.values())


def test_full_profile_has_the_published_benchmarks_size():
    full = params("full")
    assert (full.planted_features, full.planted_width, full.planted_latents) == (16384, 768, 4096)
    assert (full.planted_roots, full.planted_depth, full.planted_rarest, full.seeds) == (128, 3, 5e-4, 10)


def test_topk_finds_what_a_toy_model_stores_and_random_directions_do_not():
    """The oracle: 20 random directions in R^5 score MMCS .75 to .78 and recover little; TopK finds almost all."""
    quick = params("quick", seeds=2, toy_k=(1, 2), null_draws=20)
    row = study.sweep(quick, "toy", "topk", 0)["rows"].iloc[0]
    null = study.facts(quick, "toy", 0)
    assert row.recovery > 0.85 and row.l0 == pytest.approx(1, abs=0.01)
    assert 0.73 < null["null_mmcs"] < 0.80 and null["null_recovery"] < 0.3
    assert 0.2 < null["null_fvu"] < 0.8 and null["null_shrinkage"] == pytest.approx(1, abs=0.1)
    assert null["probe_f1"] > 0.8 and null["n_features"] >= 6


def test_bernoulli_masks_have_no_gradient_and_noise_does():
    found = study.gate_gradients(params(), draws=3).pivot(index=["seed", "draw"], columns="sampling", values="gradient")
    assert (found.bernoulli == 0).all() and (found.noise > 0).all() and len(found) == 2 * 3


def test_published_share_of_topk_is_fixed_and_relus_starts_at_half():
    rows = study.published_arm(params(), 0)["rows"].set_index("activation")
    for k in (2, 5, 16, 64):
        assert rows.inactive[f"topk {k}"] == pytest.approx(1 - k / 256, abs=1e-3)
    assert rows.inactive_before["relu"] == pytest.approx(0.5, abs=0.05)
    assert list(rows.index) == list(study.PUBLISHED) and np.isfinite(rows).all().all()


@pytest.mark.parametrize("world", ["toy", "large toy", "planted", "independent", "signed", "hierarchy", "flat"])
def test_a_world_gives_arms_the_same_samples_and_knows_its_null(world):
    data, again = study.samples(params(), world, 0), study.samples(params(), world, 0)
    assert all(torch.equal(a, b) for a, b in zip(data.held, again.held, strict=True))
    found = study.facts(params(), world, 0)
    assert {f"null_{name}" for name in METRICS} <= set(found) and found["true_l0"] > 0
    other = study.ground_truth(params(), world, 1).dictionary
    truth = study.ground_truth(params(), world, 0).dictionary
    assert truth.shape != other.shape or not torch.equal(truth, other)


@pytest.mark.parametrize("arm", study.ARMS)
def test_every_arm_gives_a_row_per_setting_and_repeats(arm):
    world = "independent"
    rows, again = (study.sweep(params(), world, arm, 0)["rows"] for _ in range(2))
    assert list(rows.setting) == study.knobs(params(), world, study.ARMS[arm].knob, params().small_width)
    assert np.isfinite(rows[[name for name in METRICS if name != "shrinkage"]]).all().all()
    assert rows.equals(again)


def test_shuffled_input_differs_from_the_true_second_site():
    a, b = (study.sweep(params(steps=60), "independent", arm, 0)["rows"] for arm in ("multi_input", "shuffled_input"))
    assert not np.allclose(a.fvu, b.fvu)


def test_example_gives_decoders_of_the_toy():
    found = study.example(params(), ("relu", "topk"))
    assert found["dictionary"].shape[1] == 5
    assert {name: W.shape for name, W in found["decoders"].items()} == {"relu": (2, 20, 5), "topk": (2, 20, 5)}
