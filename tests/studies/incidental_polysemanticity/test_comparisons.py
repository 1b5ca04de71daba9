"""Pairs at equal cost by hand, and the partial rank correlation against its formula and its null."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.metrics.nulls import null_distribution
from lib.rng import numpy_generator
from lib.studies.incidental_polysemanticity.equal_fit import (
    pairs_at_equal_cost,
    partial_rank_correlation,
    relative_change,
)

A, B = "reg == 'L2'", "reg == 'L1'"
RNG = numpy_generator(0, "equal cost")


def sweeps(**spoilt):
    """Two seeds, two penalties; value = cost + (1 for L2) along costs 1 and e^2 (L1), 1 and e (L2)."""
    rows = [(reg, p, s, np.exp(k * (2 if reg == "L1" else 1)), 10 * s + 4 * k + (reg == "L2"))
            for reg in ("L1", "L2") for k, p in enumerate((0.1, 1.0)) for s in (0, 1)]
    return pd.DataFrame(rows, columns=["reg", "penalty", "seed", "cost", "value"]).assign(act="relu", **spoilt)


def test_pairs_are_read_off_where_both_sweeps_reach():
    """L1's run at 1.0 costs e^2, beyond L2's reach, so both are read at e: L1 half way (value 2), L2 at its end (5)."""
    found = pairs_at_equal_cost(sweeps(), A, B, ["act"], "cost", "value", "penalty == 1.0")
    assert found["at"].tolist() == pytest.approx([np.e, np.e])
    assert found[B].tolist() == pytest.approx([2, 12]) and found[A].tolist() == pytest.approx([5, 15])
    assert relative_change(found, A, B).to_dict() == pytest.approx({0: 1.5, 1: 0.25})


def test_pairs_without_a_common_cost_are_left_out_of_the_change():
    runs = sweeps()
    runs.loc[(runs.reg == "L2") & (runs.seed == 1), "cost"] *= 100
    found = pairs_at_equal_cost(runs, A, B, ["act"], "cost", "value", "penalty == 1.0")
    assert found[A].isna().tolist() == [False, True]
    assert relative_change(found, A, B).index.tolist() == [0]


def test_a_pair_with_two_anchors_is_refused():
    with pytest.raises(ValueError, match="several runs"):
        pairs_at_equal_cost(sweeps(), A, B, ["act"], "cost", "value", "penalty > 0")


def test_partial_rank_correlation_is_the_textbook_formula():
    """(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)) of the ranks."""
    z = RNG.normal(size=200)
    table = np.stack([z + RNG.normal(size=200), np.exp(z) + RNG.normal(size=200), z], -1)
    r = pd.DataFrame(table).rank().corr().to_numpy()
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert partial_rank_correlation(table.reshape(20, 10, 3)) == pytest.approx(expected)
    assert abs(r[0, 1]) > 0.3 > 0.2 > abs(expected)


def test_null_of_the_partial_rank_correlation_moves_around_zero():
    def draw(rng):
        return rng.normal(size=(50, 3))

    null = null_distribution(partial_rank_correlation, draw, 200, RNG)
    assert abs(null.mean()) < 0.05 and 0.1 < null.std() < 0.2
