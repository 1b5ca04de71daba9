"""Agreement of direction sets by hand, and a rotation null that moves."""
from __future__ import annotations

import numpy as np
import pytest

from lib.rng import numpy_generator
from lib.studies.spd_causal_graphs.agreement import agreement, rotation_null


def test_agreement_by_hand():
    """Rows (1,0), (0,1) against (2,0), (1,1), (0,-3): pairs 1 and 1/sqrt 2."""
    first, second = np.eye(2), np.array([[2.0, 0], [1, 1], [0, -3]])
    assert agreement(first, second) == agreement(second, first) == pytest.approx((1 + 1 / np.sqrt(2)) / 2)
    assert agreement(first, -first) == pytest.approx(0)  # the other's antipodes: paired with what is orthogonal
    assert np.isnan(agreement(first, second[:0]))


def test_rotations_move_and_lie_below_a_true_match():
    rng = numpy_generator(0, "rotations")
    first = rng.standard_normal((12, 20))
    null = rotation_null(first, first, rng, 20)
    assert agreement(first, first) == pytest.approx(1)
    assert null.std() > 0.005 and null.max() < 0.7
