"""Encoder rules against numbers worked out by hand, and their gradients; a new rule is one class."""
import json
import math

import dense_rules
import numpy as np
import pytest
import torch
from pydantic import Field

from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit, functions, load, losses, rule
from lib.sparse_coders.kernels import sparse
from lib.sparse_coders.losses import Moment
from lib.sparse_coders.rule import RULES, Rule

H = torch.tensor([[0.5, -3.0, 2.0, 1.0], [-1.0, -2.0, -0.5, 0.25]], dtype=torch.float64)


def coder_of(rule, h, **options):
    """A coder whose pre-activations of unit vectors are the rows of h."""
    coder = SparseCoder(len(h), h.shape[1], rule, dtype=h.dtype, **options)
    with torch.no_grad():
        coder.W_enc.copy_(h.T)
    return coder


def latents(rule, moment=None, **options):
    found = (coder := coder_of(rule, H, **options)).rule.latents(coder, torch.eye(2, dtype=H.dtype), moment)
    return (found if coder.rule.is_dense else found.dense(4)).tolist(), coder


def test_relu_keeps_what_is_positive():
    assert latents("relu")[0] == [[0.5, 0, 2, 1], [0, 0, 0, 0.25]]


def test_topk_keeps_the_largest_and_never_a_negative_one():
    assert latents("topk", k=2)[0] == [[0, 0, 2, 1], [0, 0, 0, 0.25]]  # -.5 is second in row 1, and off


def test_abs_topk_keeps_signs():
    assert latents("abs_topk", k=2)[0] == [[0, -3, 2, 0], [-1, -2, 0, 0]]
    assert dense_rules.abs_topk(H, torch.tensor([3, 1])).tolist() == [[0, -3, 2, 1], [0, -2, 0, 0]]


def test_batch_topk_shares_the_budget_over_the_batch_and_remembers_where_it_cut():
    found, coder = latents("batch_topk", Moment(), k=2)
    assert found == [[0.5, 0, 2, 1], [0, 0, 0, 0.25]] and coder.inference_threshold == 0.25
    found, coder = latents("batch_topk", Moment(), k=1)
    assert found == [[0, 0, 2, 1], [0, 0, 0, 0]] and coder.inference_threshold == coder.batch_threshold == 1
    assert coder.encode(torch.eye(2, dtype=H.dtype)).tolist() == [[0, 0, 2, 0], [0, 0, 0, 0]]  # above 1


def test_log_uniform_k_reaches_both_ends_and_halves_per_octave():
    k = functions.log_uniform_k(200_000, 4, 31, generator(0, "k"))
    assert k.min() == 4 and k.max() == 31
    shares = [((k >= low) & (k < 2 * low)).double().mean() for low in (4, 8, 16)]  # log2(4)..log2(32): three octaves
    assert all(abs(float(share) - 1 / 3) < 0.01 for share in shares)
    assert (functions.log_uniform_k(1000, 5, 5, generator(1, "k")) == 5).all()


def test_jumprelu_gradients_by_hand():
    h = torch.tensor([[0.4, 0.6, 1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    threshold = torch.full((4,), 0.5, dtype=torch.float64, requires_grad=True)
    out = functions.jumprelu(h, threshold, 0.4)
    assert out.tolist() == [[0, 0.6, 1.0, 0]]
    (out * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert h.grad.tolist() == [[0, 2, 3, 0]]
    # window: |h - .5| < .2 holds for the first two; -g · θ/ε = -1 · .5/.4, -2 · .5/.4
    assert threshold.grad.tolist() == [-1.25, -2.5, 0, 0]


def test_step_counts_pre_activations_and_has_no_gradient_to_them():
    h = torch.tensor([[0.4, 0.6, 1.0], [0.45, 0.0, 0.51]], dtype=torch.float64, requires_grad=True)
    threshold = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    out = functions.step(h, threshold, 0.4)
    assert out.tolist() == [[0, 1, 1], [0, 0, 1]]
    out.sum().backward()
    assert h.grad is None
    assert threshold.grad.tolist() == pytest.approx([-2 / 0.4, -1 / 0.4, -1 / 0.4])


def test_step_of_latents_would_hide_what_lies_just_below_the_threshold():
    h, threshold = torch.tensor([[0.45]]), torch.tensor([0.5], requires_grad=True)
    (right,) = torch.autograd.grad(functions.step(h, threshold, 0.4).sum(), threshold)
    latents = functions.jumprelu(h, threshold, 0.4).detach()
    (wrong,) = torch.autograd.grad(functions.step(latents, threshold, 0.4).sum(), threshold)
    assert right < 0 and wrong == 0


def test_gated_decides_by_one_bias_and_measures_by_another():
    coder = coder_of("gated", torch.tensor([[1.0, 1.0, -1.0]]))
    with torch.no_grad():
        coder.b_enc.copy_(torch.tensor([0.0, -2.0, 3.0]))
        coder.log_scale[0] = math.log(2.0)
        coder.b_mag.copy_(torch.tensor([0.5, 5.0, 4.0]))
    assert coder.encode(torch.ones(1, 1)).tolist()[0] == pytest.approx([2.5, 0.0, 3.0])


def test_prolu_cuts_by_its_bias_and_shifts_nothing():
    bias = torch.tensor([-1.0, 0.5, -0.5, 0.25], dtype=H.dtype)
    found, coder = latents("prolu")
    assert found == latents("relu")[0]  # before a bias is learned
    with torch.no_grad():
        coder.b_enc.copy_(bias)
    x = torch.eye(2, dtype=H.dtype)
    assert coder.encode(x).tolist() == [[0, 0, 2, 1], [0, 0, 0, 0.25]]  # .5 is below its cut at 1; 2 and 1 are whole
    jump = coder_of("jumprelu", H)
    with torch.no_grad():
        jump.threshold.copy_((-bias).clamp_min(0))  # a positive bias does nothing
    assert torch.equal(jump.encode(x), coder.encode(x))


@pytest.mark.parametrize(("through", "to_m", "to_b"), [(False, [0, 2, 3], [0, 2, 3]), (True, [0, 5, 9], [0, 3, 6])])
def test_prolu_gradients_by_hand(through, to_m, to_b):
    m = torch.tensor([[0.5, 1.5, 2.0]], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64, requires_grad=True)
    out = functions.prolu(m, bias, through)
    assert out.tolist() == [[0, 1.5, 2]]
    (out * torch.tensor([1.0, 2.0, 3.0])).sum().backward()  # through: g (1 + m) and g m where it is on
    assert m.grad.tolist() == [to_m] and bias.grad.tolist() == to_b


def test_matching_pursuit_explains_the_residual_step_by_step():
    dictionary = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    x = torch.tensor([[2.0, 1.0]], dtype=torch.float64)
    # products 2 and 2: the first atom takes 2, the residual (0, 1) has products 0 and .8
    assert functions.matching_pursuit(x, dictionary, 1).tolist() == [[2, 0]]
    assert functions.matching_pursuit(x, dictionary, 2).tolist()[0] == pytest.approx([2, 0.8])
    # a third step returns to the first atom: residual (-.48, .36), products -.48 and 0
    assert functions.matching_pursuit(x, dictionary, 3).tolist()[0] == pytest.approx([1.52, 0.8])


def test_codes_of_dense_latents_say_the_same():
    latents = dense_rules.abs_topk(torch.randn(5, 7, generator=generator(0, "h")), 3)
    latents[2] = 0
    codes = sparse(latents.split(2))
    assert torch.equal(codes.dense(7), latents) and codes.offsets.tolist() == [0, 3, 6, 6, 9]


def test_options_of_every_rule_say_what_they_mean():
    for each in RULES.values():
        assert all(field.description for field in each.model_fields.values())
        assert all(f"    {name}: " in each.__doc__ for name in each.model_fields)


def test_numpy_numbers_are_taken_as_options():
    numbers = {"k": np.int64(3), "aux": np.float32(0.5), "groups": np.array([8, 40])}
    coder = SparseCoder(np.int64(6), np.int32(40), "matryoshka", **numbers)
    assert coder.config() == SparseCoder(6, 40, "matryoshka", k=3, aux=0.5, groups=[8, 40]).config()
    json.dumps(coder.config())


def test_every_problem_with_options_has_a_line():
    with pytest.raises(ValueError) as caught:
        SparseCoder(6, 40, "relu", l1="a", l1_norm="both", k=3)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and all("relu" in line for line in lines)


@pytest.mark.parametrize("fused_from", [1 << 20, 0])
def test_a_twelfth_rule_is_one_class(fused_from, tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "FUSED_FROM", fused_from)
    monkeypatch.setattr(rule, "RULES", dict(RULES))

    class Softplus(Rule, name="softplus"):
        """f = log(1 + e^(h - shift)) where h > shift, cost = l2 · mean_b |f|^2, with a shift for each latent."""

        l2: float = Field(0.01, ge=0, description="weight of the penalty")
        start: float = Field(0.2, description="shift before training")

        @property
        def per_latent(self):
            return {"shift": self.start}

        def latents(self, w, x, moment=None):
            h = w.pre_acts(x, moment) - w.shift
            return torch.nn.functional.softplus(h) * (h > 0)

        def cost(self, w, latents, moment):
            return moment.sparsity * self.l2 * latents.square().sum(1).mean()

    x = torch.randn(2000, 6, generator=generator(0, "x")).relu()
    coder = SparseCoder(6, 24, "softplus", l2=0.05)
    result = fit(coder, x, steps=200, batch_size=128, lr=3e-3, resample_every=50, dead_after=500, progress=False)
    assert result.metrics["fvu"] < 0.3 and (coder.shift != 0.2).any()
    again = load(coder.save(tmp_path / "coder.safetensors"))
    assert again.rule == coder.rule and torch.equal(again(x), coder(x))
    assert torch.allclose(coder.encode_sparse(x).dense(24), coder.encode(x))
    with pytest.raises(ValueError, match="rule softplus has no option l1; it has l2, start"):
        SparseCoder(6, 24, "softplus", l1=1.0)
