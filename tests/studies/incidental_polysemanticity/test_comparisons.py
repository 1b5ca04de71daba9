"""Pairs at equal error by hand, factors, clipping, widths and coders, and the partial rank correlation."""
from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from lib.metrics.nulls import null_distribution
from lib.metrics.statistics import Interval
from lib.rng import numpy_generator
from lib.studies.incidental_polysemanticity import comparisons as compare

A, B = "reg == 'L2'", "reg == 'L1'"
RNG = numpy_generator(0, "equal cost")


def sweeps():
    """Two seeds, two penalties; value = log error + (1 for L2) along errors 1 and e^2 (L1), 1 and e (L2)."""
    rows = [(reg, p, s, np.exp(k * (2 if reg == "L1" else 1)), 10 * s + 4 * k + (reg == "L2"))
            for reg in ("L1", "L2") for k, p in enumerate((0.1, 1.0)) for s in (0, 1)]
    runs = pd.DataFrame(rows, columns=["reg", "penalty", "seed", "val_mse", "interference"])
    return runs.assign(act="relu", anchor=runs.penalty == 1.0)


def test_pairs_are_read_off_where_both_sweeps_reach():
    """L1's run at 1.0 costs e^2, beyond L2's reach, so both are read at e: L1 half way (value 2), L2 at its end (5)."""
    found = compare.pairs_at_equal_error(sweeps(), A, B, ["act"])
    assert found["at"].tolist() == pytest.approx([np.e, np.e])
    assert found.b.tolist() == pytest.approx([2, 12]) and found.a.tolist() == pytest.approx([5, 15])
    assert compare.relative_change(found).to_dict() == pytest.approx({0: 1.5, 1: 0.25})


def test_pairs_without_a_common_error_are_left_out_of_the_change():
    runs = sweeps()
    runs.loc[(runs.reg == "L2") & (runs.seed == 1), "val_mse"] *= 100
    found = compare.pairs_at_equal_error(runs, A, B, ["act"])
    assert found.a.isna().tolist() == [False, True]
    assert compare.at_equal_error(runs, A, B, ["act"]).index.tolist() == [0]
    one_penalty = runs[runs.anchor & (runs.seed == 0)]
    assert not len(compare.at_equal_error(one_penalty, A, B, ["act"]))


def test_a_pair_with_two_anchors_is_refused():
    with pytest.raises(ValueError, match="several anchors"):
        compare.pairs_at_equal_error(sweeps().assign(anchor=True), A, B, ["act"])


def factorial():
    """Two seeds of all cells at two penalties: interference = error x 2 under GELU x (1 + seed / 10 under bipolar)."""
    levels = product(("random", "orthogonal"), ("none", "bipolar", "positive_kurtosis"), ("L1", "L2"),
                     ("relu", "gelu"), (1e-4, 1e-3), (0, 1))
    runs = pd.DataFrame(levels, columns=[*compare.CELLS, "penalty", "seed"])
    error = np.where(runs.penalty > 5e-4, 2.0, 1.0) * np.where(runs.reg == "L1", 1.5, 1.0)
    value = error * np.where(runs.act == "gelu", 2, 1) * np.where(runs.noise == "bipolar", 1 + runs.seed / 10, 1)
    return runs.assign(val_mse=error, interference=value, recovery=0.5, anchor=runs.penalty == 1e-4)


def test_a_factor_that_acts_through_fit_alone_is_gone_at_equal_error():
    """L2 has 2/3 of the error and of the overlap at the same penalty; overlap follows error in the same way for both.

    Between errors 1 and 2 it is read off linearly in log(error): at 1.5 that gives 1 + log(1.5)/log(2).
    """
    found = compare.by_factor(factorial())
    l2 = found.loc["L2, not L1"]
    assert l2.same.tolist() == pytest.approx([-1 / 3] * 2)
    assert l2.equal.tolist() == pytest.approx([(1 + np.log(1.5) / np.log(2)) / 1.5 - 1] * 2)
    assert l2.kept.tolist() == [1, 1] and l2.recovery.tolist() == pytest.approx([0, 0])
    assert found.loc["GELU, not ReLU"].equal.tolist() == pytest.approx([1, 1])
    assert found.loc["bipolar noise, not none"].same.tolist() == pytest.approx([0, 0.1])
    table = compare.factor_table(found, RNG)
    assert table.index.tolist() == list(compare.FACTORS) and table["pairs kept"].tolist() == ["100%"] * 6
    assert table["same penalty"].iloc[0].startswith("-33.3% [")


def test_mixed_models_name_every_term_and_leave_error_out_of_the_first():
    runs = factorial()
    blur = np.exp(0.3 * RNG.normal(size=len(runs)))  # of error, which overlap follows
    runs["val_mse"], runs["interference"] = runs.val_mse * blur, runs.interference * blur * np.exp(0.01 * blur)
    table = compare.mixed_models(runs)
    assert table.shape == (6, 3) and table.loc["log validation error", "one penalty"] == ""
    assert float(table.loc["GELU", "all penalties, with error"].split()[0]) == pytest.approx(np.log(2), abs=0.02)
    assert float(table.loc["log validation error"].iloc[2].split()[0]) == pytest.approx(1, abs=0.05)


def test_a_change_is_told_with_its_interval_and_as_a_dash_without_one():
    assert compare.told([1.0, 1.0]) == "+100.0% [+100.0%, +100.0%]"
    assert [compare.told(values) for values in ([], [1.0], [1.0, np.nan, 1.0])] == ["–"] * 3
    assert compare.told(Interval(0.012, -0.003, 0.027)) == "+1.2% [-0.3%, +2.7%]"


def test_a_change_is_less_more_none_that_matters_or_open():
    """Below 0 it is less, whatever the margin; an interval that holds 0 is none only inside its margin."""
    middles = {"A, not a": -0.3, "B, not b": 0.08, "C, not c": 0.02, "D, not d": -0.04, "E, not e": 0}
    changes = {name: middle + np.array([-0.003, 0, 0.003]) for name, middle in middles.items()}  # interval ±.0075
    changes["D, not d"] = [-0.1, 0.02]
    assert compare.stands(changes, dict.fromkeys(middles, 0.05)) == (
        "there is less overlap with A (against a); more with B (against b) and C (against c); "
        "no change that matters with E (against e); it is open with D (against d)")
    assert compare.stands({"A, not a": []}, {"A, not a": 0.05}) == "it is open with A (against a)"


def test_a_rise_of_recovery_is_told_where_its_interval_is_above_zero():
    factors = pd.DataFrame({"recovery": [0.02, 0.02, -0.1, 0.2]})
    factors.index = pd.MultiIndex.from_product([["A, not a", "B, not b"], [0, 1]], names=["factor", "seed"])
    assert compare.raises(factors) == "it rises by +2.0% [+2.0%, +2.0%] with A against a"
    assert compare.raises(-factors.iloc[:2]) == "it rises with no factor"


def test_sparsity_goes_with_what_falls_as_l0_does_and_not_by_chance():
    runs = pd.DataFrame({"seed": np.repeat([0, 1], 40), "l0": RNG.uniform(2, 8, 80), "val_mse": RNG.uniform(1, 2, 80)})
    runs["recovery"] = 1 / runs.l0
    assert compare.sparsity_against(runs, "recovery").tolist() == pytest.approx([1, 1], abs=1e-6)
    assert compare.sparsity_against(runs, "recovery", RNG).abs().max() < 0.15


def clipped(spread):
    """Errors of two seeds 1 -+ spread around the median of each of two cells, by norm."""
    rows = [(norm, seed, act, 1 + size * (2 * seed - 1)) for norm, size in spread.items() for seed in (0, 1)
            for act in ("relu", "gelu")]
    runs = pd.DataFrame(rows, columns=["clip", "seed", "act", "sae_mse"])
    return runs.assign(init="random", noise="positive_kurtosis", reg="L1")


def test_narrowing_is_relative_to_the_spread_without_clipping():
    """Distances .4 without, .3 at .1: a quarter less for either seed; the norm that changes nothing binds nowhere."""
    runs = clipped({np.inf: 0.4, 1.0: 0.4, 0.1: 0.3})
    found = compare.narrowing(runs)
    assert found[1.0].tolist() == [0, 0] and found[0.1].tolist() == pytest.approx([-0.25] * 2)
    assert compare.bound(runs, 1.0) == 0 and compare.bound(runs, 0.1) == 1


def test_falls_per_unit_by_hand():
    """Log Interference 6, 3, 2, 1 at 7, 8, 9, 12 units: 1 at 9; elsewhere 3 over one unit, 1 over three: 4/4 a unit."""
    runs = pd.DataFrame({"width": [7, 8, 9, 12], "seed": 0, "interference": np.exp([6.0, 3.0, 2.0, 1.0])})
    null = np.exp([[4.0], [3.0], [2.5], [2.0]])
    assert compare.falls(runs, null).iloc[0].to_dict() == pytest.approx({"step": 1, "elsewhere": 1, "random": 0.5})
    for missing in ((8, 9), (9, 12), (8, 12)):
        assert not len(compare.falls(runs[runs.width.isin(missing)], null[:2]))


def test_gain_is_read_at_one_l0_and_seeds_without_one_are_left_out():
    """Both reach l0 3 in seed 0, with errors .1 and .4: JumpReLU leaves 3/4 less. Seed 1 has no common l0."""
    rows = [("JumpReLU", 0, 2, 0.1), ("JumpReLU", 0, 4, 0.1), ("leaky", 0, 3, 0.4), ("leaky", 0, 5, 0.2),
            ("JumpReLU", 1, 2, 0.1), ("leaky", 1, 5, 0.2)]
    runs = pd.DataFrame(rows, columns=["arm", "seed", "l0", "fvu"])
    assert compare.fidelity_gain(runs, "JumpReLU", "leaky").to_dict() == pytest.approx({0: 0.75})


def test_partial_rank_correlation_is_the_textbook_formula():
    """(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)) of the ranks."""
    z = RNG.normal(size=200)
    table = np.stack([z + RNG.normal(size=200), np.exp(z) + RNG.normal(size=200), z], -1)
    r = pd.DataFrame(table).rank().corr().to_numpy()
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert compare.partial_rank_correlation(table.reshape(20, 10, 3)) == pytest.approx(expected)
    assert abs(r[0, 1]) > 0.3 > 0.2 > abs(expected)


def test_null_of_the_partial_rank_correlation_moves_around_zero():
    def draw(rng):
        return rng.normal(size=(50, 3))

    null = null_distribution(compare.partial_rank_correlation, draw, 200, RNG)
    assert abs(null.mean()) < 0.05 and 0.1 < null.std() < 0.2
