"""Agreement of direction sets by hand, and a rotation null that moves."""
from __future__ import annotations

import numpy as np
import pytest

from lib.rng import numpy_generator
from lib.studies.spd_causal_graphs.agreement import agreement, best_pairs, rotation_null


def test_agreement_by_hand():
    """Rows (1,0), (0,1) against (2,0), (1,1), (0,-3): pairs 1 and 1/sqrt 2; back: 1, 1/sqrt 2 and 0."""
    first, second = np.eye(2), np.array([[2.0, 0], [1, 1], [0, -3]])
    found = agreement(first, second)
    half = 1 / np.sqrt(2)
    assert found.matched == pytest.approx((1 + half) / 2) == found.forward
    assert found.backward == pytest.approx((1 + half + 0) / 3) and found.signed == 1
    assert agreement(second, first).matched == pytest.approx(found.matched)
    assert agreement(first, -first).matched == pytest.approx(0)  # the other's antipodes: paired with what is orthogonal


def test_rotations_move_and_lie_below_a_true_match():
    rng = numpy_generator(0, "rotations")
    first = rng.standard_normal((12, 20))
    null = rotation_null(first, first, rng, 20)
    assert agreement(first, first).matched == pytest.approx(1)
    assert null.std() > 0.005 and null.max() < 0.7


def test_best_pairs_come_in_order_of_the_cosine_of_what_they_write():
    writes, other = np.eye(3), np.array([[0.0, 2, 0], [1, 0, 1]])
    found = best_pairs(np.arange(6.0).reshape(3, 2), writes, np.array([[10.0, 11], [20, 21]]), other, most=2)
    assert found["cosines"].tolist() == [1.0, pytest.approx(1 / np.sqrt(2))]
    assert found["component_reads"].tolist() == [[2, 3], [0, 1]]
    assert found["latent_reads"].tolist() == [[10, 11], [20, 21]]
