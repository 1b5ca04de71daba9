"""Collisions of features that had room for all: counts against chance, signs, noise, and the plain model."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.studies.incidental_polysemanticity import collisions, one_layer, units


def plain_loss(W: torch.Tensor, noise: torch.Tensor, penalty: float) -> torch.Tensor:
    """Sum over the n basis vectors x of |ReLU(W (Wᵀ x + noise)) - x|^2, plus penalty * sum|W|, for one instance."""
    identity = torch.eye(len(W), dtype=W.dtype)
    total = penalty * W.abs().sum()
    for x in identity:
        total = total + ((W @ (W.T @ x + noise)).relu() - x).square().sum()
    return total


def tied(n, m, instances, steps, seed=0, **own):
    """start, W at the end and at the logged steps, as tensors, and those steps."""
    found = collisions.tied(n, m, instances, steps, seed, "cpu", **own)
    start, history = (torch.from_numpy(found[name]) for name in ("start", "history"))
    return SimpleNamespace(start=start, W=history[-1], history=history, steps=found["step"])


def test_gradient_is_autograds_with_and_without_noise():
    rng = torch.Generator().manual_seed(0)
    W = torch.randn(3, 5, 7, generator=rng, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, 1, 7, generator=rng, dtype=torch.float64)
    loss, gradient = collisions.loss_and_gradient(W.detach(), W.detach() + noise, 0.3)
    by_hand = torch.stack([plain_loss(W[i], noise[i, 0], 0.3) for i in range(3)])
    torch.testing.assert_close(loss, by_hand.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(by_hand.sum(), W)[0])


def test_training_is_torchs_adamw():
    done = tied(4, 6, 2, 20, seed=3, penalty=0.01)
    W = done.start.clone().requires_grad_()
    adamw = torch.optim.AdamW([W], lr=1e-3)
    for _ in range(20):
        adamw.zero_grad()
        sum(plain_loss(W[i], torch.zeros(6), 0.01) for i in range(2)).backward()
        adamw.step()
    torch.testing.assert_close(done.W, W.detach(), rtol=0, atol=1e-5)


def test_features_collide_about_as_often_as_chance_and_in_opposite_signs_only():
    n, m = 16, 32
    done = tied(n, m, 200, 4000, penalty=1e-2)
    assert units.represented(done.W).any(2).double().mean() > 0.95
    count = units.polysemantic_units(done.W).double()
    error = float(count.std()) / len(count) ** 0.5
    assert abs(float(count.mean()) - one_layer.expected_shared_units(n, m)) < 0.25 + 3 * error
    assert float(count.mean()) + 3 * error < one_layer.expected_collisions(n, m)  # triples count once
    assert float(units.opposite_sign_share(done.W)) == 1
    assert int(units.polysemantic_units(done.start).sum()) < int(count.sum())


def test_expected_shared_units_is_the_mean_of_random_choices():
    rng = np.random.default_rng(0)
    unit, sign = rng.integers(32, size=(20_000, 16)), rng.integers(2, size=(20_000, 16))
    chosen = np.zeros((20_000, 32, 2), dtype=bool)
    chosen[np.arange(20_000)[:, None], unit, sign] = True
    assert chosen.all(2).sum(1).mean() == pytest.approx(one_layer.expected_shared_units(16, 32), abs=0.05)
    assert one_layer.expected_shared_units(8, 4096) == pytest.approx(one_layer.expected_collisions(8, 4096), rel=0.15)
    assert one_layer.expected_collisions(64, 256) == 4


def test_noise_concentrates_in_order_of_falling_kurtosis():
    settings = {"steps": 8000, "noise": "none", "sgd": 0.02}
    read = {}
    for noise in ("bipolar", "uniform", "gaussian", "laplace"):
        done = tied(8, 16, 64, **{**settings, "noise": noise})
        read[noise] = float(units.concentration(done.W).mean())
        assert float(units.concentration(done.start).mean()) == pytest.approx(3 / 18, abs=0.015)
    assert list(read) == sorted(read, key=read.__getitem__, reverse=True)
    assert read["bipolar"] > 0.4 and read["laplace"] < 0.15


def test_laws_of_noise_share_their_starts_and_snapshots_lead_to_the_end():
    none, bipolar = (
        tied(3, 5, 2, 40, noise=noise, sgd=0.02, log_at=[1, 20]) for noise in ("none", "bipolar")
    )
    assert torch.equal(none.start, bipolar.start) and not torch.equal(none.W, bipolar.W)
    assert none.steps == [1, 20, 40] and none.history.shape == (3, 2, 3, 5)
    assert torch.equal(none.history[-1], none.W)
    first = none.start - 0.02 * collisions.loss_and_gradient(none.start, none.start, 0.0)[1]
    torch.testing.assert_close(none.history[0], first)
    adamw = tied(3, 5, 2, 10, log_at=[5])
    assert adamw.steps == [5, 10] and torch.equal(adamw.history[-1], adamw.W)


def test_counts_on_a_matrix_read_off_by_hand():
    """Unit 0 holds features 0 and 1 in opposite signs, unit 1 features 2 and 3 in one sign, unit 2 none."""
    W = torch.tensor([[1.0, 0.1, 0.5], [-0.9, 0.0, 0.0], [0.0, 1.1, 1.3], [0.0, 0.9, -0.7]])
    assert int(units.polysemantic_units(W)) == 2
    assert float(units.opposite_sign_share(W)) == 0.5
    assert units.opposite_sign_share(torch.eye(3)).isnan()
    assert units.polysemantic_units(torch.stack([W, torch.zeros(4, 3)])).tolist() == [2, 0]


def test_concentration_of_one_unit_all_units_and_chance():
    assert units.concentration(torch.tensor([[0.0, -2.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]])).tolist() == [1, 0.25]
    chance = units.concentration(torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0)))
    assert float(chance.mean()) == pytest.approx(3 / 18, rel=0.01)


def test_divergence_is_refused():
    with pytest.raises(ValueError, match="diverged"):
        tied(8, 16, 4, 200, sgd=5.0)
