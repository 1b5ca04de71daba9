"""Hand-written gradients against autograd, exact losses against arithmetic."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from lib.data.sparse_features import sparse_features
from lib.metrics.superposition import gram
from lib.models import toy_superposition as toy
from lib.rng import generator


def table(models: int, n: int, m: int) -> torch.Tensor:
    """Random rows with b != 0, so that every gate is tried."""
    return 0.7 * torch.randn(models, toy.layout(n, m).size, generator=generator(0, "table"), dtype=torch.float64)


@pytest.mark.parametrize("kind", toy.KINDS)
def test_manual_gradient_equals_autograd(kind):
    x = sparse_features((4, 64, 7), 0.4, generator(0, "x")).double()
    importance = torch.rand(4, 7, generator=generator(0, "importance"), dtype=torch.float64) + 0.1
    theta = table(4, 7, 3).requires_grad_()
    loss = toy.feature_losses(**toy.layout(7, 3).views(theta), x=x, importance=importance, kind=kind).sum(-1)
    expected = torch.autograd.grad(loss.sum(), theta)[0]
    grad = torch.full_like(theta, torch.nan).detach()
    value = toy.sampled_loss(7, 3, lambda: x, importance, kind)(theta.detach(), grad)
    assert (grad - expected).abs().max() < 1e-12
    assert (value - loss.detach()).abs().max() < 1e-12


def exact_by_hand(theta, p, importance, n, m, nodes):
    """The expected loss in autograd's reach: sum over quadrature points, one model at a time."""
    points, base, active = toy.quadrature(n, nodes)
    at, losses = toy.layout(n, m).views(theta), []
    for i in range(len(theta)):
        chance = torch.where(active.bool(), p[i], 1 - p[i]).prod(-1) * base
        error = (toy.forward(at["W"][i], at["b"][i], points) - points).square() @ importance[i]
        losses.append(chance @ error)
    return torch.stack(losses)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (3, 2)])
def test_expected_loss_and_its_gradient_equal_autograd(n, m):
    p, importance = (torch.rand(5, n, generator=generator(0, s), dtype=torch.float64) * 0.9 + 0.05 for s in "pi")
    theta = table(5, n, m).requires_grad_()
    loss = exact_by_hand(theta, p, importance, n, m, nodes=4)
    expected = torch.autograd.grad(loss.sum(), theta)[0]
    grad = torch.empty_like(theta)
    value = toy.expected_loss(m, p, importance, nodes=4, scaled=False)(theta.detach(), grad)
    assert (grad - expected).abs().max() < 1e-12 and (value - loss.detach()).abs().max() < 1e-12
    value = toy.expected_loss(m, p, importance, nodes=4)(theta.detach(), grad)
    assert_close(value * p.mean(1), loss.detach())


def test_expected_loss_of_the_zero_model_is_the_zero_predictors():
    p, importance = torch.full((1, 3), 0.2, dtype=torch.float64), torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    theta = torch.zeros(1, toy.layout(3, 2).size, dtype=torch.float64)
    value = toy.expected_loss(2, p, importance, scaled=False)(theta, torch.empty_like(theta))
    assert_close(value, toy.zero_predictor_loss(importance, 0.2))
    assert value.item() == pytest.approx(7 * 0.2 / 3)


def test_expected_loss_is_what_sampling_converges_to():
    p, importance = torch.tensor([[0.3, 0.6]], dtype=torch.float64), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    theta = table(1, 2, 1)
    exact = toy.expected_loss(1, p, importance, nodes=32, scaled=False)(theta, torch.empty_like(theta))
    x = sparse_features((1, 400_000, 2), p[:, None], generator(0, "sampled")).double()
    sampled = toy.feature_losses(**toy.layout(2, 1).views(theta), x=x, importance=importance)
    assert exact.item() == pytest.approx(sampled.sum().item(), rel=0.01)


def test_quadrature_weights_sum_to_one_for_any_density():
    _, base, active = toy.quadrature(3, nodes=5)
    p = torch.tensor([0.1, 0.5, 0.9])
    assert torch.where(active.bool(), p, 1 - p).prod(-1).mul(base).sum().item() == pytest.approx(1)


def test_forward_by_hand():
    """W = (1, -1), b = 0: x = (.5, .2) is seen as h = .3 and answered (.3, 0); the linear output keeps -.3."""
    W, b, x = torch.tensor([[1.0, -1.0]]), torch.zeros(2), torch.tensor([[0.5, 0.2], [0.2, 0.5]])
    assert_close(toy.forward(W, b, x), torch.tensor([[0.3, 0.0], [0.0, 0.3]]))
    assert_close(toy.forward(W, b, x, "linear"), torch.tensor([[0.3, -0.3], [-0.3, 0.3]]))
    assert_close(toy.forward(W, b, x, "privileged"), torch.tensor([[0.3, 0.0], [0.0, 0.0]]))


def test_absolute_model_by_hand():
    """Two units per feature, one for each sign, compute |x| exactly."""
    W1, W2, b = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0, 1.0]]), torch.zeros(1)
    x = torch.tensor([[-0.5], [0.25]])
    assert_close(toy.absolute_forward(W1, W2, b, x), x.abs())


def test_aligned_keeps_overlaps_and_points_feature_zero_along_the_first_axis():
    W = torch.randn(4, 3, 6, generator=generator(0, "aligned"), dtype=torch.float64)
    turned = toy.aligned(W)
    assert_close(gram(turned), gram(W))
    assert (turned[:, 0, 0] > 0).all() and turned[:, 1:, 0].abs().max() < 1e-12 and turned[:, 2, 1].abs().max() < 1e-12


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="tanh"):
        toy.forward(torch.ones(1, 2), torch.zeros(2), torch.ones(1, 2), "tanh")
    for p in (torch.zeros(1, 2), torch.full((1, 2), 1.5), torch.ones(2)):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            toy.expected_loss(1, p, torch.ones(1, 2))


def test_initial_weights_have_the_stated_variance():
    W = toy.layout(20, 5).views(toy.initial(500, 20, 5, generator(0, "initial")))["W"]
    assert W.var().item() == pytest.approx(2 / 25, rel=0.05)
    assert np.isclose(W.mean().item(), 0, atol=0.01)


def test_zero_predictor_loss_by_hand():
    importance = torch.tensor([1.0, 0.5])
    assert_close(toy.zero_predictor_loss(importance, 0.2), torch.tensor(1.5 * 0.2 / 3))
    per_model = toy.zero_predictor_loss(importance, torch.tensor([[0.2], [0.8]]))
    assert_close(per_model, torch.tensor([0.1, 0.4]))


def test_mean_predictor_loss_is_the_variance():
    importance = torch.tensor([1.0, 0.5])
    assert_close(toy.mean_predictor_loss(importance, 0.2), torch.tensor(1.5 * (0.2 / 3 - 0.04 / 4)))
    x = torch.rand(200_000, generator=generator(0, "mean"))
    x = torch.where(x < 0.4, x / 0.4, 0)
    assert_close(x.var(), toy.mean_predictor_loss(torch.ones(1), 0.4), rtol=0.02, atol=0)


def test_zero_predictor_loss_is_what_sampling_gives():
    p, rng = 0.15, generator(4, "test")
    importance = 0.7 ** torch.arange(20)
    active = torch.rand(200_000, 20, generator=rng) < p
    x = active * torch.rand(200_000, 20, generator=rng)
    measured = (importance * x.square()).sum(-1).mean()
    assert_close(measured, toy.zero_predictor_loss(importance, p), rtol=0.02, atol=0)


def test_normalised_loss_is_one_for_the_zero_predictor_at_every_sparsity():
    importance, p = torch.tensor([1.0, 0.5, 0.1]), torch.tensor([[0.01], [0.3], [1.0]])
    zero = toy.zero_predictor_loss(importance, p)
    assert_close(toy.normalised_loss(zero, importance, p), torch.ones(3))
    assert_close(toy.normalised_loss(zero / 4, importance, p), torch.full((3,), 0.25))


def test_losses_refuse_what_is_no_probability():
    with pytest.raises(ValueError, match=r"feature_probability must lie in \[0, 1\], got values from 1.5 to 1.5"):
        toy.zero_predictor_loss(torch.ones(3), 1.5)
    with pytest.raises(ValueError, match="zero predictor's loss is 0"):
        toy.normalised_loss(torch.tensor(0.1), torch.ones(3), 0.0)
