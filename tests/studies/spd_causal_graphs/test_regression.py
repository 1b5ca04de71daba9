"""Regression on planted data, and what it reads where there is nothing to find."""
from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score

from lib.rng import numpy_generator
from lib.studies.spd_causal_graphs.regression import (
    forward_order,
    in_sample,
    lasso,
    refit,
    regress_all,
    stepwise,
)


def planted(n: int = 600, noise: float = 0.5, seed: int = 0):
    """y = 3 x4 - 2 x1 + .5 x7 + noise: R2 of the top two (9 + 4) / (13.25 + noise^2) as x are independent."""
    rng = numpy_generator(seed, "planted")
    X = rng.standard_normal((n, 10)) * np.arange(1, 11)  # unequal scales, which standardising must undo
    y = 3 * X[:, 4] / 5 - 2 * X[:, 1] / 2 + 0.5 * X[:, 7] / 8 + noise * rng.standard_normal(n)
    return X, y


def test_lasso_finds_the_planted_predictors():
    (X, y), (X_test, y_test) = planted(), planted(seed=1)
    found = lasso(X, y, X_test, y_test)
    assert found.order[:3].tolist() == [4, 1, 7]
    assert found.slopes[[4, 1, 7]] == pytest.approx([3, -2, 0.5], abs=0.15) and found.slopes.shape == (10,)
    assert found.top2 == pytest.approx(13 / 13.5, abs=0.02) and found.held_out == pytest.approx(13.25 / 13.5, abs=0.01)


def test_in_sample_r2_flatters_and_held_out_r2_does_not():
    rng = numpy_generator(2, "nothing")
    X, X_test = rng.standard_normal((2, 60, 30))
    y, y_test = X[:, 0] + rng.standard_normal((2, 60))
    found = lasso(X, y, X_test, y_test)
    assert found.published > found.top2


def test_refit_is_least_squares_with_an_intercept():
    X, y = planted(noise=0.0)
    assert refit(X, y + 7, X, y + 7, np.array([1, 4, 7])) == pytest.approx(1)


def test_forward_selection_takes_the_best_next_one():
    X, y = planted()
    chosen = forward_order(X, y, 10)
    assert chosen[:3].tolist() == [4, 1, 7] and sorted(chosen) == list(range(10))
    used = [4]  # by brute force: the second lowers the error of a fit with the first most
    errors = []
    for i in range(10):
        A = np.column_stack([np.ones(len(y)), X[:, [*used, i]]])
        errors.append(np.square(y - A @ np.linalg.lstsq(A, y, rcond=None)[0]).sum())
    assert chosen[1] == np.argmin(errors)


def test_forward_selection_stops_at_what_is_linearly_dependent():
    X, y = planted()
    assert len(forward_order(np.hstack([X, X[:, :2] * 2]), y, 12)) == 10


def test_stepwise_rises_to_the_planted_ceiling_and_its_null_does_not():
    X, y = planted()
    curve = stepwise(X, y, 5)
    assert curve.shape == (6,) and curve[0] == pytest.approx(9 / 13.5, abs=0.06)
    assert curve[2] == pytest.approx(13.25 / 13.5, abs=0.02) and abs(curve[5] - curve[2]) < 0.01
    null = np.array([stepwise(X, numpy_generator(3, draw).permutation(y), 5) for draw in range(4)])
    assert null.shape == (4, 6) and null.max() < 0.05 and np.ptp(null[:, 2]) > 0  # a null that moves


def test_stepwise_is_nested_so_selection_on_noise_scores_below_nothing():
    rng = numpy_generator(4)
    X, y = rng.standard_normal((50, 40)), rng.standard_normal(50)
    inside = forward_order(X, y, 5)
    flattering = r2_score(y, X[:, inside] @ np.linalg.lstsq(X[:, inside], y, rcond=None)[0])
    assert flattering > 0.2 and stepwise(X, y, 5)[4] < 0


def test_a_target_that_does_not_vary_is_refused():
    X, y = planted()
    with pytest.raises(ValueError, match="does not vary"):
        stepwise(X, np.ones_like(y), 3)
    with pytest.raises(ValueError, match="does not vary"):
        lasso(X, y, X, np.ones_like(y))


def test_in_sample_scores_of_one_predictor_by_hand():
    """y = x + e with e orthogonal to x, |x|^2 = 4 and |e|^2 = 1: R2 = 4/5; of a sum of both it is 1."""
    x, e = np.array([1.0, -1, 1, -1] * 50), np.array([0.5, 0.5, -0.5, -0.5] * 50)
    found = in_sample(np.column_stack([x, e]), np.column_stack([x + e] * 3), 1, numpy_generator(8))
    assert found["steps"] == pytest.approx(0.8) and found["all"] == pytest.approx(1)
    assert found["lasso"] == pytest.approx(1, abs=1e-3) and 0 <= found["lasso_null"] <= found["steps_null"] + 0.1 < 0.2


def test_all_regressions_of_two_outputs():
    (X, y), rng = planted(), numpy_generator(6)
    found = regress_all(X, np.column_stack([y, rng.standard_normal(len(y))]), 4, rng)
    assert found["scores"].top2[0] > 0.9 > 0.1 > found["scores"].top2[1] and found["scores"].permuted.max() < 0.1
    assert found["curves"].shape == (2, 5) and found["curve_null"].shape == (5, 5)
    assert found["slopes"].shape == (10, 2) and np.abs(found["slopes"][:, 0]).argmax() == 4
