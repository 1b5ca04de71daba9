"""Masks with a gradient, and the ones without."""
import pytest
import torch

from lib.rng import generator
from lib.sparse_coders import SparseCoder, functions
from lib.sparse_coders.losses import Moment, loss


def test_bernoulli_sampling_has_exactly_zero_gradient():
    importance = torch.full((100, 3), 0.4, requires_grad=True)
    drawn = torch.bernoulli(importance, generator=generator(0, "u"))
    (grad,) = torch.autograd.grad((drawn * torch.arange(3)).sum(), importance)
    assert (grad == 0).all()
    assert not functions.sample_mask(importance, generator(0, "u"), "bernoulli").requires_grad


def test_noise_masks_have_gradient_one_minus_u_and_keep_what_matters():
    importance = torch.tensor([[0.0, 0.25, 1.0]]).expand(1000, 3).contiguous().requires_grad_()
    mask = functions.sample_mask(importance, generator(0, "u"))
    u = torch.rand(1000, 3, generator=generator(0, "u"))
    (grad,) = torch.autograd.grad(mask.sum(), importance)
    assert torch.allclose(grad, 1 - u)
    assert torch.equal(mask[:, 2], torch.ones(1000)) and (mask[:, 1] >= 0.25).all()
    assert mask[:, 0].mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("sampling", ["noise", "bernoulli"])
def test_the_gate_learns_from_reconstruction_under_noise_only(sampling):
    coder = SparseCoder(4, 8, "stochastic", l1=0.0, sampling=sampling, masked=0.0)
    x = torch.randn(64, 4, generator=generator(0, "x"))
    loss(coder, x, moment=Moment(rng=generator(0, "noise"))).reconstruction.backward()
    if sampling == "noise":
        assert (coder.b_gate.grad != 0).any() and (coder.W_enc.grad != 0).any()
    else:
        assert coder.b_gate.grad is None or (coder.b_gate.grad == 0).all()


def test_importance_is_clamped_and_leaks_only_back_inside():
    gate = torch.tensor([[-1.0, -1.0, 0.5, 2.0, 2.0]], requires_grad=True)
    ci = functions.causal_importance(gate, torch.ones(5), torch.zeros(5))
    assert ci.tolist() == [[0, 0, 0.5, 1, 1]]
    ci.backward(torch.tensor([[-1.0, 1.0, 1.0, 1.0, -1.0]]))
    # descent on a negative gradient raises a closed gate; on a positive one it lowers one above 1
    assert gate.grad[0].tolist() == pytest.approx([-0.01, 0, 1, 0.01, 0])


def test_inference_is_deterministic_and_sparse():
    coder = SparseCoder(4, 32, "stochastic", seed=1)
    x = torch.randn(16, 4, generator=generator(0, "x"))
    assert torch.equal(coder.encode(x), coder.encode(x)) and (coder.encode(x) == 0).any()


def test_the_loss_is_the_mean_over_a_random_mask_and_the_importances_themselves():
    coder = SparseCoder(4, 8, "stochastic", l1=0.3, p=2.0, masked=0.25)
    x = torch.randn(64, 4, generator=generator(0, "x"))
    terms = loss(coder, x, moment=Moment(rng=generator(0, "noise")))
    h = coder.pre_acts(x)
    ci = h.clamp(0, 1)  # gate_scale 1, b_gate 0
    u = torch.rand(64, 8, generator=generator(0, "noise"))

    def error(mask):
        return (((h.relu() * mask) @ coder.W_dec + coder.b_dec - x) ** 2).sum().item() / 64

    expected = 0.75 * error(ci + (1 - ci) * u) + 0.25 * error(ci)
    assert terms.reconstruction.item() == pytest.approx(expected, rel=1e-5)
    assert terms.penalty.item() == pytest.approx(0.3 * (ci**2).sum().item() / 64, rel=1e-5)
    assert torch.equal(terms.fired, (coder.encode(x) != 0).sum(0))
