"""Grids of restarts: what they are judged on, and that each setting is its own."""
from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lib.data.sparse_features import sparse_features
from lib.models import toy_exact
from lib.models import toy_training as training
from lib.rng import generator


def test_models_are_judged_by_their_loss_on_other_samples_over_the_zero_predictors():
    density, importance = torch.tensor([0.05, 0.5]), torch.tensor([1.0, 0.5, 2.0])
    grid = training.train_grid(density, importance, 2, 4, 20, 8, generator(0, "grid"))
    x = sparse_features((2, 1, 50_000, 3), density.view(2, 1, 1, 1), generator(0, "other samples"))
    errors = (x @ grid.W.mT @ grid.W + grid.b.unsqueeze(2)).relu() - x  # [2, 4, 50_000, 3]
    wanted, zero = ((e.square() * importance).sum(3).mean(2) for e in (errors, x))
    assert_close(grid.loss, wanted / zero, rtol=0.1, atol=0)


def test_a_model_that_stores_every_feature_loses_nothing():
    density, importance = torch.tensor([0.05, 0.5]), torch.tensor([1.0, 0.5, 2.0])
    trained = training.train_grid(density, importance, 3, 2, 1500, 256, generator(0, "grid"), lr=0.03)
    assert trained.loss.min(1).values.max() < 0.01


def test_dense_models_keep_the_most_important_and_sparse_ones_store_more():
    grid = training.train_grid(
        torch.tensor([1.0, 0.05]), 0.8 ** torch.arange(5), 2, 6, 600, 128, generator(0, "grid"), log_at=[1, 300]
    )
    W, b = grid.best()
    stored = torch.linalg.vector_norm(W, dim=1) > 0.5
    assert stored[0].tolist() == [True, True, False, False, False]
    assert stored[1].sum() >= 4
    assert W.shape == (2, 2, 5) and b.shape == (2, 5) and grid.loss.shape == (2, 6)
    assert grid.steps == [1, 300, 600] and grid.history.shape == (3, 2, 6)


@pytest.mark.parametrize(("kind", "both"), [("independent", 0.04), ("correlated", 0.2), ("anticorrelated", 0.0)])
def test_pair_laws_keep_the_density_and_set_how_often_both_are_active(kind, both):
    x = training.pair_law(kind)((2, 20000, 4), torch.full((2, 1, 1), 0.2), generator(0, kind))
    active = x > 0
    assert_close(active.float().mean((0, 1)), torch.full((4,), 0.2), atol=0.01, rtol=0)
    assert (active[..., 0] & active[..., 1]).float().mean().item() == pytest.approx(both, abs=0.01)


def test_absolute_value_is_learned_when_units_abound():
    at, error = training.train_absolute(torch.tensor([0.5]), torch.ones(3), 12, 1500, 128, generator(0, "abs"))
    assert (3 * error / 0.5).max() < 0.1
    assert at["W1"].shape == (1, 12, 3) and at["W2"].shape == (1, 3, 12)


def test_minima_cross_when_a_feature_becomes_rare():
    p = torch.full((2, 5), 0.1)
    p[0, 0] *= 0.25
    W, _, loss = toy_exact.follow_minima(p, torch.ones_like(p), steps=600)
    stored = (torch.linalg.vector_norm(W, dim=-2) > 0.5).sum(-1)
    assert stored[1].tolist() == [5, 4]  # at equal density each start stays in its own minimum ...
    assert loss[1, 0] < loss[1, 1]  # ... where the pentagon is the better one
    assert loss[0, 1] < loss[0, 0]  # and the pairs are once feature 0 is four times as rare
