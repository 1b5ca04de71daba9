"""Costs of noise against sums by hand, and which laws and readouts care about the units."""
from __future__ import annotations

import pytest
import torch

from lib.rng import generator
from lib.studies.incidental_polysemanticity.kurtosis import linear_cost, tied_relu_cost, turning_cost
from lib.studies.incidental_polysemanticity.noise import unit_noise


def test_linear_cost_by_hand():
    """W = [[1, 2], [0, 3]], xi = (1, -1) and (1, 1): W xi = (-1, -3) and (3, 3); mean of 10 and 18."""
    W = torch.tensor([[[1.0, 2.0], [0.0, 3.0]]])
    assert linear_cost(W, torch.tensor([[1.0, -1.0], [1.0, 1.0]])).tolist() == [14.0]


def test_tied_relu_cost_by_hand():
    """W = 1 (one feature, one unit), noise ±.5: (1 ± .5 - 1)^2 = .25. Two features on two units: the silent output of
    each input costs relu(±.5)^2, .125 on average, so 2 (.25 + .125)."""
    noise = torch.tensor([[0.5], [-0.5]])
    assert tied_relu_cost(torch.ones(1, 1, 1), noise).item() == pytest.approx(0.25)
    both = torch.tensor([[0.5, 0.5], [-0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]])
    assert tied_relu_cost(torch.eye(2)[None], both).item() == pytest.approx(0.75)


def test_cost_is_what_is_added_to_the_clean_error():
    """Noise of size 0 costs nothing, whatever the error of the model itself."""
    W = torch.randn(3, 4, 5, generator=generator(0, "W"))
    assert tied_relu_cost(W, torch.zeros(2, 5)).abs().max() < 1e-5


@pytest.mark.parametrize("law", ["bipolar", "uniform", "gaussian", "laplace"])
def test_a_linear_readout_does_not_care_about_the_law(law):
    """E|W xi|^2 = sigma^2 |W|_F^2 for each law, before and after turning."""
    W = torch.randn(2, 8, 12, generator=generator(1, "W"))
    noise = 0.1 * unit_noise(law, (200_000, 12), generator(2, law))
    assert linear_cost(W, noise) == pytest.approx(0.01 * W.square().sum((1, 2)), rel=0.02)
    assert turning_cost(W, noise, linear_cost, 8, generator(3, "turn")).abs().max() < 0.02


def test_a_relu_readout_cares_unless_the_noise_is_gaussian():
    """Overlaps of -1/7 protect silent outputs from pushes of .15, all that bipolar noise on one unit gives."""
    n, m = 8, 16
    W = torch.linalg.cholesky(8 / 7 * torch.eye(n) - 1 / 7 + 1e-4 * torch.eye(n))  # rows of length 1, cosines -1/7
    W = torch.nn.functional.pad(W, (0, m - n))[None]
    found = {}
    for law in ("bipolar", "gaussian", "laplace"):
        noise = 0.15 * unit_noise(law, (20_000, m), generator(4, law))
        found[law] = turning_cost(W, noise, tied_relu_cost, 16, generator(5, "turn")).item()
    assert found["bipolar"] > 0.02 and abs(found["gaussian"]) < 0.01 and found["laplace"] < -0.002
