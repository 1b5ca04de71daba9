"""Encoder rules against numbers worked out by hand, and their gradients."""
import math

import pytest
import torch

from lib.rng import generator
from lib.sparse_coders import rules

H = torch.tensor([[0.5, -3.0, 2.0, 1.0], [-1.0, -2.0, -0.5, 0.25]], dtype=torch.float64)


def test_relu_keeps_what_is_positive():
    assert rules.relu(H).tolist() == [[0.5, 0, 2, 1], [0, 0, 0, 0.25]]


def test_topk_keeps_the_largest_and_never_a_negative_one():
    assert rules.topk(H, 2).tolist() == [[0, 0, 2, 1], [0, 0, 0, 0.25]]  # -.5 is second in row 1, and off


def test_abs_topk_keeps_signs():
    assert rules.abs_topk(H, 2).tolist() == [[0, -3, 2, 0], [-1, -2, 0, 0]]


def test_abs_topk_takes_a_k_for_each_sample():
    assert rules.abs_topk(H, torch.tensor([3, 1])).tolist() == [[0, -3, 2, 1], [0, -2, 0, 0]]


def test_batch_topk_shares_the_budget_over_the_batch():
    latents, threshold = rules.batch_topk(H, 3)
    assert latents.tolist() == [[0.5, 0, 2, 1], [0, 0, 0, 0]] and threshold == 0.5


def test_batch_topk_of_nothing_positive_has_no_threshold():
    latents, threshold = rules.batch_topk(-torch.ones(2, 3), 4)
    assert not latents.any() and threshold == math.inf


def test_log_uniform_k_reaches_both_ends_and_halves_per_octave():
    k = rules.log_uniform_k(200_000, 4, 31, generator(0, "k"))
    assert k.min() == 4 and k.max() == 31
    shares = [((k >= low) & (k < 2 * low)).double().mean() for low in (4, 8, 16)]  # log2(4)..log2(32): three octaves
    assert all(abs(float(share) - 1 / 3) < 0.01 for share in shares)
    assert (rules.log_uniform_k(1000, 5, 5, generator(1, "k")) == 5).all()


def test_jumprelu_gradients_by_hand():
    h = torch.tensor([[0.4, 0.6, 1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    threshold = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    out = rules.jumprelu(h, threshold, 0.4)
    assert out.tolist() == [[0, 0.6, 1.0, 0]]
    (out * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert h.grad.tolist() == [[0, 2, 3, 0]]
    # window: |h - .5| < .2 holds for the first two; -g · θ/ε = -1 · .5/.4, -2 · .5/.4
    assert threshold.grad.tolist() == [-1.25, -2.5, 0, 0]


def test_step_counts_pre_activations_and_has_no_gradient_to_them():
    h = torch.tensor([[0.4, 0.6, 1.0], [0.45, 0.0, 0.51]], dtype=torch.float64, requires_grad=True)
    threshold = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    out = rules.step(h, threshold, 0.4)
    assert out.tolist() == [[0, 1, 1], [0, 0, 1]]
    out.sum().backward()
    assert h.grad is None
    assert threshold.grad.tolist() == pytest.approx([-2 / 0.4, -1 / 0.4, -1 / 0.4])


def test_step_of_latents_would_hide_what_lies_just_below_the_threshold():
    h, threshold = torch.tensor([[0.45]]), torch.tensor([0.5], requires_grad=True)
    (right,) = torch.autograd.grad(rules.step(h, threshold, 0.4).sum(), threshold)
    latents = rules.jumprelu(h, threshold, 0.4).detach()
    (wrong,) = torch.autograd.grad(rules.step(latents, threshold, 0.4).sum(), threshold)
    assert right < 0 and wrong == 0


def test_gated_decides_by_one_bias_and_measures_by_another():
    projection = torch.tensor([[1.0, 1.0, -1.0]])
    b_gate, log_scale = torch.tensor([0.0, -2.0, 3.0]), torch.tensor([math.log(2.0), 0.0, 0.0])
    out = rules.gated(projection, b_gate, log_scale, torch.tensor([0.5, 5.0, 4.0]))
    assert out.tolist() == [[2.5, 0.0, 3.0]]


def test_matching_pursuit_explains_the_residual_step_by_step():
    dictionary = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    x = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    # products 2 and 2: the first atom takes 2, the residual (0, 1) has products 0 and .8
    assert rules.matching_pursuit(x, dictionary, 1).tolist() == [[2, 0]]
    assert rules.matching_pursuit(x, dictionary, 2).tolist()[0] == pytest.approx([2, 0.8])
    # a third step returns to the first atom: residual (-.48, .36), products -.48 and 0
    assert rules.matching_pursuit(x, dictionary, 3).tolist()[0] == pytest.approx([1.52, 0.8])


def test_sparse_says_the_same_as_dense():
    latents = rules.abs_topk(torch.randn(5, 7, generator=generator(0, "h")), 3)
    latents[2] = 0
    codes = rules.sparse(latents)
    assert torch.equal(codes.dense(7), latents) and codes.offsets.tolist() == [0, 3, 6, 6, 9]
