"""Coders of activations: standardising, the published loss in the library's units, and a perfect reconstruction."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.studies.topoloss_hypotheses import coders as frontier


def sample(n=200, d=8, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * torch.arange(1.0, d + 1) + 3


def test_standardised_activations_have_unit_spread_and_come_back():
    x = sample()
    x[:, 2] = 5.0
    scale = frontier.standard(x)
    z = scale.apply(x)
    assert torch.allclose(z.mean(0), torch.zeros(8), atol=1e-5) and z[:, 2].eq(0).all()
    assert torch.allclose(z.std(0)[[0, 1, 3]], torch.ones(3)) and torch.allclose(scale.undo(z), x, atol=1e-5)


def test_sweep_shares_its_start_and_reads_more_variance_with_more_latents():
    x = frontier.standard(sample(400)).apply(sample(400))
    coders = frontier.topk_sweep(x, 4, (1, 4), 60, 64, seed=1)
    costs = [frontier.cost(coder, x) for coder in coders]
    assert [coder.n_latents for coder in coders] == [32, 32] and costs[1]["fvu"] < costs[0]["fvu"] < 1
    assert costs[0]["l0"] == pytest.approx(1)
    assert frontier.cost(coders[0], x[:3])["dead"] >= 29 / 32  # three samples wake three latents at most


def test_published_coder_is_the_sources():
    x = sample(300)
    start = frontier.published_coder(x, 4, 0, seed=0)
    assert start.W_dec.eq(0).all() and start.b_enc.eq(0).all() and start(x).eq(0).all()
    assert 0.9 * (6 / 8) ** 0.5 < start.W_enc.abs().max() <= (6 / 8) ** 0.5 and start.W_enc.shape == (32, 8)
    coder, again, other = (frontier.published_coder(x, 4, 200, seed) for seed in (0, 0, 1))
    assert torch.equal(coder.W_dec, again.W_dec) and not torch.equal(coder.W_dec, other.W_dec)
    assert frontier.cost(coder, x)["fvu"] < 0.1 < frontier.cost(coder, x)["l0"] / 32
    norms = coder.W_dec.norm(dim=1)
    assert norms.std() > 0.01 * norms.mean()  # rows keep the length they grow to


def test_latents_that_name_their_class_are_selective_and_permuted_labels_are_not():
    labels = np.arange(60) % 3
    one_hot = torch.eye(3)[labels]
    coder = SimpleNamespace(encode=torch.relu)
    found = frontier.latent_selectivity(coder, torch.cat([one_hot, torch.zeros(60, 1)], 1), labels,
                                        np.random.default_rng(0))
    assert found["peak"] == 1 and 1 / 3 < found["peak_null"] < 0.7  # the silent latent does not count


@pytest.mark.parametrize(("shape", "unit_dim"), [((30, 5, 8), 2), ((30, 8, 2, 2), 1)])
def test_a_perfect_coder_costs_nothing_and_one_that_knows_the_mean_only_something(shape, unit_dim):
    acts, head = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.randn(8, 3)
    rest = [axis for axis in (1, 2, 3)[: len(shape) - 1] if axis != unit_dim]

    def tail(values, _):
        return values.mean(rest) @ head

    logits = tail(acts, None)
    site = SimpleNamespace(acts=acts, unit_dim=unit_dim, n_units=8, tail=tail, images=None, logits=logits,
                           labels=logits.argmax(1))
    scale = frontier.standard(acts.movedim(unit_dim, -1).reshape(-1, 8))
    assert frontier.cross_entropy_added(site, lambda z: z, scale) == pytest.approx(0, abs=1e-5)
    assert frontier.cross_entropy_added(site, torch.zeros_like, scale) > 0.05
