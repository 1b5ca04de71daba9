"""The small language model: its size, that it looks back alone, what it reads untrained; its loss by hand."""
import math

import pytest
import torch

from lib.models.causal_lm import Attention, Rotary, causal_lm, cross_entropy
from lib.rng import generator

TOKENS = torch.randint(0, 50, (3, 12), generator=generator(0, "test", "tokens"))


def test_its_size_is_the_one_the_book_trains():
    assert sum(p.numel() for p in causal_lm(2048).parameters()) == 2048 * 128 + 128 * 128 + 2 * 198_272 + 256


def test_a_token_changes_nothing_before_it():
    model = causal_lm(50, 16, 2, 2, 12)
    other = TOKENS.clone()
    other[:, 7] = (other[:, 7] + 1) % 50
    before, after = model(TOKENS), model(other)
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.allclose(before[:, 7:], after[:, 7:])
    with pytest.raises(ValueError, match="T up to 12"):
        model(torch.zeros(1, 13, dtype=torch.int64))


def test_weights_follow_from_the_seed_and_leave_the_global_stream_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a, b, c = (causal_lm(50, 16, 2, 2, 12, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a(TOKENS), b(TOKENS)) and not torch.allclose(a(TOKENS), c(TOKENS))
    assert a.unembed.weight is a.embed.token.weight
    assert float(a.blocks[0].mlp.up.weight.detach().std()) == pytest.approx(.02, .1)
    assert float(a.blocks[0].mlp.down.weight.detach().std()) == pytest.approx(.01, .1)  # .02 / sqrt(2 · 2)


def test_an_untrained_model_knows_nothing_and_its_loss_is_minus_the_log_of_a_softmax():
    model = causal_lm(50, 16, 2, 2, 12).eval().requires_grad_(False)
    found = cross_entropy(model, TOKENS, batch=2)
    assert found.shape == (3, 11) and float(found.mean()) == pytest.approx(math.log(50), abs=0.05)
    by_hand = -model(TOKENS)[1, 4].softmax(0)[TOKENS[1, 5]].log()
    assert float(found[1, 4]) == pytest.approx(float(by_hand), abs=1e-5)


def test_a_rotation_keeps_lengths_and_makes_products_depend_on_the_distance_alone():
    turn = Rotary(4, 100.0)
    x, y = (torch.randn(4, generator=generator(0, "test", name)).expand(6, 4) for name in "xy")
    a, b = turn(x), turn(y)
    assert torch.allclose(a.norm(dim=1), x.norm(dim=1)) and torch.equal(a[0], x[0])
    assert torch.allclose(a[2] @ b[0], a[5] @ b[3], atol=1e-5) and not torch.allclose(a[2] @ b[0], a[2] @ b[1])
    cos, sin, (p, q) = math.cos(2 / 10), math.sin(2 / 10), x[2, 2:].tolist()  # position 2, pair 1: 2 · 100^(-2/4)
    assert a[2, 2:].tolist() == pytest.approx([p * cos - q * sin, p * sin + q * cos], abs=1e-6)


def test_shared_keys_and_values_are_those_of_full_attention_with_copies():
    shared, full = Attention(8, 4, 2, False), Attention(8, 4, 4, False)
    full.load_state_dict(shared.state_dict() | {
        f"{name}.weight": getattr(shared, name).weight.view(2, 1, 2, 8).expand(2, 2, 2, 8).reshape(8, 8)
        for name in "kv"})
    x = torch.randn(2, 5, 8, generator=generator(0, "test", "x"))
    assert torch.allclose(shared(x), full(x), atol=1e-6)
