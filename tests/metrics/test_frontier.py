"""Reading sweeps off at equal cost, by hand."""
import numpy as np
import pandas as pd
import pytest

from lib.metrics.frontier import at_matched, common_cost, matched_pair, read_off


def table(arm, seed, l0, value):
    return pd.DataFrame({"arm": arm, "seed": seed, "l0": l0, "recovery": value})


RUNS = pd.concat([
    table("a", 0, [1.0, 4.0], [0.2, 0.6]), table("b", 0, [2.0, 8.0], [0.5, 0.9]),
    table("a", 1, [1.0, 4.0], [0.0, 0.4]), table("b", 1, [5.0, 8.0], [0.5, 0.9]),
], ignore_index=True)


def test_read_off_is_linear_in_the_logarithm():
    assert read_off(RUNS.query("arm == 'a' and seed == 0"), "l0", 2.0, "recovery") == pytest.approx(0.4)


def test_read_off_does_not_extrapolate_and_leaves_out_silent_coders():
    sweep = table("a", 0, [0.0, 1.0, 4.0], [0.9, 0.2, 0.6])
    assert np.isnan(read_off(sweep, "l0", 0.5, "recovery")) and np.isnan(read_off(sweep, "l0", 4.1, "recovery"))
    assert read_off(sweep, "l0", 1.0, "recovery") == 0.2
    assert np.isnan(read_off(sweep.assign(l0=0.0), "l0", 1.0, "recovery"))


def test_common_cost_is_the_wanted_one_moved_into_reach_of_all():
    assert common_cost(RUNS, "l0", {0: 3.0})[0] == 3
    assert common_cost(RUNS, "l0", {0: 1.0})[0] == 2 and common_cost(RUNS, "l0", {0: 9.0})[0] == 4
    assert np.isnan(common_cost(RUNS, "l0", {1: 3.0})[1])  # a ends at 4, b begins at 5
    assert np.isnan(common_cost(RUNS, "l0", {7: 3.0})[7])


def test_at_matched_reads_every_arm_and_seed_at_its_seeds_cost():
    found = at_matched(RUNS, "l0", {0: 4.0, 1: 4.0}, ["recovery"]).recovery
    assert found["a", 0] == pytest.approx(0.6) and found["b", 0] == pytest.approx(0.7)
    assert found["a", 1] == pytest.approx(0.4) and np.isnan(found["b", 1])


def test_matched_pair_is_paired_by_seed():
    found = matched_pair(RUNS, "a", "b", "l0", "recovery", {0: 1.0, 1: 1.0})
    assert found.loc[0].to_dict() == pytest.approx({"a": 0.4, "b": 0.5, "at": 2.0})
    assert found.loc[1].isna().all()
    with pytest.raises(ValueError, match="no runs of c"):
        matched_pair(RUNS, "a", "c", "l0", "recovery", {0: 1.0})
