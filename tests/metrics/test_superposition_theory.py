"""The candidates' losses against the model's own exact loss, and the boundaries where they must meet."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.metrics import superposition_theory as theory
from lib.models import toy_superposition as toy


def exact(W, b, r, p):
    """Exact loss of one given model by quadrature fine enough for its kinks."""
    n, m = len(b), len(W)
    theta = toy.layout(n, m).pack(W=torch.tensor(W).double()[None], b=torch.tensor(b).double()[None])
    importance = torch.tensor([[1.0] * (n - 1) + [r]], dtype=torch.float64)
    density = torch.full((1, n), p, dtype=torch.float64)
    return toy.expected_loss(m, density, importance, nodes=24, scaled=False)(theta, torch.empty_like(theta)).item()


@pytest.mark.parametrize(("r", "p"), [(0.3, 0.2), (2.0, 0.7)])
def test_two_feature_losses_are_those_of_the_models_they_describe(r, p):
    losses = theory.phase_losses(r, p)
    assert losses[0] == pytest.approx(exact([[1.0, 0.0]], [0.0, p / 2], r, p))
    assert losses[1] == pytest.approx(exact([[0.0, 1.0]], [p / 2, 0.0], r, p))
    assert losses[2] == pytest.approx(exact([[1.0, -1.0]], [0.0, 0.0], r, p), rel=2e-3)


def test_three_features_may_pair_the_others():
    pairs = exact([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]], [0.0] * 3, 5.0, 0.1)
    assert theory.phase_losses(5.0, 0.1, 3)[1] == pytest.approx(pairs, rel=2e-3)
    assert theory.phase_losses(5.0, 0.9, 3)[1] == pytest.approx(0.9 / 3 - 0.9**2 / 4)


def test_boundary_is_where_two_losses_meet_and_the_three_meet_at_four_sevenths():
    p = np.array([0.1, 0.3, 0.5])
    losses = theory.phase_losses(2 * p / (4 - 5 * p), p)  # the importance where ignoring costs as much as superposing
    assert losses[:, 0] == pytest.approx(losses[:, 2])
    assert np.ptp(theory.phase_losses(1.0, 4 / 7)) == pytest.approx(0)


def test_predicted_and_measured_phases_by_hand():
    assert theory.predicted_phase(0.1, 0.9) == 0 and theory.predicted_phase(10, 0.9) == 1
    assert theory.predicted_phase(1, 0.1) == 2
    W = np.array([[[1.0, 0.1]], [[0.1, 1.0]], [[1.0, -1.0]]])
    assert theory.measured_phase(W).tolist() == [0, 1, 2]
    apart, shared = np.array([[1.0, -1, 0], [0, 0, 1]]), np.array([[1.0, 0, 0], [0, 1, -1]])
    assert theory.measured_phase(apart) == 1 and theory.measured_phase(shared) == 2


def test_only_two_or_three_features_are_known():
    with pytest.raises(ValueError, match="2 or 3"):
        theory.phase_losses(1.0, 0.1, 4)
    with pytest.raises(ValueError, match="density must lie in"):
        theory.predicted_phase([1.0, 1.0], [0.5, np.nan])
    with pytest.raises(ValueError, match="density must lie in"):
        theory.phase_losses(1.0, 2.0)
    with pytest.raises(ValueError, match="W has 2 non-finite values"):
        theory.measured_phase(np.full((1, 2), np.nan))
