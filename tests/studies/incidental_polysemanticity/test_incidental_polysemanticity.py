"""The study's oracles, that every part returns what its docstring promises, and that the sweep's points are sound."""
from __future__ import annotations

import re
import typing
from dataclasses import astuple
from functools import cache
from itertools import product

import jupytext
import numpy as np
import pandas as pd
import pytest
import torch
from keys_in_a_copy import copied, edit, keys

from lib import ensembles
from lib.files import ROOT
from lib.metrics.frontier import matched_pair
from lib.params import ParameterError, load, read_yaml
from lib.press.keys import PRESS, source_closure
from lib.press.runs import planned, reuse
from lib.press.verdicts import NOT_RUN, UNTESTED
from lib.studies.incidental_polysemanticity import collisions, leaky_sae, train_coders
from lib.studies.incidental_polysemanticity import protocol as study
from lib.studies.incidental_polysemanticity.combinations import above_chance, published_change
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
        ("combinations", (9,), "less than or equal to 8"),
        ("combinations", (), "at least 1 item"),
        ("published_seeds", 1, "greater than or equal to 2"),
        ("steps", 0, "greater than or equal to 1"),
    ],
)
def test_what_no_run_could_use_is_refused_at_the_door(name, value, message):
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
    assert set(study.Params.model_fields) - used == {"profile"}


ALL = {stage.__name__ for stage in study.STAGES}
JUDGED = {"factorial", "ends", "nothing", "strengths", "widths", "clipping"}


@pytest.mark.parametrize(
    ("name", "value", "stages"),
    [
        ("profile", "quick", set()),
        ("pair_seeds", 5, {"ends"}),
        ("l1_penalties", (1e-4,), {"factorial", "ends"}),
        ("combinations", (8,), {"published_arm"}),
        ("kurtosis_runs", 5, {"kurtosis"}),
        ("published_steps", 50, {"published_arm"}),
        ("clips", (1.0, 0.2), {"clipping"}),
        ("null_draws", 200, {"nothing", "widths"}),
        ("seeds", 5, JUDGED - {"widths"}),
        ("sae_penalty", 0.4, JUDGED - {"strengths"}),
        ("sae_lr", 0.004, JUDGED | {"coders"}),
        ("lr", 0.004, JUDGED | {"coders"}),
        ("seed", 1, ALL),
    ],
)
def test_a_parameter_reruns_the_stages_that_use_it_and_no_others(name, value, stages):
    before, after = params(), params().replace(**{name: value})
    assert {s.__name__ for s in study.STAGES if planned(s, before).path != planned(s, after).path} == stages


@pytest.mark.parametrize(
    ("stage", "apart"),
    [
        ("kurtosis", {"decoder_overlap", "network", "leaky_sae", "report"}),
        ("factorial", {"collisions", "one_layer", "published", "coders"}),
        ("published_arm", {"collisions", "one_layer", "factorial", "coders"}),
        ("coders", {"collisions", "one_layer", "factorial", "published"}),
    ],
)
def test_a_stage_depends_on_what_makes_it_and_on_no_figure(stage, apart):
    files = source_closure(f"import {getattr(study, stage).__module__}", without=PRESS)
    room = {path.stem for path in files if path.parent.name == "incidental_polysemanticity"}
    assert not room & (apart | {"figures", "comparisons", "protocol"})
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
    for module, trainer in ((ensembles.Adam, "step"), (train_coders, "fit"), (collisions, "gradient")):
        monkeypatch.setattr(module, trainer, lambda *_, **__: pytest.fail("trained again"))
    assert_equal(first, reuse(stage, params()))


CALLS = {
    "network.networks": "[], range(2), 3, 0.1, 'cpu'", "leaky_sae.autoencoders": "params, [], range(2), 0.3",
    "published.programme": "(1, 8), range(2), 3, 3, 'cpu'", "train_coders.states": "params",
    "collisions.tied": "4, 6, 2, 30, 0, 'cpu', 'none'",
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


COUNTED = {"kurtosis"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "changed"),
    [
        (["metrics/recovery", "metrics/statistics", f"{ROOM}/decoder_overlap", f"{ROOM}/report"], ALL - COUNTED),
        (["metrics/superposition", f"{ROOM}/figures", f"{ROOM}/comparisons"], set()),
        ([f"{ROOM}/one_layer"], COUNTED),
        ([f"{ROOM}/factorial", f"{ROOM}/coders", f"{ROOM}/combinations"], ALL - COUNTED),
        ([f"{ROOM}/leaky_sae"], set(CALLS) - {"network.networks", "collisions.tied"} | ALL - COUNTED),
        (["sparse_coders/losses"], {"train_coders.states", "coders"}),
        ([f"{ROOM}/collisions"], {"collisions.tied"} | COUNTED),
        (["ensembles"], set(CALLS) - {"collisions.tied"} | ALL - COUNTED),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_edit_repeats_what_trains_with_it_and_nothing_else(files, changed, unedited, copy):
    for file in files:
        edit(copy, f"lib/{file}.py")
    edited = keys_in(copy)
    assert {stage for stage in edited if edited[stage] != unedited[stage]} == changed


def test_published_rows_are_those_of_their_decoders():
    """Row (untied, combination, seed) reads the Interference of that decoder, and no calibration has a null."""
    found = study.published_arm(params())
    rows, D = found["runs"].query("storage == 'untied'"), torch.from_numpy(found["decoders"])
    untied = rows.pivot(index="combination", columns="seed", values="interference")
    assert untied.to_numpy() == pytest.approx(weighted_overlap(D).numpy())
    assert untied.index.tolist() == list(range(1, 9)) and (found["runs"].null_sd < 1e-6).all()
    last = rows[rows.combination == 8][["init", "noise", "reg", "act"]]
    assert set(last.itertuples(index=False, name=None)) == {("orthogonal", "positive_kurtosis", "L2", "gelu")}


def test_one_combination_is_the_same_alone_and_among_eight():
    """`-p combinations=[8]`: its decoders and its rows are those of the whole programme."""
    alone, among = (study.published_arm(params(combinations=chosen)) for chosen in ((8,), tuple(range(1, 9))))
    assert alone["decoders"].shape == (1, 2, 12, 16)
    np.testing.assert_allclose(alone["decoders"][0], among["decoders"][7], rtol=1e-4, atol=1e-5)
    change = published_change(among["runs"].query("storage == 'untied'"), [8], [1])
    rows = among["runs"].query("storage == 'untied' and seed == 0").set_index("combination").interference
    assert change[0] == pytest.approx(rows[8] / rows[1] - 1)
    assert not len(published_change(alone["runs"].query("storage == 'untied'"), [8], [1]))


def test_macs_above_chance_by_hand():
    """A null of mean .2 and deviation .1: z = 0 and log 3 give 1/2 and 3/4, mean 5/8 of the seed."""
    runs = pd.DataFrame({"seed": [0, 0, 1], "macs": [0.2, 0.2 + 0.1 * np.log(3), 0.2]})
    assert above_chance(runs, np.array([0.1, 0.3])).to_dict() == pytest.approx({0: 0.625, 1: 0.5})


@pytest.fixture
def judged(build, monkeypatch):
    """(values beside those of smoke) -> the chapter's records, as a profile that settles claims has them."""
    glued = set()
    for module in ("myst_nb", "lib.press.prose"):
        monkeypatch.setattr(f"{module}.glue", lambda name, *_, **__: glued.add(name))
    monkeypatch.setenv("BOOK_RESULTS", str(build / "results.json"))
    source = (ROOT / "book" / "studies" / "incidental_polysemanticity.md").read_text(encoding="utf-8")

    def run(**changes):
        values = read_yaml(PROFILES / "smoke.yaml") | {"profile": "quick"} | changes
        namespace = {}
        for cell in (cell for cell in jupytext.reads(source, fmt="md:myst").cells if cell.cell_type == "code"):
            exec(cell.source, namespace)
            namespace |= values if "parameters" in cell.metadata.get("tags", []) else {}
        asked = set(re.findall(r"\{(?:ci|glue:text)\}`(\w+)", source))
        assert asked <= glued, asked - glued
        return namespace["ledger"].records

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "untested"),
    [
        ({"combinations": [8], "seeds": 3}, {"IP-2", "IP-4"}),
        ({"l1_penalties": [1e-4], "l2_penalties": [1e-4], "profile": "long"}, {"IP-1", "IP-3", "IP-5"}),
        ({"clips": [0.1], "widths": [12], "sae_penalties": [0.3], "combinations": [1, 8]}, {"IP-2", "IP-4", "IP-7"}),
    ],
)
def test_what_a_run_lacks_leaves_the_claims_that_need_it_untested(judged, changes, untested):
    records = judged(**changes)
    assert len(records) == 8 and {id for id, record in records.items() if record.word == UNTESTED} == untested
    assert all(records[id].reason for id in untested)
    if changes.get("combinations") == [8]:
        assert {records[id].published.word for id in ("IP-1", "IP-3", "IP-5")} == {NOT_RUN}


def test_long_trains_everything_of_ours_twice_as_long_and_the_published_programme_as_published():
    """So that words at quick and at twice its training stand side by side."""
    quick, long = read_yaml(PROFILES / "quick.yaml"), read_yaml(PROFILES / "long.yaml")
    published = {name for name in quick if name.startswith("published")}
    ours = {name for name in quick if name.endswith("steps")} - published
    assert len(ours) == 4 and all(long[name] >= 2 * quick[name] for name in ours)
    assert all(long[name] == quick[name] for name in published | {"lr", "sae_lr", "device"})
    smoke = read_yaml(PROFILES / "smoke.yaml")
    assert list(smoke) == list(long) and params("long").pair_seeds >= params("quick").pair_seeds


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


@pytest.mark.parametrize("more", [-1, 0, 2])
def test_ends_take_the_seeds_of_the_factorial_and_train_the_others(more):
    """Combinations 1 and 8 at both penalties: fewer seeds than the factorial has, as many, or some of their own."""
    asked = params(pair_seeds=params().seeds + more)
    own, there = study.ends(asked)["runs"], study.factorial(asked)["runs"]
    assert own.groupby(["reg", "penalty"]).seed.apply(sorted).tolist() == [list(range(asked.pair_seeds))] * 4
    assert set(own.act) == {"relu", "gelu"} and set(own.columns) == set(there.columns)
    both = own.merge(there, on=[*"init noise reg act penalty seed".split()], suffixes=("", "_there"))
    assert len(both) == 4 * min(asked.seeds, asked.pair_seeds)
    assert both.interference.tolist() == both.interference_there.tolist()


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


def test_clipping_changes_only_what_it_binds():
    runs = study.clipping(params(clips=(1e6, 1.0, 1e-3)))["runs"]
    tight, _, loose, without = (rows.interference.to_numpy() for _, rows in runs.groupby("clip"))
    assert np.allclose(loose, without, rtol=1e-5) and not np.allclose(tight, without, rtol=1e-5)


SHAPES = {
    "published_arm": {"runs": (32, 15), "decoders": (8, 2, 12, 16)},
    "strengths": {"runs": (48, None)},
    "widths": {"runs": (8, None), "null": (4, 100)},
    "clipping": {"runs": (48, None)},
    "kurtosis": {"step": (12,), "concentration": (5, 12, 4)},
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
    arms = {"JumpReLU": 2, "ReLU": 2, "ProLU": 2, "TopK": 1, "TopK + AuxK": 1, "ReLU + resampling": 1}
    assert runs.groupby("arm").setting.nunique().to_dict() == arms
    assert (runs[runs.arm == "TopK"].l0 <= 3).all() and runs.fvu.between(0, 2).all()


def test_the_published_programme_moves_with_the_root_seed():
    """Root 0 is the source's own seeds 0 and 1, root 2 has 2000 and 2001."""
    found = [study.published_arm(params(seed=root))["runs"] for root in (0, 2)]
    assert [sorted(runs.seed.unique()) for runs in found] == [[0, 1], [2000, 2001]]
    assert not set(found[0].val_mse) & set(found[1].val_mse)
