"""Layers of images: each layer by its own positions, and what cannot be combined."""
import numpy as np
import pytest
import torch
from torch import nn

from lib.rng import generator
from lib.spd import Decomposition, Mask, Routed, SPDConfig, decompose
from lib.spd.components import plain
from lib.spd.losses import Step
from lib.spd.masks import Noise

IMAGES = torch.tensor([[[[0.05, 0.3], [0.3, 0.95]]], [[[0.05, 0.0], [0.0, 0.0]]]])  # [2, 1, 2, 2]


class Branches(nn.Module):
    """conv(x) and fc(x) side by side, run in either order: the same network."""

    def __init__(self, conv_first: bool):
        super().__init__()
        self.conv, self.fc, self.conv_first = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(4, 1, bias=False), conv_first
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.fc.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))

    def forward(self, x, op=plain):
        calls = {"conv": lambda: op("conv", self.conv, x), "fc": lambda: op("fc", self.fc, x.flatten(1))}
        out = {name: calls[name]() for name in (("conv", "fc") if self.conv_first else ("fc", "conv"))}
        return torch.cat([out["conv"].flatten(1), out["fc"]], 1)


def readable(conv_first: bool = True) -> Decomposition:
    """One component a site, V U = W, and a gate that says its activation: g is the pixel, and the first pixel."""
    dec = Decomposition(Branches(conv_first), IMAGES, 1, gate="linear")
    values = {"conv.V": [[1.0]], "conv.U": [[1.0]], "fc.V": [[1.0], [0.0], [0.0], [0.0]], "fc.U": [[1.0]]}
    gates = {f"{site}.gate.{part}": [1.0 if part == "w" else 0.0] for site in ("conv", "fc") for part in "wb"}
    return dec.load({name: torch.tensor(value) for name, value in {**values, **gates}.items()})


@pytest.mark.parametrize("conv_first", [True, False])
def test_a_site_is_penalised_by_its_own_positions_or_by_the_first_sites(conv_first):
    """Of 5 images with 4 positions and 1: own is a mean of each; first divides both sums by those of the first."""
    dec = readable(conv_first)

    def importance(**options):
        config = SPDConfig(1, p=1.0, eps=0.0, **options)
        return float(Step(dec, IMAGES, config, Noise([0], False)).importance().detach())

    conv, fc = 1.65, 0.1  # sums of g over all positions
    assert importance() == pytest.approx(conv / 8 + fc / 2)
    assert importance(positions="first") == pytest.approx((conv + fc) / (8 if conv_first else 2))
    assert importance(site_importance={"fc": 3.0, "conv": 0.5}) == pytest.approx(0.5 * conv / 8 + 3 * fc / 2)


def test_factors_on_sites_that_there_are_not_are_refused():
    with pytest.raises(ValueError, match="site_importance names fc3; the sites are conv, fc"):
        decompose(Branches(True), IMAGES, SPDConfig(1, steps=1, site_importance={"fc3": 1.0}))


def test_importances_mask_one_site_at_a_time_by_hand():
    """Masked alone, conv gives x^2 and the rest is right; fc gives x_0^2. MSE over 5 outputs of 2 images."""
    dec = readable()
    x, first = IMAGES.flatten(), IMAGES[:, 0, 0, 0]
    conv, fc = ((v - v * v).square().sum() / 10 for v in (x, first))
    found = Step(dec, IMAGES, SPDConfig(1), Noise([0], False)).ci_layerwise()
    assert float(found.detach()) == pytest.approx(float(conv + fc) / 2, rel=1e-5)


def conv_net() -> Routed:
    net = Routed(nn.Conv2d(2, 4, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5), nn.ReLU(),
                 nn.Linear(5, 3))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator(0, "net", *p.shape)))
    return net


X = torch.randn(40, 2, 6, 6, generator=generator(0, "images"))


def test_panels_of_a_network_that_cannot_take_them_are_refused_at_the_door():
    config = SPDConfig(4, steps=2, batch_size=8)
    with pytest.raises(ValueError, match="linear sites only"):
        decompose(conv_net(), X, config, [0, 1])
    with pytest.raises(ValueError, match=r"panels send \[2, B, \.\.\.\].*Routed\.behind"):
        decompose(conv_net(), X, config, [0, 1], sites=["3", "5"])


def test_what_lies_behind_is_decomposed_on_its_cached_inputs_as_in_the_whole():
    net = conv_net()
    tail, inputs = net.behind("3", X, batch=7)
    assert [name for name, _ in tail.named_children()] == ["3", "4", "5"] and inputs.shape == (40, 36)
    assert torch.allclose(tail(inputs), net(X), atol=1e-6)
    config = SPDConfig(4, steps=6, batch_size=8, warmup_steps=2)
    inside = decompose(net, X, config, 1, sites=["3", "5"], progress=False).decomposition
    beside = decompose(tail, inputs, config, [0, 1], progress=False)[1].decomposition
    for name, value in inside.arrays().items():
        assert np.allclose(value, beside.arrays()[name], atol=1e-5), name
    with pytest.raises(ValueError, match="there is no module 'x'; there are 0, 1"):
        net.behind("x", X)


def test_every_layer_of_an_image_network_adds_up_to_it():
    dec = Decomposition(conv_net(), X, 8)
    masks = {name: Mask(torch.ones(1), delta=1.0) for name in dec.sites}
    assert torch.allclose(dec(X, masks), dec.target(X), atol=1e-5)
