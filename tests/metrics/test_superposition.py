"""Every number here is worked out by hand from the drawing in the comment beside it."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from lib.metrics import superposition as sp
from lib.rng import generator


def columns(*vectors: tuple[float, ...]) -> torch.Tensor:
    """W [n_hidden, n_features] from feature directions."""
    return torch.tensor(vectors, dtype=torch.float64).T


PAIR_AND_HALF = columns((1, 0), (-1, 0), (0, 0.5), (0, 0))  # an antipodal pair, a short one alone, an absent one
TILTED = columns((3, 4), (1, 0))  # |W| = 5, 1; Ŵ_0·W_1 = .6; Ŵ_1·W_0 = 3


def test_feature_norms_by_hand():
    assert_close(sp.feature_norms(PAIR_AND_HALF), torch.tensor([1, 1, 0.5, 0], dtype=torch.float64))
    assert_close(sp.feature_norms(TILTED), torch.tensor([5, 1], dtype=torch.float64))


def test_gram_by_hand():
    assert_close(sp.gram(TILTED), torch.tensor([[25, 3], [3, 1]], dtype=torch.float64))


def test_interference_by_hand():
    assert_close(sp.interference(PAIR_AND_HALF), torch.tensor([1, 1, 0, 0], dtype=torch.float64))
    assert_close(sp.interference(TILTED), torch.tensor([0.36, 9], dtype=torch.float64))


def test_feature_dimensionality_by_hand():
    assert_close(sp.feature_dimensionality(PAIR_AND_HALF), torch.tensor([0.5, 0.5, 1, 0], dtype=torch.float64))
    assert_close(sp.feature_dimensionality(TILTED), torch.tensor([25 / 25.36, 1 / 10], dtype=torch.float64))


def test_feature_dimensionality_of_a_pentagon_is_two_fifths():
    turns = 2 * torch.pi * torch.arange(5, dtype=torch.float64) / 5
    D = sp.feature_dimensionality(torch.stack([turns.cos(), turns.sin()]))
    assert_close(D, torch.full((5,), 0.4, dtype=torch.float64))


def test_dimensionalities_add_up_to_at_most_the_rank():
    W = torch.randn(200, 5, 12, generator=generator(0, "test"), dtype=torch.float64)
    W[:100, 3:] = 0  # rank 3
    total = sp.feature_dimensionality(W).sum(-1)
    assert (total[:100] <= 3 + 1e-9).all() and (total[100:] <= 5 + 1e-9).all()
    assert (total[100:] > 3).any()  # rank 5 really holds more than rank 3


def test_random_directions_leave_a_dimensionality_that_moves():
    W = torch.randn(200, 5, 20, generator=generator(1, "test"))
    means = sp.feature_dimensionality(W).mean(-1)
    assert means.std() > 1e-4 and 0.2 < means.mean() < 0.25  # n_hidden / n_features = .25 bounds it


def test_dimensions_per_feature_by_hand():
    assert_close(sp.dimensions_per_feature(PAIR_AND_HALF), torch.tensor(2 / 2.25, dtype=torch.float64))
    assert sp.dimensions_per_feature(torch.zeros(2, 3)) == torch.inf


def test_represented_counts_lengths_above_the_threshold():
    assert sp.is_represented(PAIR_AND_HALF).tolist() == [True, True, False, False]  # .5 is not above .5
    assert sp.n_represented(PAIR_AND_HALF, threshold=0.4) == 3


@pytest.mark.parametrize("metric", [
    sp.feature_norms, sp.gram, sp.interference, sp.feature_dimensionality, sp.dimensions_per_feature,
    sp.is_represented, sp.n_represented, sp.unit_columns,
])
def test_leading_dimensions_are_a_batch(metric):
    W = torch.randn(2, 3, 4, 6, generator=generator(2, "test"), dtype=torch.float64)
    batched = metric(W)
    assert_close(batched[1, 2], metric(W[1, 2]))
    with pytest.raises(ValueError, match=r"W must be \[\.\.\., n_hidden, n_features\], got shape \(6,\)"):
        metric(W[0, 0, 0])


def test_whole_numbers_are_read_and_missing_ones_refused():
    assert sp.feature_dimensionality(np.array([[1, -1, 0], [0, 0, 2]])).tolist() == [0.5, 0.5, 1]
    for metric in (sp.unit_columns, sp.feature_dimensionality, sp.n_represented):  # NaN read as a feature not stored
        with pytest.raises(ValueError, match="W has values that are NaN or infinite"):
            metric(torch.full((2, 3), torch.nan))


def test_dimensionality_lets_gradients_through():
    W = torch.randn(3, 5, generator=generator(3, "test"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sp.feature_dimensionality, (W,))
