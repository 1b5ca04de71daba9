"""The one-layer tied model under noise: its gradient, its starts, and which laws concentrate features."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.rng import generator
from lib.studies.incidental_polysemanticity import collisions
from lib.studies.incidental_polysemanticity.one_layer import concentration


def plain_loss(W: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Sum over the n basis vectors x of |ReLU(W (Wᵀ x + noise)) - x|^2 for one instance."""
    identity = torch.eye(len(W), dtype=W.dtype)
    return sum(((W @ (W.T @ x + noise)).relu() - x).square().sum() for x in identity)


def test_gradient_is_autograds_with_and_without_noise():
    rng = torch.Generator().manual_seed(0)
    W = torch.randn(3, 5, 7, generator=rng, dtype=torch.float64, requires_grad=True)
    for noise in (torch.zeros(3, 1, 7).double(), torch.randn(3, 1, 7, generator=rng, dtype=torch.float64)):
        total = sum(plain_loss(W[i], noise[i, 0]) for i in range(3))
        found = collisions.gradient(W.detach(), W.detach() + noise)
        torch.testing.assert_close(found, torch.autograd.grad(total, W)[0])


def test_noise_concentrates_in_order_of_falling_kurtosis():
    read = {}
    for noise in ("bipolar", "uniform", "gaussian", "laplace"):
        W = collisions.tied(8, 16, 64, 8000, 0, "cpu", noise)["W"]
        read[noise] = concentration(W[-1]).mean()
        assert concentration(W[0]).mean() == pytest.approx(3 / 18, abs=0.02)
    assert list(read) == sorted(read, key=read.__getitem__, reverse=True)
    assert read["bipolar"] > 0.4 and read["laplace"] < 0.15


def test_laws_of_noise_share_their_starts_and_the_first_step_is_that_of_the_gradient():
    none, bipolar = (collisions.tied(3, 5, 2, 40, 0, "cpu", noise) for noise in ("none", "bipolar"))
    assert none["step"][0] == 1 and none["step"][-1] == 40 and none["W"].shape == (12, 2, 3, 5)
    start = torch.randn(2, 3, 5, generator=generator(0, "collisions", "init")) / 5**0.5
    first = start - 0.02 * collisions.gradient(start, start)
    np.testing.assert_allclose(none["W"][0], first, rtol=1e-5)
    apart = np.abs(bipolar["W"] - none["W"]).max((1, 2, 3))
    assert 0 < apart[0] < apart[-1]


def test_concentration_of_one_unit_all_units_and_chance():
    assert concentration(np.array([[0.0, -2.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]])).tolist() == [1, 0.25]
    chance = concentration(np.random.default_rng(0).normal(size=(20_000, 16)))
    assert chance.mean() == pytest.approx(3 / 18, rel=0.01)


def test_divergence_is_refused():
    with pytest.raises(ValueError, match="diverged"):
        collisions.tied(8, 16, 4, 200, 0, "cpu", "none", lr=5.0)
