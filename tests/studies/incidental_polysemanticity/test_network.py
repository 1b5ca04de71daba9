"""The batched factorial is the plain loop run by run, and its cells share everything but their factors."""
from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from published_modules import network, train_network

from lib.studies.incidental_polysemanticity import network as mlp
from lib.studies.incidental_polysemanticity.data import Samples, grouped_samples
from lib.studies.incidental_polysemanticity.kernels import network_layout, network_noise
from lib.studies.incidental_polysemanticity.network import PUBLISHED, Cell

MIXED = [
    Cell("random", "bipolar", "L1", "gelu", 1e-2, clip=0.05),
    Cell("orthogonal", "none", "L2", "relu", 1e-2),
    Cell("orthogonal", "bipolar", "none", "relu", clip=0.5),
    Cell("random", "none", "L2", "gelu", 1e-1),
]


@pytest.fixture(scope="module")
def small():
    return mlp.train(PUBLISHED, [2, 5], steps=30)


def test_every_factor_follows_the_plain_loop_in_float64():
    data = Samples(*(part.double() if part.is_floating_point() else part for part in grouped_samples([3, 5])))
    start = torch.stack([mlp.initial(cell.init, [3, 5], 12) for cell in MIXED]).double()
    draws = [0.1 * torch.randn(2, 12, 820, generator=torch.Generator().manual_seed(t)).double() for t in range(25)]
    walk = iter(draws)
    done = mlp.train_rows(MIXED, start, data, {"bipolar": walk.__next__}, steps=25)
    for c, cell in enumerate(MIXED):
        for s in range(2):
            net = network(start[c, s], cell)
            train_network(net, cell, data.x[s, :820], data.y[s, :820], [draw[s].T for draw in draws])
            plain = torch.cat([p.detach().flatten() for p in net.parameters()])
            torch.testing.assert_close(done.theta[c, s], plain, rtol=0, atol=1e-12)


def test_what_is_returned_is_the_clean_network(small):
    data = grouped_samples([2, 5])
    for c, s in ((0, 0), (3, 1), (7, 0)):
        net = network(small.theta[c, s], PUBLISHED[c])
        torch.testing.assert_close(small.acts[c, s], net[:-1](data.x[s, :820]))
        torch.testing.assert_close(small.val_acts[c, s], net[:-1](data.x[s, 820:]))
        torch.testing.assert_close(small.train_mse[c, s], F.mse_loss(net(data.x[s, :820]), data.y[s, :820]))
        torch.testing.assert_close(small.val_mse[c, s], F.mse_loss(net(data.x[s, 820:]), data.y[s, 820:]))
        assert torch.equal(small.weights["W2"][c, s], net[4].weight) and torch.equal(small.features, data.x[:, :820])


@pytest.mark.parametrize("tile_rows", [1, 3])
def test_a_run_is_the_same_alone_and_among_others(small, tile_rows):
    alone = mlp.train([PUBLISHED[6]], [5], steps=30)
    again = mlp.train(PUBLISHED, [2, 5], steps=30, tile_rows=tile_rows)
    torch.testing.assert_close(alone.theta[0, 0], small.theta[6, 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again.theta, small.theta, rtol=1e-4, atol=1e-5)


def test_cells_that_differ_in_nothing_that_acts_are_equal():
    """Common random numbers: without a penalty L1 and L2 are one run, and a clip that never binds is none."""
    cells = [Cell("random", "positive_kurtosis", reg, "gelu", 0.0, clip=clip)
             for reg in ("L1", "L2", "none") for clip in (None, 1e9)]
    done = mlp.train(cells, [0], steps=10).theta
    assert all(torch.equal(a, b) for a, b in pairwise(done))
    noisy = mlp.train([Cell("random", "bipolar", "none", "gelu")], [0], steps=10).theta
    assert (noisy[0] - done[0]).abs().max() > 1e-4


def test_starts_have_their_law():
    orthogonal = network_layout(12).views(mlp.initial("orthogonal", [0, 1], 12))
    torch.testing.assert_close(orthogonal["W1"] @ orthogonal["W1"].mT, 2 * torch.eye(12).expand(2, 12, 12))
    torch.testing.assert_close(orthogonal["W0"].mT @ orthogonal["W0"], 2 * torch.eye(8).expand(2, 8, 8))
    assert not orthogonal["b3"].any()
    uniform = network_layout(12).views(mlp.initial("random", range(50), 12))
    for name, fan_in in (("W0", 8), ("b0", 8), ("W4", 12), ("b4", 12)):
        bound = fan_in**-0.5
        assert 0.98 * bound < uniform[name].abs().max() <= bound
        assert float(uniform[name].std()) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_untrained_networks_are_their_starts():
    done = mlp.train([Cell("orthogonal")], [7], steps=0)
    assert torch.equal(done.theta[0], mlp.initial("orthogonal", [7], 12))


def test_training_fits_and_noise_of_each_step_differs():
    done = mlp.train([Cell(act="gelu", hidden_dim=9)], [0], steps=300)
    assert done.train_mse < 0.25 * mlp.train([Cell(act="gelu", hidden_dim=9)], [0], steps=0).train_mse
    source = network_noise("bipolar", [1, 2], 0.1, (12, 820), "cpu")
    first, second = source(), source()
    assert first.shape == (2, 12, 820) and not torch.equal(first, second) and not torch.equal(first[0], first[1])
    torch.testing.assert_close(first.abs(), torch.full_like(first, 0.1))


@pytest.mark.parametrize("kind", ["bipolar", "positive_kurtosis"])
def test_expected_loss_under_noise_knows_its_variance_and_not_its_law(kind):
    """A linear map and a squared error follow the noise: E loss = clean loss + sigma^2 |W4|^2 / 8 whatever the law."""
    done = mlp.train([Cell(act="gelu")], [0], steps=50)
    hidden, target = done.acts[0, 0], grouped_samples([0]).y[0, :820]
    W, b = done.weights["W4"][0, 0], done.weights["b4"][0, 0]
    source = network_noise(kind, [0], 0.1, (12, 820), "cpu")
    losses = [F.mse_loss((hidden + source()[0].T) @ W.T + b, target) for _ in range(400)]
    excess = torch.stack(losses).mean() - done.train_mse[0, 0]
    assert float(excess) == pytest.approx(float(0.01 * W.square().sum() / 8), rel=0.05)


@pytest.mark.parametrize(
    "wrong", [{"init": "zero"}, {"noise": "gaussian"}, {"reg": "l1"}, {"act": "tanh"}, {"penalty": -1.0}, {"clip": 0.0}]
)
def test_unknown_factors_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Cell(**wrong)


def test_mixed_widths_and_repeated_seeds_are_refused():
    with pytest.raises(ValueError, match="one hidden_dim"):
        mlp.train([Cell(hidden_dim=9), Cell(hidden_dim=12)], [0])
    with pytest.raises(ValueError, match="distinct seeds"):
        mlp.train([Cell()], [0, 0])
    with pytest.raises(ValueError, match="bipolar or positive_kurtosis"):
        network_noise("laplace", [0], 0.1, (12, 820), "cpu")
