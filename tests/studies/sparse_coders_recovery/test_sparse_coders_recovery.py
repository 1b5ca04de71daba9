"""The study's oracles, and that every part returns what its docstring promises."""
from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.files import PACKAGE, ROOT
from lib.params import load
from lib.press.keys import PRESS, source_closure
from lib.press.runs import planned
from lib.sparse_coders.report import METRICS
from lib.sparse_coders.rule import RULES
from lib.studies.sparse_coders_recovery import measure, published, samples, train, train_aligned
from lib.studies.sparse_coders_recovery import protocol as study

PROFILES = ROOT / "params" / "sparse_coders_recovery"
ROOM = Path(study.__file__).parent


@cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


def sweep(own: study.Params, world: str, arm: str, seed: int = 0):
    return measure.sweep(**study.asked(own, world, arm, seed))


def facts(own: study.Params, world: str, seed: int = 0):
    return measure.facts(samples.of_world(own, world), world, seed, own.null_draws)


@pytest.mark.parametrize(("changes", "said"), [
    ({"planted_depth": 3}, "planted_features of 85 or more"), ({"planted_k": (1, 25)}, "planted_k from 1 to"),
    ({"toy_k": (1, 21)}, "toy_k from 1 to 20"),
    ({"small_k": (0, 1)}, "small_k from 1 to small_features")])  # 1 + 4 + 16 + 64
def test_what_cannot_be_is_refused_before_anything_runs(changes, said):
    with pytest.raises(ValueError, match=said):
        params(**changes)


@pytest.mark.parametrize("path", [p for p in PROFILES.glob("*.yaml") if "sweep" not in p.stem],
                         ids=lambda path: path.stem)
def test_profile_is_accepted_and_opens_with_its_story(path: Path):
    assert load(study.Params, path).profile == path.stem
    header = path.read_text().splitlines()[:3]
    assert [line.split(":")[0] for line in header] == ["# Reproduces", "# Command", "# Expected"]


def test_every_parameter_is_used():
    trees = [ast.parse(path.read_text()) for path in ROOM.glob("*.py")]
    used = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert set(study.Params.model_fields) <= used


def test_every_rule_of_the_library_is_an_arm():
    """But ProLU, which stands beside the rules it claims to surpass in incidental_polysemanticity."""
    assert {train.ARMS[arm].rule for arm in study.RULES} == set(RULES) - {"prolu"}
    assert all(arm.option in RULES[arm.rule].model_fields for arm in train.ARMS.values())
    assert {arm for _, arm in study.CELLS} == set(train.ARMS)


def test_full_profile_has_the_published_benchmarks_size():
    full = params("full")
    assert (full.planted_features, full.planted_width, full.planted_latents) == (16384, 768, 4096)
    assert (full.planted_roots, full.planted_depth, full.planted_rarest, full.seeds) == (128, 3, 5e-4, 10)


def test_topk_finds_what_a_toy_model_stores_and_random_directions_do_not():
    """The oracle: 20 random directions in R^5 score MMCS .75 to .78 and recover little; TopK finds almost all."""
    quick = params("quick", seeds=2, toy_k=(1, 2), null_draws=20)
    row = sweep(quick, "toy", "topk")["rows"].iloc[0]
    null = facts(quick, "toy")
    assert row.recovery > 0.85 and row.l0 == pytest.approx(1, abs=0.01)
    assert 0.73 < null["null_mmcs"] < 0.80 and null["null_recovery"] < 0.3
    assert 0.2 < null["null_fvu"] < 0.8 and null["null_shrinkage"] == pytest.approx(1, abs=0.1)
    assert null["probe_f1"] > 0.8 and null["n_features"] >= 6


def test_bernoulli_masks_have_no_gradient_and_noise_does():
    found = study.gate_gradients(params(), draws=3).pivot(index=["seed", "draw"], columns="sampling", values="gradient")
    assert (found.bernoulli == 0).all() and (found.noise > 0).all() and len(found) == 2 * 3


def test_published_share_of_topk_is_fixed_and_relus_starts_at_half():
    rows = published.published_arm(params(), 0)["rows"].set_index("activation")
    for k in (2, 5, 16, 64):
        assert rows.inactive[f"topk {k}"] == pytest.approx(1 - k / 256, abs=1e-3)
    assert rows.inactive_before["relu"] == pytest.approx(0.5, abs=0.05)
    assert list(rows.index) == list(published.PUBLISHED) and np.isfinite(rows).all().all()


@pytest.mark.parametrize("world", ["toy", "large toy", "planted", "independent", "signed", "hierarchy", "flat"])
def test_a_world_gives_arms_the_same_samples_and_knows_its_null(world):
    data, again = (samples.samples.__wrapped__(params(), world, 0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(data.held, again.held, strict=True))
    found = facts(params(), world)
    assert {f"null_{name}" for name in METRICS} <= set(found) and found["true_l0"] > 0
    other = samples.ground_truth(params(), world, 1).dictionary
    truth = samples.ground_truth(params(), world, 0).dictionary
    assert truth.shape != other.shape or not torch.equal(truth, other)


@pytest.mark.parametrize("arm", train.ARMS)
def test_every_arm_trains_a_coder_per_setting_and_repeats(arm):
    asked = study.asked(params(), "independent", arm, 0)
    made, again = (train.coders(**asked)["coders"] for _ in range(2))
    assert len(made) == len(asked["plan"]["settings"])
    assert all(np.array_equal(a[name], b[name]) for a, b in zip(made, again, strict=True) for name in a | b)


@pytest.mark.parametrize("arm", train.ARMS)
def test_every_arm_gives_a_row_per_setting_and_repeats(arm):
    rows, again = (sweep(params(), "independent", arm)["rows"] for _ in range(2))
    unit = {"k": 1, "l1": params().small_width ** 0.5, "l0": params().small_width}[train.ARMS[arm].option]
    assert list(rows.setting) == [value * unit for value in train.plan_of(params(), "independent", arm)["settings"]]
    assert np.isfinite(rows[[name for name in METRICS if name != "shrinkage"]]).all().all()
    assert rows.equals(again)


def test_shuffled_input_differs_from_the_true_second_site():
    a, b = (sweep(params(steps=60), "independent", arm)["rows"] for arm in ("multi_input", "shuffled_input"))
    assert not np.allclose(a.fvu, b.fvu)


def test_a_transcoder_is_judged_by_the_directions_and_values_it_writes():
    own = params("quick", seeds=1, gate_steps=300, gate_l1=(0.05, 0.1))
    rows = sweep(own, "independent", "transcoder")["rows"]
    truth = samples.ground_truth(own, "independent", 0)
    asked = study.asked(own, "independent", "transcoder", 0)
    [state, _] = train.coders(**asked)["coders"]
    best = [float((torch.from_numpy(state["W_dec"]) @ D.T).amax(0).mean()) for D in (truth.view, truth.dictionary)]
    assert best[0] > best[1] + 0.1  # the other site's directions, not those it reads
    assert rows.mmcs[0] == pytest.approx(best[0], abs=1e-3) and rows.fvu[0] < 0.9


def test_long_trains_everything_twice_as_long_as_quick():
    quick, long = params("quick"), params("long")
    lengths = [name for name in study.Params.model_fields if name.endswith("_steps") or name == "steps"]
    assert len(lengths) == 6 and all(getattr(long, name) >= 2 * getattr(quick, name) for name in lengths)
    assert long.device == "cpu" and long.seeds >= quick.seeds and long.alone_passes == 10


def test_values_a_user_types_are_accepted():
    typed = params("quick", seeds=1, toy_sparsity=0.85, large_features=30, large_hidden=8)
    assert samples.ground_truth(samples.of_world(typed.replace(toy_steps=50), "large toy"), "large toy", 0)


def test_example_gives_decoders_of_the_toy():
    found = study.example(params(), ("relu", "topk"))
    assert found["dictionary"].shape[1] == 5
    assert {name: W.shape for name, W in found["decoders"].items()} == {"relu": (2, 20, 5), "topk": (2, 20, 5)}


@pytest.mark.parametrize("stage", [train, published, train_aligned], ids=["train", "published", "train_aligned"])
def test_training_depends_on_nothing_that_only_measures(stage):
    files = set(source_closure(f"import {stage.__name__}", without=PRESS))
    others = [ROOM / f"{name}.py" for name in ("measure", "alignment", "protocol", "tables", "figures")]
    others += [PACKAGE / "metrics/recovery.py", PACKAGE / "metrics/similarity.py", PACKAGE / "sparse_coders/report.py"]
    assert all(path.is_file() for path in others) and files.isdisjoint(others)


def test_a_parameter_repeats_the_runs_that_use_it():
    def touched(**changes):
        """Worlds and arms trained anew."""
        before, after = (
            {cell: planned(train.coders, **study.asked(own, *cell, 0)).path for cell in study.CELLS}
            for own in (params(), params().replace(**changes))
        )
        return {cell for cell in study.CELLS if before[cell] != after[cell]}

    everything = set(study.CELLS)
    assert touched(profile="quick", null_draws=3, published_epochs=3) == set()
    assert touched(toy_coder_steps=11) == {cell for cell in everything if cell[0] in ("toy", "large toy")}
    assert touched(planted_steps=11, planted_depth=1) == {cell for cell in everything if cell[0] == "planted"}
    assert touched(gate_steps=11) == {(w, a) for w, a in everything if w not in ("toy", "large toy", "planted")
                                      and train.ARMS[a].rule == "stochastic"}
    assert touched(large_hidden=5) == {cell for cell in everything if cell[0] == "large toy"}
    assert touched(l0=(0.02, 0.3)) == {cell for cell in everything if cell[1] == "jumprelu"}
    assert touched(seed=1) == everything
