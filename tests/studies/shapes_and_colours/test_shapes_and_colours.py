"""The study's parameters, what a change of one runs again, and that every part returns what its docstring promises."""
from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from lib.data.shapes_colours import atoms
from lib.files import PACKAGE, ROOT
from lib.params import ParameterError, load
from lib.press.keys import PRESS, source_closure
from lib.press.runs import planned
from lib.rng import generator
from lib.studies.shapes_and_colours import common, gallery, measure, train, train_coders, train_spd
from lib.studies.shapes_and_colours import protocol as study

PROFILES = ROOT / "params" / "shapes_and_colours"
pytestmark = pytest.mark.usefixtures("build")


@functools.cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("counts", (3, 3), "at least 3 items"), ("counts", (1, 3, 3), "2 to 8 shapes"),
    ("other_counts", (3, 3, 9), "2 to 8 shapes"),
    ("networks", 1, "greater than or equal"), ("sweep", (0.0,), "greater than 0"),
    ("may_lose", 2.0, "less than or equal to 1"),
])
def test_what_no_run_could_use_is_refused_at_the_door(name, value, message):
    with pytest.raises(ParameterError, match=message):
        params("smoke", **{name: value})


@pytest.mark.parametrize("profile", ["quick", "long", "full"])
def test_every_profile_draws_what_the_claims_are_about(profile):
    values = params(profile)
    assert values.counts == (3, 3, 3) and values.may_lose == 0.02
    assert values.networks >= values.all_networks >= values.first_networks


def test_long_has_what_quick_lacks():
    quick, long = params("quick"), params("long")
    assert long.networks == 8 and len(long.sweep) > len(quick.sweep)
    assert long.held_networks and long.first_networks and long.other_networks


RUNS = {
    "network": lambda p: planned(train.trained, p, "heads", 0),
    "behind": lambda p: planned(train_spd.behind, p, "heads", 0),
    "whole": lambda p: planned(train_spd.whole, p, "heads", 0), "coders": lambda p: planned(train_coders.coded, p, 0),
    "reading": lambda p: planned(measure.readings_behind, p, "heads", 0),
}


@pytest.mark.parametrize(("name", "value", "again"), [
    ("networks", 5, set()), ("null_draws", 7, {"reading"}), ("fc_steps", 30, {"behind", "reading"}),
    ("all_steps", 30, {"whole"}), ("coder_steps", 30, {"coders"}), ("importance", 0.02, {"behind", "whole", "reading"}),
    ("net_steps", 80, set(RUNS)), ("seed", 1, set(RUNS)),
])
def test_a_parameter_runs_again_what_uses_it_and_nothing_else(name, value, again):
    before, after = ({key: run(p).path for key, run in RUNS.items()} for p in (params(), params(**{name: value})))
    assert {key for key in RUNS if before[key] != after[key]} == again


def test_what_trains_depends_on_no_measure_and_on_no_figure():
    for module in (train, train_spd, train_coders):
        files = {str(p.relative_to(PACKAGE)) for p in source_closure(f"import {module.__name__}", without=PRESS)}
        assert not files & {"studies/shapes_and_colours/anova.py", "studies/shapes_and_colours/measure.py",
                            "figures/style.py", "metrics/nulls.py"}


def test_images_are_the_same_for_every_network_and_hold_combinations_out():
    p = params()
    left = common.held_out(p)
    assert left == (20, 22, 24) and [tuple(atoms(label)) for label in left] == [(2, 0, 2), (2, 1, 1), (2, 2, 0)]
    shown, labels = common.images(p, "train", left)
    assert set(labels) == set(range(27)) - set(left) and shown.shape == (1200, 28, 28, 3)
    assert not np.array_equal(common.images(p, "test")[1], common.images(p.replace(seed=1), "test")[1])
    assert common.pixels(shown[:2]).shape == (2, 3, 28, 28) and common.pixels(shown).max() <= 1


def test_answers_are_attributes_the_combination_or_a_map_of_each_networks_own():
    p, labels = params(), np.arange(27)
    assert np.array_equal(common.answers(p, "heads", 0, labels).numpy(), atoms(labels))
    assert common.answers(p, "joint", 0, labels)[:, 0].tolist() == list(range(27))
    one, other = (common.answers(p, "scrambled", seed, labels) for seed in (0, 1))
    assert not torch.equal(one, other)
    assert len({tuple(row) for row in one.tolist()}) == 27  # one to one


def test_readings_have_a_row_for_every_decomposition_and_layer():
    found = study.behind(params())
    assert found[["task", "seed"]].apply(tuple, axis=1).tolist() == [
        (task, seed) for task in common.TASKS for seed in (0, 1)]
    for _, run in found.iterrows():
        rows = run["rows"]
        assert rows[["decomposition", "site"]].apply(tuple, axis=1).tolist() == [
            (i, site) for i in (0, 1) for site in ("fc1", "fc2")]
        assert run.means["fc1"].shape == (2, 27, 32) and run.frequency["fc2"].shape == (2, 32)
        assert rows.select_dtypes("number").notna().all(axis=None) and rows.atomic.between(0, 1).all()
        assert len(run.accuracy) == (1 if run.task == "joint" else 3) and rows.counts.all()  # smoke lets all count


def test_readings_of_all_layers_say_positions_and_images_apart():
    run = measure.readings_whole(params(), "heads", 0)
    rows = run["rows"].set_index("site")
    assert rows.positions.tolist() == [196, 49, 16, 1, 1]
    assert (rows.image_l0 >= rows.l0).all() and rows.l0.fc1 == rows.image_l0.fc1
    assert 0 <= run["together"] <= 1


def test_a_gallery_names_images_and_components_that_are_there():
    found, images = study.gallery(params(), 0)
    for layer in found.values():
        n = len(layer["component"])
        assert layer["by_importance"].shape == layer["by_activation"].shape == (n, gallery.SHOWN)
        assert layer["by_importance"].max() < len(images) and layer["histogram"].sum(1) == pytest.approx(np.ones(n))
    some = found["conv2"]["component"][:2]
    assert study.maps(params(), 0, "conv2", some, np.arange(3)).shape == (2, 3, 7, 7)
    assert gallery.filters(params(), 0, found["conv1"]["component"]).shape[1:] == (5, 5, 3)


def test_latents_go_through_the_same_test():
    rows = measure.readings_coders(params(), 0)["rows"]
    assert rows.site.tolist() == ["fc1", "fc2"] and rows.fvu.between(0, 1.5).all()
    assert {"alive", "atomic", "levels", "cells", "null_atomic"} <= set(rows)


def test_random_directions_of_a_convolution_are_told_by_the_patch_that_agrees_most():
    conv = torch.nn.Conv2d(3, 4, 5, 2, 2)
    rng = generator(0, "projections")
    x, directions = torch.randn(2, 3, 8, 8, generator=rng), torch.randn(75, 6, generator=rng)
    patches = torch.nn.functional.pad(x, (2, 2, 2, 2)).unfold(2, 5, 2).unfold(3, 5, 2)  # [2, 3, 4, 4, 5, 5]
    expected = torch.einsum("nchwij,cijk->nhwk", patches, directions.view(3, 5, 5, 6)).amax((1, 2))
    torch.testing.assert_close(measure.projections(x, directions, conv), expected)
    torch.testing.assert_close(measure.projections(x[:, 0, 0], directions[:8]), x[:, 0, 0] @ directions[:8])


def test_networks_of_other_images_are_read_by_their_own_combinations():
    run = study.other(params(networks=2)).iloc[0]
    assert params().other_counts == (3, 3, 2) and run.means["fc2"].shape[1] == 18
