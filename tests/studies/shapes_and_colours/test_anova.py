"""Atoms, levels and cells by hand on the smallest grid, their nulls, and what additive components predict."""
import numpy as np
import pytest

from lib.rng import numpy_generator
from lib.studies.shapes_and_colours import anova

TWO = (2, 2, 2)
SHAPE, COLOUR, SIZE = (np.indices(TWO).reshape(3, 8)).astype(float)
MEANS = np.stack([SHAPE, SHAPE + 0.5 * COLOUR, SHAPE * COLOUR * SIZE, np.ones(8)], 1)  # [8, 4]


def test_cell_means_by_hand():
    values = np.array([[1.0], [3.0], [10.0]])
    assert anova.cell_means(values, np.array([0, 0, 1]), 2).tolist() == [[2.0], [10.0]]
    with pytest.raises(ValueError, match="counts are"):
        anova.cell_means(values, np.array([0, 0, 2]), 3)


def test_shares_of_variance_by_hand():
    """Shape: 1/4. Shape + colour/2: 1/4 and 1/16 of 5/16. A cell: mean 1/8, variance 7/64, 1/64 for each attribute."""
    found = anova.shares(MEANS, TWO)
    assert found == pytest.approx(np.array([[1, 0, 0], [0.8, 0.2, 0], [1 / 7] * 3, [0, 0, 0]]))
    assert anova.is_atomic(MEANS, TWO).tolist() == [True, False, False, False]


def test_shares_of_uneven_levels_add_up_to_one_without_interactions():
    counts = (3, 2, 4)
    a, b, c = np.indices(counts).reshape(3, -1)
    means = (np.array([0, 5, 1])[a] + 0.3 * b + np.array([1, 0, 0, 2])[c])[:, None]
    assert anova.shares(means, counts).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="24 cells cannot be 2 x 2 x 2"):
        anova.shares(means, TWO)


def test_levels_and_cells_by_hand():
    """A component that is shape finds both shapes (one by its absence), none of the others; a product is a cell."""
    assert anova.levels_found(MEANS, TWO).tolist() == [True, True, False, False, False, False]
    assert np.flatnonzero(anova.cells_found(MEANS)).tolist() == [7]
    # shape + colour/2 has correlation .5 / sqrt(5/16 * 1) * ... = .894 with shape: no level
    assert not anova.levels_found(MEANS[:, 1:2], TWO).any()
    assert not anova.cells_found(-MEANS[:, 2:3]).any()  # the absence of a cell is none


def test_what_is_dead_or_always_on_is_not_judged():
    frequency = np.array([0.5, 0.5, 1e-4, 1.0])
    assert anova.judged(MEANS, frequency).tolist() == [True, True, False, False]
    assert anova.reading(MEANS, frequency, TWO) == {"alive": 3, "atomic": 0.5, "levels": 2, "cells": 0}
    assert anova.reading(MEANS[:, 3:], np.ones(1), TWO)["atomic"] == 0


def test_directions_of_the_null_are_on_as_often_where_the_projection_is_largest():
    along, labels = np.arange(800.0)[:, None] * np.array([1, -1, 1, 1]), np.arange(800) // 100
    found = anova.on_as_often(along, np.array([0.25, 0.5, 1.0, 0.0]), labels, 8)
    assert found.T == pytest.approx(np.array([[0] * 6 + [1] * 2, [1] * 4 + [0] * 4, [1] * 8, [0] * 8]))


def test_permuted_cells_vary_and_never_reach_what_counts_as_atomic():
    rng = numpy_generator(0, "cells")
    i = np.indices((3, 3, 3)).reshape(3, 27)
    null = anova.permuted_cells((i[0] == 0).astype(float)[:, None], (3, 3, 3), 200, rng)
    assert null.std() > 0 and null.max() < anova.ATOMIC
    assert null.mean() == pytest.approx(0.14, abs=0.03)


def test_additive_components_are_predicted_where_nothing_was_shown_and_others_not():
    counts, shown = (3, 3, 3), np.arange(27) != 26
    a, b, c = np.indices(counts).reshape(3, 27)
    means = np.stack([1.0 * a - 0.5 * b, (a == 2) * (b == 2) * (c == 2) * 1.0], 1)
    found = anova.additive(means, shown, counts)
    assert found[26] == pytest.approx([2 - 1, 0.0], abs=1e-9)
    assert np.abs(found[shown] - means[shown]).max() < 1e-9
