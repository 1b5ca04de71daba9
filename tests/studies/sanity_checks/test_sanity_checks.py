"""The study's law by its moments, its measures by hand, and that every part returns what its docstring promises."""
from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.files import ROOT
from lib.metrics import recovery
from lib.params import load
from lib.press.runs import planned
from lib.rng import generator, numpy_generator
from lib.sparse_coders import SparseCoder
from lib.studies.sanity_checks import figures, inherent, measure, train, worlds
from lib.studies.sanity_checks import protocol as study
from lib.studies.sanity_checks.train import Arm
from lib.studies.sanity_checks.worlds import Law

PROFILES = ROOT / "params" / "sanity_checks"
ROOM = Path(study.__file__).parent
pytestmark = pytest.mark.usefixtures("build")


@cache
def params(profile: str = "smoke", **changes) -> study.Params:
    return load(study.Params, PROFILES / f"{profile}.yaml").replace(**changes)


def test_places_are_independent_bernoulli_draws():
    p = torch.tensor([0.5, 0.02, 0.02, 0.0], dtype=torch.float64)
    row, feature = worlds.active_places(p, 40_000, generator(0, "places"))
    b = torch.zeros(40_000, 4)
    b[row, feature] = 1
    assert len(row) == b.sum() and (row.diff() >= 0).all()  # none twice, in order
    assert b.mean(0).tolist() == pytest.approx(p.tolist(), abs=4 * 0.5 / 200) and not b[:, 3].any()
    assert b[:, 1].mean() == pytest.approx(0.02, abs=4 * 0.14 / 200)
    assert abs(np.corrcoef(b[:, 0], b[:, 1])[0, 1]) < 4 / 200


def test_samples_are_sums_of_unit_directions_with_the_printed_values():
    own = params(features=64, active=4, width=16)
    D = worlds.directions(own, 0)
    x, row, feature, value = worlds.drawn(D, worlds.frequencies(own, "constant", 0), 5000, generator(0, "drawn"))
    b = torch.zeros(5000, 64)
    b[row, feature] = value
    assert torch.allclose(b @ D, x, atol=1e-5) and torch.allclose(D.norm(dim=1), torch.ones(64))
    assert len(row) / 5000 == pytest.approx(4, abs=4 * 2 / 70)
    assert value.log().mean() == pytest.approx(0, abs=4 * 0.25 / 140) and value.log().std() == pytest.approx(0.25, 0.03)


def test_variable_frequencies_are_log_uniform_between_the_printed_ends():
    own = params(features=3200, active=20, width=100)
    p = worlds.frequencies(own, "variable", 0)
    exponents = p.log10()
    factor = 20 / (3200 * (10**-1.2 - 10**-5.5) / (4.3 * np.log(10)))
    assert factor == pytest.approx(0.98, abs=0.01)
    shifted = (exponents - np.log10(factor)).numpy()
    assert shifted.min() == pytest.approx(-5.5, abs=0.02) and shifted.max() == pytest.approx(-1.2, abs=0.02)
    assert np.histogram(shifted, 4, (-5.5, -1.2))[0] == pytest.approx(800, abs=4 * 25)
    assert p.sum() == pytest.approx(20, abs=2) and (worlds.frequencies(own, "constant", 0) == 20 / 3200).all()


def test_what_is_done_to_lengths():
    own, seed = params(), 0
    raw, half, unit, drawn = (worlds.samples(own, law, seed)[0] for law in (
        Law(), Law(power=0.5), Law(power=1.0), Law(spread=0.3)))
    length = raw.norm(dim=1)
    alive = length > 0
    assert not alive.all()  # a sample without features stays 0
    assert torch.allclose(half.norm(dim=1)[alive], length[alive].sqrt(), rtol=1e-4) and not half[~alive].any()
    assert torch.allclose(unit.norm(dim=1)[alive], torch.ones(int(alive.sum())))
    new = drawn.norm(dim=1)[alive].log()
    assert new.mean() == pytest.approx(0, abs=0.04) and new.std() == pytest.approx(0.3, rel=0.1)
    assert abs(np.corrcoef(new, length[alive])[0, 1]) < 0.15
    for changed in (half, unit, drawn):
        assert torch.allclose((changed * raw).sum(1), changed.norm(dim=1) * length, atol=1e-4)  # directions stay


def test_samples_without_features_have_the_lengths_of_real_ones_and_no_direction():
    own = params(samples=4000)
    real, bare = worlds.raw(own, "constant", 0)[0], worlds.raw(own, "none", 0)[0]
    assert np.quantile(bare.norm(dim=1), [0.2, 0.5, 0.8]) == pytest.approx(
        np.quantile(real.norm(dim=1), [0.2, 0.5, 0.8]), rel=0.1)
    D = worlds.directions(own, 0)
    found, chance = ((x @ D.T).amax(1).sum() / x.norm(dim=1).sum() for x in (real, bare))
    assert found > chance + 0.1


def test_a_coder_that_is_the_truth_recovers_everything_and_dead_rows_count_for_nothing(monkeypatch):
    """Rows at the truth, the second half of them silent: half is recovered, all of it over all rows."""
    own, n = params(), params().features
    coder = SparseCoder(own.width, n, "relu")
    with torch.no_grad():
        coder.W_dec.copy_(worlds.directions(own, 0))
        coder.W_enc.copy_(coder.W_dec)
        coder.b_enc[n // 2 :] = -100
    monkeypatch.setattr(measure, "trained", lambda *_: coder)
    found = measure.judged(own, study.plain(Arm("relu")), 0)
    silent = found["cosine"][n // 2 :] < 1 - 1e-6
    assert found["recovery_all"] == 1 and found["alive"] == 0.5 and silent.all() and (found["cosine"][:3] > 0.999).all()
    assert found["recovery"] == (n // 2 + (found["cosine"][n // 2 :] >= 0.8).sum()) / n < 0.8
    x = worlds.samples(own, Law(), 0)[1]
    rest = (x - coder(x).detach()).square().sum() / (x - x.mean(0)).square().sum()
    assert found["ev"] == pytest.approx(1 - float(rest), abs=1e-5)


def test_chance_moves_and_matching_pursuit_along_random_rows_explains_more_than_a_start():
    found = measure.chance(params(), 0, 5)
    assert found["cosine"].std() > 0 and found["share"].shape == (5, 2)
    assert (found["share"][:, 0] <= found["share"][:, 1]).all()
    assert 0.3 < found["ev"]["matching_pursuit"] < 1 and found["ev"]["batch_topk"] < found["ev"]["matching_pursuit"]
    assert 0.1 < found["length_cv"] < 1


def test_counts_of_the_truth_are_k_on_average_and_go_with_the_length():
    table = measure.counts(params(), {"TopK": study.plain(study.CONTRAST["topk", study.RAW])}, 0)
    truth, top = (table[table.coder == name] for name in ("true features", "TopK"))
    assert truth.active.mean() == pytest.approx(params().active, abs=0.05) and (top.active <= params().active).all()
    assert truth.length.mean() == pytest.approx(1) and truth[["length", "active"]].corr().iloc[0, 1] > 0.5


def test_the_edge_of_l1_is_the_known_one():
    """Non-negative codes at n/d = 2: K/d = .5578 (Donoho & Tanner's weak threshold); fewer features, more of them."""
    assert inherent.l1_edge(100, 200) / 100 == pytest.approx(0.558, abs=0.002)
    assert inherent.l1_edge(100, 3200) < inherent.l1_edge(100, 800) < inherent.l1_edge(100, 200)


def test_every_method_reads_codes_along_orthogonal_directions():
    D = torch.eye(12)
    b = torch.tensor([[1.0, 0, 2, 0] * 3, [0, 0, 0, 0] * 3, [0, 3, 0, 0] * 3])
    for method in study.METHODS.values():
        assert (method(D, b @ D, (b > 0).sum(1).numpy()) == (b > 0).numpy()).all(), method.__name__


def test_support_scores_fall_with_k_and_least_l1_is_best_where_codes_are_sparse():
    own = params(width=24, features=96)
    f1 = inherent.support_scores(own, 0, [1, 8], 40)["f1"]
    assert f1.shape == (3, 2) and (f1[:, 0] > f1[:, 1]).all() and f1[0, 0] > 0.95 and (0 < f1).all() and (f1 <= 1).all()


def test_the_main_contrast_has_every_rule_and_data_and_lengths():
    own = params(steps=3)
    table = study.contrast(own)
    assert len(table) == own.seeds * 3 + own.other_seeds * 4
    assert set(table.data) == {study.RAW, study.UNIT, study.LENGTHS}
    assert {"recovery", "recovery_all", "ev", "l0", "alive", "cosine", "seed"} <= set(table)
    assert table.cosine.map(np.shape).unique().tolist() == [(own.features,)]
    wide = study.by_expansion(own)
    assert set(wide.expansion) == set(own.expansions) and wide.cosine.iloc[0].shape == (2 * own.width,)
    assert set(study.by_dose(own).dose) == set(own.doses) and len(study.featureless(own)) == own.few_seeds


def test_the_full_size_is_the_sources():
    big = study.at_full_size(params("long"))
    assert (big.width, big.features, big.active) == (100, 3200, 20)
    assert (big.steps, big.samples) == (params("long").full_steps, params("long").full_samples)


def test_an_arm_is_what_it_says():
    arm = Arm("jumprelu", True, Law(power=0.5))
    assert train.of_plain(study.plain(arm)) == arm
    coder = train.untrained(params(), arm, 0)
    assert coder.per_sample and coder.rule.penalty == "target_l0" and coder.rule.k == params().active
    groups = train.untrained(params(features=48), Arm("matryoshka"), 0).rule.groups
    assert groups == (24, 38, 48)


@pytest.mark.parametrize(("name", "value", "same"), [
    ("profile", "quick", True), ("seeds", 3, True), ("doses", (0.1,), True), ("steps", 21, False), ("seed", 1, False)])
def test_a_trained_coder_depends_on_its_own_parameters_alone(name, value, same):
    arm = study.plain(study.CONTRAST["topk", study.RAW])
    paths = {planned(train.coder, own, arm, 0).path for own in (params(), params().replace(**{name: value}))}
    assert (len(paths) == 1) == same


def test_a_killed_training_continues(tmp_path):
    own, arm = params(), study.plain(Arm("batch_topk", True))
    whole = train.coder(own, arm, 0)["state"]
    train.coder(own, arm, 0, checkpoints=tmp_path)
    again = train.coder(own, arm, 0, checkpoints=tmp_path)["state"]
    assert (tmp_path / "coder.pt").is_file() and all(np.array_equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("[!s]*.yaml")) + [PROFILES / "smoke.yaml"], ids=lambda p: p.stem)
def test_profile_is_accepted(path: Path):
    assert load(study.Params, path).profile == path.stem


def test_long_trains_twice_and_at_the_sources_size():
    quick, long = params("quick"), params("long")
    assert long.steps >= 2 * quick.steps and long.full_seeds >= 2 and quick.full_seeds == 0
    assert quick.steps >= 1200 and quick.seeds >= 5



def test_every_parameter_is_used():
    trees = [ast.parse(path.read_text()) for path in ROOM.glob("*.py")]
    used = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    in_chapter = (ROOT / "book" / "studies" / "sanity_checks.md").read_text()
    assert [name for name in study.Params.model_fields if name not in used and f"params.{name}" not in in_chapter] == [
        "profile"]


def test_figures_show_every_seed():
    table = study.contrast(params(steps=3))
    cells = list(study.CONTRAST)
    fig = figures.recovered(table, cells, {cells[0]: 0.9})
    [ax] = fig.axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [params().seeds] * 3 + [params().other_seeds] * 2
    assert "printed" in [text.get_text() for text in ax.texts]
    shares = np.full((2, 3, 2), 0.5)
    [ax] = figures.supports(shares, list(study.METHODS), [1, 2], 1.5, 2).axes
    assert {"edge of L1", "K here"} <= {text.get_text() for text in ax.texts}
    page = figures.explorer({0.0: np.array([0.5, 0.9]), 1.0: np.array([0.9, 0.9])}, 0.8)
    titles = [step.args[1]["title.text"] for step in page.layout.sliders[0].steps]
    assert titles == ["a = 0: 50% of the features recovered", "a = 1: 100% of the features recovered"]
    assert [bar.y.sum() for bar in page.data] == pytest.approx([1, 1])


def test_nearest_living_by_hand():
    """cos with (1, 0): 1 (dead), .6, 0; with (0, 1): 0 (dead), .8, 1."""
    decoder, living = np.array([[2.0, 0], [3, 4], [0, 0.1]]), np.array([False, True, True])
    assert measure.nearest_living(np.eye(2), decoder, living) == pytest.approx([0.6, 1])
    assert measure.nearest_living(np.eye(2), torch.tensor(decoder), ~living) == pytest.approx([1, 0])
    assert measure.nearest_living(np.eye(2), decoder, np.zeros(3, bool)).tolist() == [-1, -1]
    assert recovery.recovery_at(measure.nearest_living(np.eye(2), decoder, living), 0.8) == 0.5


def test_chance_of_the_nearest_living_latent_grows_with_those_alive_and_moves():
    def mean_of(n):
        return lambda D, W: float(measure.nearest_living(D, W, np.arange(len(W)) < n).mean())

    few, many = (
        recovery.random_dictionary_null(np.eye(8), 40, numpy_generator(0, "test", "living"), 50, mean_of(n))
        for n in (4, 40))
    assert few.std() > 0 and many.std() > 0 and many.min() > few.max()
