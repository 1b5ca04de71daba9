"""The crossing count against every pair of edges, and orders that do not get worse."""
from __future__ import annotations

import numpy as np
import pytest

from lib.rng import numpy_generator
from lib.studies.spd_causal_graphs.crossings import crossings, order_sides


def brute(left, right) -> int:
    pairs = [(a, b) for a in range(len(left)) for b in range(a)]
    return sum((left[a] - left[b]) * (right[a] - right[b]) < 0 for a, b in pairs)


@pytest.mark.parametrize("n_edges", [0, 1, 2, 7, 40, 200])
def test_crossings_are_those_of_every_pair(n_edges):
    rng = numpy_generator(n_edges, "crossings")
    for _ in range(5):
        left, right = rng.integers(9, size=(2, n_edges))
        assert crossings(left, right) == brute(left.tolist(), right.tolist())


def test_complete_bipartite_graph_has_the_known_number():
    left, right = np.divmod(np.arange(5 * 4), 4)
    assert crossings(left, right) == 10 * 6  # (5 over 2) (4 over 2)


def test_a_shuffled_matching_is_untangled_completely():
    order = numpy_generator(0, "matching").permutation(12)
    weights = np.zeros((12, 12))
    weights[np.arange(12), order] = 1
    left, right = order_sides(weights)
    assert crossings(np.argsort(left), np.argsort(right)[order]) == 0


def test_orders_are_permutations_and_never_cross_more_than_the_given_one():
    rng = numpy_generator(1, "orders")
    for _ in range(5):
        weights = rng.standard_normal((10, 6)) * (rng.random((10, 6)) < 0.4)
        left, right = order_sides(weights)
        assert sorted(left) == list(range(10)) and sorted(right) == list(range(6))
        i, j = np.nonzero(weights)
        assert crossings(np.argsort(left)[i], np.argsort(right)[j]) <= crossings(i, j)


def test_a_side_may_be_empty():
    left, right = order_sides(np.zeros((0, 3)))
    assert len(left) == 0 and sorted(right) == [0, 1, 2]
