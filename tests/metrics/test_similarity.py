from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from lib.metrics import similarity
from lib.metrics.nulls import null_distribution
from lib.metrics.similarity import linear_cka, procrustes_similarity, rsa
from lib.rng import numpy_generator

EVERY_METRIC = [linear_cka, procrustes_similarity, rsa]


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return numpy_generator(seed, "test", *shape).normal(size=shape)


def gram_cka(X: np.ndarray, Y: np.ndarray) -> float:
    """The textbook form: centred n x n Gram matrices and HSIC."""
    H = np.eye(len(X)) - 1 / len(X)
    K, L = H @ X @ X.T @ H, H @ Y @ Y.T @ H
    return np.sum(K * L) / np.sqrt(np.sum(K * K) * np.sum(L * L))


def test_linear_cka_equals_the_gram_form():
    for seed, (n, d1, d2) in enumerate([(50, 4, 7), (20, 30, 5), (300, 12, 12), (3, 1, 1)]):
        X, Y = data(n, d1, seed=seed) + 5, data(n, d2, seed=seed + 10)
        Y[:, 0] += X[:, 0]
        assert linear_cka(X, Y) == pytest.approx(gram_cka(X, Y), abs=1e-12)


def test_linear_cka_by_hand():
    X = [[1.0, 0], [-1, 0], [0, 1], [0, -1]]  # XᵀX = 2 I, norm 2 sqrt(2)
    Y = [[1.0], [-1], [0], [0]]  # YᵀY = 2; XᵀY = (2, 0)
    assert linear_cka(X, Y) == pytest.approx(4 / (2 * 8**0.5))


def test_procrustes_by_hand():
    X = [[1.0, 0], [-1, 0], [0, 1], [0, -1]]  # |X| = 2
    Y = [[1.0], [-1], [0], [0]]  # |Y| = sqrt(2); XᵀY = (2, 0), nuclear norm 2
    assert procrustes_similarity(X, Y) == pytest.approx(2 / 8**0.5)


def test_procrustes_similarity_is_what_the_best_rotation_reaches():
    X, Y = data(40, 6), data(40, 6, seed=1)
    X, Y = (A - A.mean(0) for A in (X, Y))
    X, Y = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
    R, _ = orthogonal_procrustes(Y, X)
    assert (2 - 2 * procrustes_similarity(X, Y)) ** 0.5 == pytest.approx(np.linalg.norm(X - Y @ R), abs=1e-12)


def test_rsa_by_hand():
    X = [[0.0], [1], [3]]  # distances 1 3 2
    Y = [[0.0], [3], [4]]  # distances 3 4 1: ranks 2 3 1 against 1 3 2, rho = 1 - 6 * 2 / (3 * 8)
    assert rsa(X, Y) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", EVERY_METRIC)
def test_one_for_equal_up_to_rotation_shift_and_scale(metric):
    X = data(40, 5)
    rotation = np.linalg.qr(data(5, 5, seed=2))[0]
    assert metric(X, 3.7 * X @ rotation + 2) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("metric", EVERY_METRIC)
def test_symmetric_and_alike_for_numpy_and_torch(metric):
    X, Y = data(30, 4), data(30, 6, seed=1)
    assert metric(X, Y) == pytest.approx(metric(Y, X))
    tensors = (torch.tensor(X, requires_grad=True), torch.tensor(Y))
    assert metric(*tensors) == metric(X, Y)


@pytest.mark.parametrize("metric", EVERY_METRIC)
def test_the_null_moves_and_related_data_stand_out_of_it(metric):
    X = data(60, 5)
    Y = X @ data(5, 8, seed=1) + 0.5 * data(60, 8, seed=2)
    null = null_distribution(lambda Z: metric(X, Z), lambda rng: rng.permutation(Y), 100, numpy_generator(3, "test"))
    assert null.std() > 1e-3
    assert metric(X, Y) > null.max()


def test_the_null_of_linear_cka_grows_with_the_dimensions():
    few = np.mean([linear_cka(data(100, 4, seed=s), data(100, 4, seed=s + 50)) for s in range(20)])
    many = np.mean([linear_cka(data(100, 200, seed=s), data(100, 200, seed=s + 50)) for s in range(20)])
    assert few == pytest.approx(0.04, abs=0.02) and many > 0.6


@pytest.mark.parametrize("metric", EVERY_METRIC)
@pytest.mark.parametrize("X, Y, message", [
    (np.full((9, 3), 0.1), data(9, 2), "X is the same for every sample"),
    (data(9, 2), np.zeros((9, 3)), "Y is the same for every sample"),
    (data(9, 2), data(8, 2), "same samples: 9 and 8 rows"),
    (data(9, 2), data(9), r"Y must be a matrix .* got shape \(9,\)"),
    (np.where(data(9, 2) > 0, np.nan, 1.0), data(9, 2), "X has [0-9]+ non-finite values"),
    (data(1, 2), data(1, 2), "at least [23] samples are needed, got 1"),
])
def test_what_has_no_answer_is_refused(metric, X, Y, message):
    with pytest.raises(ValueError, match=message):
        metric(X, Y)


@pytest.mark.parametrize("size", [1e-170, 1.0, 1e170])
@pytest.mark.parametrize("metric", EVERY_METRIC)
def test_equal_distances_stay_equal_and_size_does_not_matter(metric, size):
    grid = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(16, 2) * 1.0  # few distances, each of many pairs
    turned = grid @ [[0.6, -0.8], [0.8, 0.6]] + 1 / 3
    assert metric(size * grid, turned) == pytest.approx(1, abs=1e-12)


def test_rsa_needs_an_order_of_distances():
    with pytest.raises(ValueError, match="all pairs of Y are equally far apart"):
        rsa(data(4, 2), np.eye(4))


def test_every_public_metric_is_in_the_list_above():
    public = {f.__name__ for f in vars(similarity).values() if getattr(f, "__module__", "") == similarity.__name__
              and not f.__name__.startswith("_")}
    assert public == {f.__name__ for f in EVERY_METRIC}
