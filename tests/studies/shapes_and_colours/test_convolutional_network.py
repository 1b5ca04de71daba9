"""The network with heads, its twin without convolutions, and the four metrics on both."""
import numpy as np
import pytest
import torch

from lib.rng import generator
from lib.spd import Decomposition
from lib.studies.shapes_and_colours import convolutions, net
from lib.studies.shapes_and_colours.measure import masked, over_positions
from lib.studies.shapes_and_colours.net import SITES, Heads, network, unfolded

X = torch.rand(6, 3, 28, 28, generator=generator(0, "images"))
C = {"conv1": 4, "conv2": 6, "conv3": 5, "fc1": 7, "fc2": 8}


def decomposed() -> Decomposition:
    return Decomposition(network({"shape": 3, "colour": 3, "size": 3}, 28, 0), X[:2], C, width=4)


def test_heads_are_slices_of_the_logits_and_a_class_that_is_missing_never_wins():
    heads = Heads({"shape": 2, "size": 3})
    assert heads.slices == {"shape": slice(0, 2), "size": slice(2, 5)}
    out = heads(torch.arange(5.0))
    assert out[0, :2].tolist() == [0, 1] and out[1].tolist() == [2, 3, 4]
    assert out[0].softmax(-1)[2] == 0 and out.shape == (2, 3)
    assert Heads({"a": 3, "b": 3})(torch.arange(12.0).view(2, 6)).tolist()[1] == [[6, 7, 8], [9, 10, 11]]
    assert repr(heads) == "Heads(shape=2, size=3)"


def test_the_network_halves_images_three_times_and_follows_its_seed():
    one, same, other = (network({"combination": 27}, 28, seed) for seed in (0, 0, 1))
    assert one(X).shape == (6, 1, 27) and one.fc1.weight.shape == (32, 256)
    assert torch.equal(one.conv2.weight, same.conv2.weight) and not torch.equal(one.fc1.weight, other.fc1.weight)
    assert float(one.conv2.weight.detach().var()) == pytest.approx(2 / 200, rel=0.05) and not one.conv1.bias.any()


def test_the_twin_without_convolutions_is_the_same_function():
    dec = decomposed()
    twin = unfolded(dec, X[:2])
    assert [type(site).__name__ for site in twin.sites.values()] == ["Linear"] * 5
    assert torch.allclose(twin.target(X), dec.target(X), atol=1e-5)
    mine, theirs = dec.causal_importance(X), twin.causal_importance(X)
    assert [g.shape for g in mine.values()] == [g.shape for g in theirs.values()]
    assert all(torch.allclose(mine[site], theirs[site], atol=1e-5) for site in SITES)
    assert torch.allclose(masked(dec, X), masked(twin, X), atol=1e-4)


def test_the_four_metrics_agree_with_the_twin_and_a_wrong_one_would_not():
    dec = decomposed()
    dec = Decomposition(dec.target.double(), X.double()[:2], C, width=4).load(dec.arrays())
    wanted = torch.zeros(6, 3, dtype=torch.long)
    one, twin = (convolutions._read(d, X.double(), wanted, 0) for d in (dec, unfolded(dec, X.double()[:2])))
    for metric in convolutions.METRICS:
        assert all(np.abs(one[metric][site] - twin[metric][site]).max() < 1e-9 for site in SITES), metric
    scaled = convolutions._averaged_by_first(one)
    assert scaled["density"]["fc1"] == pytest.approx(one["density"]["fc1"] / 196)
    assert scaled["histogram"]["conv1"] == pytest.approx(one["histogram"]["conv1"])
    assert scaled["directions"] is one["directions"]
    other = Decomposition(dec.target, X.double()[:2], C, width=4, seed=1)
    broken = convolutions._read(other, X.double(), wanted, 0)
    for metric in ("histogram", "density", "directions"):
        assert np.abs(one[metric]["conv2"] - broken[metric]["conv2"]).max() > 1e-5, metric


def test_peaks_and_means_over_positions_are_those_of_the_importances():
    dec = decomposed()
    peak, mean = over_positions(dec, X, batch=4)
    g = dec.causal_importance(X)
    assert peak["conv2"] == pytest.approx(g["conv2"].amax((1, 2)).numpy())
    assert mean["conv2"] == pytest.approx(g["conv2"].mean((1, 2)).numpy())
    assert np.array_equal(peak["fc2"], mean["fc2"])


def test_masks_may_be_rounded_and_set_at_some_sites():
    dec = decomposed()
    out = masked(dec, X, ("fc2",), edge=-1.0)  # every importance is above: all components, no delta
    fc1 = dec.capture(X).inputs["fc2"]
    assert torch.allclose(out.flatten(1), fc1 @ dec.weight("fc2").T + dec.target.fc2.bias, atol=1e-5)
    assert net.BEHIND == SITES[3:]
