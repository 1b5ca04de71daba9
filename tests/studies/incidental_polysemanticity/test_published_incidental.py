"""The replica draws what the published code draws from its global generators, and reads what it printed."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from lib.studies.incidental_polysemanticity import leaky_sae, published
from lib.studies.incidental_polysemanticity.data import weighted_targets
from lib.studies.incidental_polysemanticity.decoder_overlap import macs, weighted_overlap
from lib.studies.incidental_polysemanticity.kernels import network_layout
from lib.studies.incidental_polysemanticity.network import PUBLISHED


@pytest.fixture
def global_seed_4():
    """Both global generators seeded with 4, and put back afterwards."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        np.random.seed(4)
        yield
    np.random.set_state(state)


def literal_features() -> torch.Tensor:
    x = torch.zeros(1024, 8)
    for row in x:
        active = [members for members in ((0, 1, 2), (3, 4), (5, 6, 7)) if torch.rand(1) > 0.4]
        for members in active:
            strength = torch.rand(1) * 0.5 + 0.5
            common = strength * torch.randn(1)
            for i in members:
                row[i] = common + (1 - strength) * torch.randn(1)
    return (x * (torch.rand_like(x) > 0.5)).relu()


def test_every_draw_is_that_of_the_global_generators(global_seed_4):
    features = literal_features()
    linears = [nn.Linear(8, 12), *(nn.Linear(12, 12) for _ in range(3)), nn.Linear(12, 8)]
    random_rows = torch.cat([p.detach().flatten() for linear in linears for p in linear.parameters()])
    for linear in linears:
        nn.init.orthogonal_(linear.weight, gain=nn.init.calculate_gain("relu"))
    torch.rand(2, 820, 12)  # two steps of bipolar noise
    encoder, decoder = nn.Linear(12, 16), nn.Linear(16, 12, bias=False)
    bias = nn.init.uniform_(encoder.bias.detach(), 0.0, 0.1)

    cells = [PUBLISHED[c] for c in (0, 1, 5)]  # random bipolar, orthogonal bipolar, orthogonal positive kurtosis
    untrained = published.train_published_networks(cells, [4], steps=0)
    trained = published.train_published_networks(cells, [4], steps=2)
    assert torch.equal(untrained.networks.features[0], features[:820])
    assert torch.equal(untrained.networks.theta[0, 0], random_rows)
    at = network_layout(12).views(untrained.networks.theta[1, 0])
    assert all(torch.equal(at[f"W{i}"], linear.weight) for i, linear in enumerate(linears))
    sae = leaky_sae.sae_layout(12).views(trained.sae_start[1, 0])
    assert torch.equal(sae["b_enc"], bias)
    unit = decoder.weight.detach() / (decoder.weight.detach().norm(dim=0, keepdim=True) + 1e-8)
    torch.testing.assert_close(sae["W_dec"], unit.T)
    assert not torch.equal(trained.sae_start[2, 0], trained.sae_start[1, 0])  # its noise left torch's stream alone


def test_noise_is_that_of_the_global_generators(global_seed_4):
    student, bipolar = published.LegacyStudent(4), published.LegacyBipolar(torch.get_rng_state())
    for _ in range(3):
        heavy = torch.from_numpy(stats.t.rvs(df=3, size=(820, 12))).float() * 0.1 / np.sqrt(3)
        torch.testing.assert_close(student(), heavy)
        torch.testing.assert_close(bipolar(), ((torch.rand(820, 12) > 0.5).float() * 2 - 1) * 0.1)


def test_first_step_is_that_of_the_published_loop(global_seed_4):
    features = literal_features()
    linears = [nn.Linear(8, 12), *(nn.Linear(12, 12) for _ in range(3)), nn.Linear(12, 8)]
    net = nn.Sequential(*(part for linear in linears for part in (linear, nn.GELU())))[:-1]
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(3):
        hidden = net[:-1](features[:820])
        noisy = hidden + ((torch.rand_like(hidden) > 0.5).float() * 2 - 1) * 0.1
        adam.zero_grad()
        (net[-1](noisy) - weighted_targets(features[:820])).square().mean().backward()
        adam.step()
    plain = torch.cat([p.detach().flatten() for p in net.parameters()])
    done = published.train_published_networks([PUBLISHED[3]], [4], steps=3)
    torch.testing.assert_close(done.networks.theta[0, 0], plain, rtol=0, atol=2e-6)


def test_combination_8_reads_what_the_published_code_reads():
    """For seed 0 it prints Interference 7.7527 untied, 6.1637 tied, MACS .2762 and .2131, errors .0018 and .0096."""
    replica = published.train_published_networks([PUBLISHED[7]], [0])
    assert float(replica.networks.train_mse) == pytest.approx(0.0018, abs=6e-5)
    assert float(replica.networks.val_mse) == pytest.approx(0.0096, abs=6e-5)
    for tied, printed, similarity in (("none", 7.7527, 0.2762), ("storage", 6.1637, 0.2131)):
        D = replica.autoencoders(tied).directions()
        assert float(weighted_overlap(D)) == pytest.approx(printed, abs=2e-3)
        assert float(macs(D)) == pytest.approx(similarity, abs=2e-4)
