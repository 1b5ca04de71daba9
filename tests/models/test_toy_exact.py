"""Oracles of what trained toy models store: exact phases, the plateau at one half, pairs, and the price in attacks."""
from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from lib.metrics import superposition as metric
from lib.metrics import superposition_theory as theory
from lib.metrics.polytopes import polytopes
from lib.models import robustness, toy_exact
from lib.models.toy_training import Grid, pair_law, train_grid
from lib.rng import generator


@cache
def phases(n_features: int, cells: int) -> tuple[np.ndarray, ...]:
    density, extra = torch.logspace(-2, 0, cells), torch.logspace(-1, 1, cells)
    rng = generator(0, "superposition_phases", f"phase {n_features}")
    found = toy_exact.phase_grid(density, extra, n_features, 8, 800, rng)
    at = extra.numpy()[None, :], density.numpy()[:, None], n_features
    return *(part.numpy() for part in found), theory.predicted_phase(*at), theory.phase_losses(*at)


def stairs(inverse_density: torch.Tensor, restarts: int, steps: int) -> Grid:
    return train_grid(1 / inverse_density, torch.ones(48), 8, restarts, steps, 256, generator(0, "staircase"))


@pytest.mark.parametrize(("n_features", "cells"), [(2, 24), (3, 16)])
def test_phase_diagram_agrees_with_theory(n_features, cells):
    """>= 95 % of cells (97.6 % measured); about 3/4 of restarts reach the best loss."""
    W, loss, agreeing, predicted, losses = phases(n_features, cells)
    assert (theory.measured_phase(W) == predicted).mean() >= 0.95
    assert W.shape == (cells, cells, n_features - 1, n_features) and loss.shape == (cells, cells, 8)
    if n_features == 2:
        assert 0.68 <= agreeing.mean() <= 0.82
        ratio = loss.min(-1) / losses.min(-1)
        assert 0.85 <= ratio.min() and ratio.max() <= 1.03  # no cell far above the best candidate, a few below


def test_extra_feature_appears_at_once():
    """First-order: |W_extra| jumps, so few cells lie between .2 and .8."""
    norm = np.linalg.norm(phases(2, 24)[0], axis=2)[..., 1]
    assert ((norm > 0.2) & (norm < 0.8)).mean() < 0.05


def test_dimensions_per_feature_stick_at_one_half():
    """n=48, m=8 between 1/(1-S) = 2.2 and 3.5 has D* from .511 to .490, every feature in a digon."""
    W = stairs(torch.tensor([2.2, 2.8, 3.5]), 3, 2000).W
    assert metric.dimensions_per_feature(W).median(1).values.tolist() == pytest.approx([0.511, 0.493, 0.490], abs=0.005)
    groups = [group for models in W for one in models for group in polytopes(one)]
    digons = [group.dimensionality for group in groups if group.name == "digon"]
    assert len(digons) / len(groups) > 0.9 and digons == pytest.approx([0.5] * len(digons), abs=0.03)


def test_attack_grows_with_features_per_dimension():
    inverse_density = torch.tensor([1.0, 3.0, 10.0])
    grid = stairs(inverse_density, 1, 600)
    clean, attacked = robustness.attacked_losses(grid.W, grid.b, 1 / inverse_density, 1.0, 256, generator(0, "attack"))
    rise = (attacked - clean)[:, 0]
    assert (metric.dimensions_per_feature(grid.W)[:, 0].diff() < 0).all()
    assert (attacked > clean).all() and ((rise / rise[0]).diff() > 0.5).all()


def test_two_minima_cross_in_importance_too():
    importance = torch.ones(2, 5)
    importance[0, 0] = 0.25
    W, _, loss = toy_exact.follow_minima(torch.full((2, 5), 0.1), importance, steps=600)
    assert metric.n_represented(W)[1].tolist() == [5, 4]
    assert loss[1, 0] < loss[1, 1] and loss[0, 1] <= loss[0, 0] + 1e-3


def test_learning_curves_start_small_and_end_with_the_pentagon():
    steps, W, loss = toy_exact.learning_curves(3, 1000, generator(0, "dynamics"))
    assert W.shape == (len(steps), 3, 2, 5) and loss.shape == (len(steps), 3)
    assert loss[0].min() > 0.9 and loss[-1].min() < 0.2
    assert metric.feature_dimensionality(W[-1, loss[-1].argmin()]).tolist() == pytest.approx([0.4] * 5, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "sparse", "dense"), [("correlated", (-0.1, 0.1), (0.95, 1)), ("anticorrelated", (-1, -0.95), (-1, -0.95))]
)
def test_correlated_pairs_are_local_and_anticorrelated_ones_antipodal(kind, sparse, dense):
    """Together and sparse: orthogonal; together and dense: collapsed onto their sum; never together: antipodal."""
    size = 2, 8, 1500, 256
    grid = train_grid(torch.tensor([0.05, 0.5]), torch.ones(4), *size, generator(0, kind), law=pair_law(kind))
    cosine = metric.gram(metric.unit_columns(grid.best()[0]))
    for within, (low, high) in zip((cosine[:, 0, 1] + cosine[:, 2, 3]) / 2, (sparse, dense), strict=True):
        assert low - 1e-6 <= within <= high + 1e-6
