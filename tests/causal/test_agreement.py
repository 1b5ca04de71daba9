"""Agreement of direction sets by hand, and a rotation null that moves."""
from __future__ import annotations

import numpy as np
import pytest

from lib.causal.agreement import agreement, rotation_null
from lib.rng import numpy_generator


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
