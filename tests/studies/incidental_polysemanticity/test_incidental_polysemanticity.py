"""The study's oracles, that every part returns what its docstring promises, and that the sweep's points are sound."""
from __future__ import annotations

import typing
from dataclasses import astuple
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from keys_in_a_copy import copied, edit, keys

from lib import ensembles
from lib.files import ROOT
from lib.metrics.frontier import matched_pair
from lib.params import ParameterError, check, load, read_yaml
from lib.press.keys import PRESS, source_closure
from lib.press.runs import planned, reuse
from lib.studies.incidental_polysemanticity import collisions, leaky_sae, train_coders
from lib.studies.incidental_polysemanticity import protocol as study
from lib.studies.incidental_polysemanticity.decoder_overlap import weighted_overlap
from lib.studies.incidental_polysemanticity.factorial import ACTS, INITS, NOISES
from lib.studies.incidental_polysemanticity.groups import Autoencoders

PROFILES = ROOT / "params" / "incidental_polysemanticity"


pytestmark = pytest.mark.usefixtures("build")


@cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("l1_penalties", (1e-5, 1e-3), "must be among l1_penalties"),
        ("source_penalty", 0.7, "not among sae_penalties"),
        ("widths", (6, 7, 9, 10), "must rise and hold 8 and 9"),
        ("coder_seeds", 50, "cannot exceed"),
        ("clips", (0.1,), "clips must hold 1"),
        ("steps", 0, "greater than or equal to 1"),
    ],
)
def test_what_no_verdict_could_use_is_refused_at_the_door(name, value, message):
    with pytest.raises(ParameterError, match=message):
        params("smoke", **{name: value})


def group(stage) -> type:
    """The parameters a stage takes."""
    return typing.get_type_hints(stage)["params"]


@pytest.mark.parametrize("stage", study.STAGES, ids=lambda stage: stage.__name__)
def test_stage_takes_the_parameters_it_reads_and_no_others(stage, reads):
    assert reads(stage, params()) == set(group(stage).model_fields)


def test_training_reads_the_parameters_it_takes_and_no_others(reads):
    for group, part, *rest in (
        (Autoencoders, leaky_sae.autoencoders, [astuple(study.PUBLISHED[7])], range(2), 0.3, 0.01, 0.1, "shuffled"),
        (train_coders.Coders, train_coders.states),
    ):
        assert reads(part, params(), *rest) == set(group.model_fields)


def test_every_parameter_is_used():
    used = {name for stage in study.STAGES for name in group(stage).model_fields}
    assert set(study.Params.model_fields) - used == {"profile", "source_penalty"}  # which the chapter reads


ALL = {stage.__name__ for stage in study.STAGES}
JUDGED = {"factorial", "nothing", "strengths", "widths", "clipping"}


@pytest.mark.parametrize(
    ("name", "value", "stages"),
    [
        ("profile", "quick", set()),
        ("source_penalty", 3.0, set()),
        ("turn_draws", 600, {"kurtosis"}),
        ("collision_penalty", 0.004, {"collision_counts"}),
        ("published_steps", 50, {"published_arm"}),
        ("clips", (1.0, 0.2), {"clipping"}),
        ("null_draws", 200, {"nothing", "widths"}),
        ("seeds", 5, JUDGED - {"widths"} | {"kurtosis"}),
        ("sae_penalty", 0.4, JUDGED - {"strengths"}),
        ("sae_lr", 0.004, JUDGED | {"coders"}),
        ("lr", 0.004, JUDGED | {"coders", "kurtosis"}),
        ("seed", 1, ALL),
    ],
)
def test_a_parameter_reruns_the_stages_that_use_it_and_no_others(name, value, stages):
    before, after = params(), params().replace(**{name: value})
    assert {s.__name__ for s in study.STAGES if planned(s, before).path != planned(s, after).path} == stages


@pytest.mark.parametrize(
    ("stage", "apart"),
    [
        ("collision_counts", {"decoder_overlap", "network", "leaky_sae", "report"}),
        ("kurtosis", {"decoder_overlap", "leaky_sae", "report", "published"}),
        ("factorial", {"collisions", "kurtosis", "published", "coders"}),
        ("published_arm", {"collisions", "kurtosis", "factorial", "coders"}),
        ("coders", {"collisions", "kurtosis", "factorial", "published"}),
    ],
)
def test_a_stage_depends_on_what_makes_it_and_on_no_figure(stage, apart):
    files = source_closure(f"import {getattr(study, stage).__module__}", without=PRESS)
    room = {path.stem for path in files if path.parent.name == "incidental_polysemanticity"}
    assert not room & (apart | {"figures", "equal_fit", "protocol"})
    assert stage == "coders" or not any("sparse_coders" in path.parts for path in files)


def assert_equal(found, again):
    assert list(found) == list(again)
    for name, values in found.items():
        is_frame = isinstance(values, pd.DataFrame)
        (pd.testing.assert_frame_equal if is_frame else np.testing.assert_array_equal)(values, again[name])


@pytest.mark.parametrize("stage", study.STAGES, ids=lambda stage: stage.__name__)
def test_measuring_again_trains_nothing_and_reads_the_same(stage, build, monkeypatch):
    first = reuse(stage, params())
    for path in build.glob(f"runs/*.{stage.__name__}/*.npz"):  # as an edited measure would have another key
        path.unlink()
    for module, trainer in ((ensembles.Adam, "step"), (train_coders, "fit"), (collisions, "_descend")):
        monkeypatch.setattr(module, trainer, lambda *_, **__: pytest.fail("trained again"))
    assert_equal(first, reuse(stage, params()))


CALLS = {
    "network.networks": "[], range(2), 3, 0.1, 'cpu'", "leaky_sae.autoencoders": "params, [], range(2), 0.3",
    "published.programme": "range(2), 3, 3, 'cpu'", "train_coders.states": "params",
    "collisions.tied": "4, 6, 2, 3, 0, 'cpu'",
}
"""What trains."""
ROOM = "studies/incidental_polysemanticity"


@pytest.fixture(scope="module")
def unedited(tmp_path_factory) -> dict[str, str]:
    return keys_in(copied(tmp_path_factory.mktemp("unedited")))


def keys_in(root) -> dict[str, str]:
    """The key of every training and measuring stage in a copy of the library."""
    modules = {name.split(".")[0] for name in CALLS}
    before = f"""
from pathlib import Path
from lib.params import load
from lib.studies.incidental_polysemanticity import {", ".join(modules)}, protocol as study
params = load(study.Params, Path("params/incidental_polysemanticity/smoke.yaml"))
"""
    calls = CALLS | {stage.__name__: "params" for stage in study.STAGES}
    asked = [f"{name if name in CALLS else f'study.{name}'}, {rest}" for name, rest in calls.items()]
    return dict(zip(calls, keys(root, before, *asked), strict=True))


COUNTED = {"collision_counts", "kurtosis"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "changed"),
    [
        (["metrics/recovery", "metrics/statistics", f"{ROOM}/decoder_overlap", f"{ROOM}/report"], ALL - COUNTED),
        (["metrics/superposition", f"{ROOM}/figures", f"{ROOM}/equal_fit"], set()),
        ([f"{ROOM}/units", f"{ROOM}/kurtosis", f"{ROOM}/counts"], JUDGED | COUNTED),
        ([f"{ROOM}/factorial", f"{ROOM}/coders", f"{ROOM}/combinations"], ALL - COUNTED),
        ([f"{ROOM}/leaky_sae"], set(CALLS) - {"network.networks", "collisions.tied"} | ALL - COUNTED),
        (["sparse_coders/losses"], {"train_coders.states", "coders"}),
        ([f"{ROOM}/collisions"], {"collisions.tied"} | COUNTED),
        (["ensembles"], set(CALLS) | ALL),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_edit_repeats_what_trains_with_it_and_nothing_else(files, changed, unedited, copy):
    for file in files:
        edit(copy, f"lib/{file}.py")
    edited = keys_in(copy)
    assert {stage for stage in edited if edited[stage] != unedited[stage]} == changed


def points(sweep: dict) -> list[dict]:
    """Every point of a sweep file: blocks of grid (product), zip (side by side) and list, each on top of `set`."""
    found = []
    for block in sweep["points"]:
        parts = [[{name: value} for value in values] for name, values in block.get("grid", {}).items()]
        if zipped := block.get("zip"):
            parts.append([dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=True)])
        parts += [block["list"]] if "list" in block else []
        found += [{k: v for part in chosen for k, v in part.items()} for chosen in product(*parts)]
    return [sweep.get("set", {}) | point for point in found]


def test_points_of_the_sweep_are_parameters_the_study_accepts():
    path = PROFILES / "sweep_lambda.yaml"
    sweep = read_yaml(path)
    assert sweep["study"] == "incidental_polysemanticity"
    assert set(sweep) <= {"study", "base", "set", "points", "resources", "retries", "timeout_minutes"}
    assert all(set(block) <= {"grid", "zip", "list"} for block in sweep["points"])
    base, found = read_yaml(PROFILES / f"{sweep['base']}.yaml"), points(sweep)
    ready = {check(study.Params, base | point, path) for point in found}
    assert len(ready) == len(found) >= 10  # no point stands there twice
    for spoilt in ({"l1_penalty": [1.0e-4]}, {"steps": "many"}):
        with pytest.raises(ParameterError):
            check(study.Params, base | spoilt, path)


def test_published_rows_are_those_of_their_decoders():
    """Row (untied, combination, seed) reads the Interference of that decoder, and no calibration has a null."""
    found = study.published_arm(params())
    rows, D = found["runs"].query("storage == 'untied'"), torch.from_numpy(found["decoders"])
    untied = rows.pivot(index="combination", columns="seed", values="interference")
    assert untied.to_numpy() == pytest.approx(weighted_overlap(D).numpy())
    assert untied.index.tolist() == list(range(1, 9)) and (found["runs"].null_sd < 1e-6).all()
    last = rows[rows.combination == 8][["init", "noise", "reg", "act"]]
    assert set(last.itertuples(index=False, name=None)) == {("orthogonal", "positive_kurtosis", "L2", "gelu")}


def test_factorial_has_every_cell_at_every_penalty_on_the_same_seeds():
    runs = study.factorial(params())["runs"]
    factors = [INITS, NOISES, ("L1", "L2"), ACTS]
    assert len(runs) == 24 * 2 * params().seeds
    cells = set(runs[["init", "noise", "reg", "act"]].itertuples(index=False, name=None))
    assert cells == set(product(*factors))
    assert runs.groupby(["init", "noise", "reg", "act", "penalty"]).seed.apply(tuple).nunique() == 1
    assert runs.groupby("reg").penalty.unique().apply(set).to_dict() == {
        "L1": set(params().l1_penalties), "L2": set(params().l2_penalties),
    }
    assert np.isfinite(runs[["interference", "recovery", "auc", "val_mse", "l0"]].to_numpy()).all()


def test_levels_of_noise_share_everything_else_of_a_seed():
    """Common random numbers: without noise in training (one step of size ~0) all noises give one network."""
    runs = study.factorial(params(steps=1, lr=1e-12))["runs"]
    spread = runs.groupby(["init", "act", "seed"]).interference.agg(np.ptp)
    assert (spread < 1e-3 * runs.interference.mean()).all()


def test_equal_penalty_is_not_equal_fit():
    """The study's finding at a small size: L2 of 1e-4 fits better than L1 of 1e-4; at equal error the gain is gone."""
    small = params("quick", seeds=4, coder_seeds=2, width_seeds=2)
    runs = study.factorial(small)["runs"].query("noise == 'bipolar'")
    level = runs[runs.penalty == study.LEVEL]
    fit = level.groupby("reg").val_mse.mean()
    assert fit["L2"] < 0.9 * fit["L1"]
    pairs = runs.assign(arm=runs.reg, seed=runs.groupby(["init", "act", "seed"]).ngroup())
    at = pairs[(pairs.arm == "L1") & (pairs.penalty == study.LEVEL)].set_index("seed").val_mse.to_dict()
    equal = matched_pair(pairs, "L2", "L1", "val_mse", "interference", at).dropna()
    same = level.groupby("reg").interference.mean()
    assert same["L2"] / same["L1"] < 0.97
    assert equal["L2"].mean() / equal["L1"].mean() > same["L2"] / same["L1"] + 0.04


def test_nothing_reads_as_random_directions_do():
    """The oracle: 16 random directions in R^12 have Interference 5.05, 95 % [4.01, 6.41], and MACS .2205 +- .0145."""
    found = study.nothing(params("quick", seeds=4, coder_seeds=2, width_seeds=2))
    assert found["interference"].mean() == pytest.approx(5.05, abs=0.1)
    assert np.quantile(found["interference"], [0.025, 0.975]) == pytest.approx([4.01, 6.41], abs=0.15)
    assert found["macs"].mean() == pytest.approx(0.2205, abs=0.002) and found["macs"].std() > 0.01
    assert found["shuffled"].interference.mean() == pytest.approx(5.05, abs=0.8)
    assert found["recovery"].std() > 0.01


def test_turning_units_tells_the_laws_apart_only_before_a_relu():
    """The oracle: bipolar .60 > uniform .33 > gaussian .17 > laplace .14 after 8,000 steps; here a shorter course."""
    found = study.kurtosis(params("quick", seeds=4, coder_seeds=2, width_seeds=2, kurtosis_runs=8, kurtosis_steps=5000))
    last = dict(zip(found["law"], found["concentration"][:, -1].mean(1), strict=True))
    assert last["bipolar"] > last["uniform"] > last["gaussian"] > last["laplace"]
    assert last["gaussian"] == pytest.approx(3 / 18, abs=0.01)
    tied, readout = found["tied"].mean(1), found["readout"].mean(1)
    assert tied[0] > 0.05 and abs(tied[2]) < 0.03 and tied[3] < -0.02
    assert np.abs(readout[:4]).max() < 0.03


def test_collisions_follow_theory_and_have_opposite_signs():
    found = study.collision_counts(params("quick", collision_features=(16, 32)))
    mean = found["runs"].groupby("n")[["polysemantic", "expected", "expected_units"]].mean()
    assert mean.expected.tolist() == [0.5, 2.0] and (mean.expected_units < mean.expected).all()
    small = study.collision_counts(params(collision_features=(4, 5)))["runs"]
    by_hand = 32 * (1 - 2 * (63 / 64) ** 4 + (31 / 32) ** 4)  # of 32 units, those chosen with both signs
    assert small.expected_units.iloc[0] == pytest.approx(by_hand)
    error = found["runs"].groupby("n").polysemantic.sem()
    assert ((mean.polysemantic - mean.expected_units).abs() < 4 * error + 0.1).all()
    assert np.nanmin(found["opposite"]) > 0.9


def test_clipping_changes_only_what_it_binds():
    runs = study.clipping(params(clips=(1e6, 1.0, 1e-3)))["runs"]
    tight, _, loose, without = (rows.interference.to_numpy() for _, rows in runs.groupby("clip"))
    assert np.allclose(loose, without, rtol=1e-5) and not np.allclose(tight, without, rtol=1e-5)


SHAPES = {
    "published_arm": {"runs": (32, 17), "decoders": (8, 2, 12, 16)},
    "strengths": {"runs": (48, None)},
    "widths": {"runs": (8, None), "null": (4, 100)},
    "clipping": {"runs": (48, None)},
    "collision_counts": {"runs": (16, 6), "opposite": (2,)},
    "kurtosis": {"step": (12,), "concentration": (5, 12, 4), "tied": (5, 4), "readout": (5, 4)},
}


@pytest.mark.parametrize("part", SHAPES)
def test_part_returns_the_promised_shapes_and_repeats_exactly(part, tmp_path, monkeypatch):
    found = getattr(study, part)(params())
    monkeypatch.setattr("lib.press.runs.BUILD", tmp_path / "again")
    again = getattr(study, part)(params())
    for name, shape in SHAPES[part].items():
        assert all(want in (None, got) for want, got in zip(shape, found[name].shape, strict=True)), name
        if isinstance(found[name], pd.DataFrame):
            pd.testing.assert_frame_equal(found[name], again[name])
        else:
            assert np.array_equal(found[name], again[name], equal_nan=True)


def test_coders_report_every_arm():
    runs = study.coders(params())["runs"]
    arms = {"JumpReLU": 2, "ReLU": 2, "TopK": 1, "TopK + AuxK": 1, "ReLU + resampling": 1}
    assert runs.groupby("arm").setting.nunique().to_dict() == arms
    assert (runs[runs.arm == "TopK"].l0 <= 3).all() and runs.fvu.between(0, 2).all()


def test_the_sweep_file_is_plain_yaml():
    """No `1e-4` that YAML would read as text."""
    text = yaml.safe_dump(read_yaml(PROFILES / "sweep_lambda.yaml"))
    assert "'1e" not in text and "'3e" not in text


def test_the_published_programme_moves_with_the_root_seed():
    """Root 0 is the source's own seeds 0 and 1, root 2 has 2000 and 2001."""
    found = [study.published_arm(params(seed=root))["runs"] for root in (0, 2)]
    assert [sorted(runs.seed.unique()) for runs in found] == [[0, 1], [2000, 2001]]
    assert not set(found[0].val_mse) & set(found[1].val_mse)
