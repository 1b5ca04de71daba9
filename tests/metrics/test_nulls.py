from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.metrics.nulls import NullCannotMove, against_null, null_distribution
from lib.rng import generator, numpy_generator


def rng(*labels: str) -> np.random.Generator:
    return numpy_generator(0, "test", *labels)


def mean_overlap(decoder: torch.Tensor) -> float:
    """mean |C - I| over all pairs of columns, C their cosines."""
    directions = torch.nn.functional.normalize(decoder, dim=0)
    return (directions.T @ directions - torch.eye(decoder.shape[1])).abs().mean().item()


DECODER = torch.randn(12, 16, generator=generator(0, "test"))  # float32, as such runs are


def test_permuting_columns_is_a_null_that_cannot_move():
    with pytest.raises(NullCannotMove, match=r"cannot move: 50 draws all read 0\.\d+ \(spread .*randomise something"):
        null_distribution(mean_overlap, lambda r: DECODER[:, r.permutation(16)], 50, rng())


def test_random_directions_move_and_average_what_theory_says():
    null = null_distribution(mean_overlap, lambda r: torch.tensor(r.normal(size=(12, 16))).float(), 300, rng())
    # E|cos| in 12 dimensions is Γ(6) / (sqrt(pi) Γ(6.5)) = .2354, over 240 of 256 entries
    assert null.std() > 0.005 and null.mean() == pytest.approx(0.2354 * 240 / 256, rel=0.02)


def test_a_null_that_is_always_zero_cannot_move():
    with pytest.raises(NullCannotMove, match="all read 0 "):
        null_distribution(float, lambda r: 0.0, 5, rng())


def test_small_but_real_movement_is_allowed():
    null = null_distribution(float, lambda r: 1 + 1e-4 * r.normal(), 20, rng())
    assert len(null) == 20 and null.std() > 0


def test_what_is_no_null_is_refused():
    with pytest.raises(ValueError, match="at least 2 draws, got 1"):
        null_distribution(float, lambda r: r.normal(), 1, rng())
    with pytest.raises(ValueError, match="the null has 5 non-finite values"):
        null_distribution(float, lambda r: np.nan, 5, rng())
    with pytest.raises(TypeError, match="rng must be a NumPy Generator, got 3"):
        null_distribution(float, lambda r: r.normal(), 5, 3)


def test_against_null_by_hand():
    null = [0.0, 1, 2, 3]  # mean 1.5, sd sqrt(5/3)
    assert against_null(9, null) == pytest.approx((7.5, 7.5 / (5 / 3) ** 0.5, 2 * 1 / 5))
    assert against_null(2, null).p_value == 1  # 2 and 3 reach it: 2 (1 + 2) / 5, at most 1
    assert against_null(-1, null).p_value == pytest.approx(2 / 5)


def test_p_values_against_a_null_are_uniform():
    draws = rng("draws").normal(size=(500, 100))
    p = np.array([against_null(x[0], x[1:]).p_value for x in draws])
    assert 0.02 < np.mean(p <= 0.05) < 0.08


def test_a_null_without_spread_has_no_z():
    with pytest.raises(ValueError, match="against_null is undefined"):
        against_null(1, [2, 2, 2])
    with pytest.raises(ValueError, match="against_null is undefined"):
        against_null(1, [0.1 + 0.2, 0.3, 0.3])


def test_what_is_no_number_is_not_rarer_than_all_draws():
    with pytest.raises(ValueError, match="the observed value has 1 non-finite values"):
        against_null(np.nan, [1, 2, 3])
