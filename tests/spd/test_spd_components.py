"""Sites: the components and the delta add up to the target; convolutions against explicit patches."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib.rng import generator
from lib.spd import Decomposition, Mask, Routed, TiedLinear
from lib.spd.components import Conv2d, site_of
from lib.spd.targets import ToyModel
from lib.studies.spd_causal_graphs.mlp import MLP

CONVS = {
    "plain": {},
    "stride": {"stride": 2},
    "padding": {"padding": (2, 1)},
    "dilation": {"dilation": (1, 2), "padding": 2},
    "groups": {"groups": 2, "stride": (2, 1), "padding": 1},
}


def normal(*shape, label="x"):
    return torch.randn(*shape, generator=generator(0, "test", label, *shape))


def conv(dtype=torch.float32, **options):
    layer = nn.Conv2d(4, 6, (3, 2), **options).requires_grad_(False)
    layer.weight.data, layer.bias.data = normal(*layer.weight.shape).to(dtype), normal(6).to(dtype)
    return layer


def targets():
    network = Routed(conv(stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 4 * 4, 3))
    words = Routed(nn.Embedding(11, 5), nn.Linear(5, 7))
    yield "mlp", MLP((6, 5, 4), 0), normal(9, 6)
    yield "toy", ToyModel(normal(2, 5), normal(5)), normal(8, 5)
    yield "conv", network, normal(3, 4, 7, 7)
    yield "embedding", words, torch.randint(11, (3, 6), generator=generator(0, "words"))


@pytest.mark.parametrize(("name", "target", "x"), [pytest.param(*t, id=t[0]) for t in targets()])
@pytest.mark.parametrize("delta", [0.0, 0.4, 1.0])
def test_all_on_with_delta_is_the_target(name, target, x, delta):
    dec = Decomposition(target, x, 8)
    masks = {site: Mask(torch.ones(1), delta=1.0) for site in dec.sites}
    assert torch.allclose(dec(x, masks), target(x), atol=1e-5)
    for capture in (None, dec.capture(x)):
        assert torch.allclose(dec(x, masks, capture), target(x), atol=1e-5)
    # a mask m and a delta mask d act as the weight m Ŵ + d Δ, whatever the kind of site
    first = next(iter(dec.sites))
    whole = dec.sites[first].weight
    half = {first: Mask(torch.full((1,), 0.5), delta=delta)}
    expected = 0.5 * dec.weight(first) + delta * dec.delta(first)
    wanted = target(x, lambda name, module, x: _with(module, expected, x) if name == first else module(x))
    assert torch.allclose(dec(x, half), wanted, atol=1e-5)
    assert not torch.allclose(expected, whole, atol=1e-2), "the decomposition starts away from the target"


def _with(module, weight, x):
    if isinstance(module, nn.Conv2d):
        return F.conv2d(x, weight, module.bias, module.stride, module.padding, module.dilation, module.groups)
    return F.embedding(x, weight) if isinstance(module, nn.Embedding) else F.linear(x, weight, module.bias)


@pytest.mark.parametrize("options", CONVS.values(), ids=CONVS)
def test_convolution_is_its_patches(options):
    layer = conv(torch.float64, **options)
    x, site = normal(2, 4, 8, 7).double(), Conv2d(layer)
    g, C = layer.groups, 8
    V, U = normal(site.d_in, C).double(), normal(C, site.d_out).double()
    patches = F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT  # [B, positions, d]
    parts = patches.unflatten(2, (g, -1))  # [B, positions, g, d_in]
    group = torch.arange(C) // (C // g)
    a = torch.stack([parts[:, :, group[c]] @ V[:, c] for c in range(C)], -1)  # [B, positions, C]
    acts = site.acts(x, V)
    assert torch.allclose(acts.flatten(1, 2), a, atol=1e-12)
    out = torch.zeros(2, a.shape[1], 6, dtype=torch.float64)
    for c in range(C):
        channels = slice(group[c] * site.d_out, (group[c] + 1) * site.d_out)
        out[:, :, channels] += a[:, :, c, None] * U[c]
    written = site.write(acts, U)
    assert torch.allclose(written.flatten(2).mT, out, atol=1e-12)
    assert torch.allclose(written, _with(layer, site.compose(V, U), x) - layer.bias[:, None, None], atol=1e-12)
    assert torch.allclose(site.vectors(x).flatten(1, 2), patches)


def test_masks_act_position_by_position():
    x = normal(2, 4, 6, 6)
    dec = Decomposition(Routed(conv()), x, 3)
    (name,), acts = dec.sites, dec.capture(x).acts["0"]
    assert acts.shape == (2, 4, 5, 3)
    mask = torch.rand(acts.shape, generator=generator(0, "mask"))
    out = dec(x, {name: Mask(mask, delta=torch.zeros(2, 4, 5))})
    by_hand = torch.einsum("bhwc,co->bohw", acts * mask, dec.parts[name].U) + dec.sites[name].bias[:, None, None]
    assert torch.allclose(out, by_hand, atol=1e-5)


def test_tied_weight_is_one_parameter():
    model = ToyModel(normal(2, 5), normal(5))
    assert [name for name, _ in model.named_parameters()] == ["linear1.weight", "linear2.bias"]
    assert torch.equal(model.linear2.weight, model.linear1.weight.T)
    assert isinstance(model.linear2, TiedLinear)
    dec = Decomposition(model, normal(1, 5), 4, ties={"linear2": "linear1"})
    assert torch.allclose(dec.weight("linear2"), dec.weight("linear1").T)
    assert not [name for name in dec.named_parameters() if name in ("linear2.V", "linear2.U")]
    with pytest.raises(ValueError, match="not the transpose"):
        Decomposition(MLP((3, 3, 3), 0), normal(1, 3), 4, ties={"fc2": "fc1"})


def test_panels_are_the_decompositions_alone():
    model, x = MLP((4, 3, 2), 0), normal(2, 7, 4)
    panels, alone = Decomposition(model, x[0], 5, seed=[3, 8]), Decomposition(model, x[0], 5, seed=8)
    for name, value in panels.panel(1).named_parameters().items():
        assert torch.equal(value, alone.named_parameters()[name])
    both, one = panels.causal_importance(x), alone.causal_importance(x[1])
    assert all(torch.allclose(both[name][1], one[name], atol=1e-6) for name in one)
    masks = {name: Mask(g, delta=0.3) for name, g in both.items()}
    only = {name: Mask(g, delta=0.3) for name, g in one.items()}
    assert torch.allclose(panels(x, masks)[1], alone(x[1], only), atol=1e-6)


def test_refusals():
    x = normal(1, 4, 8, 8)
    with pytest.raises(ValueError, match="groups"):
        Decomposition(Routed(conv(groups=2)), x, 5)
    with pytest.raises(ValueError, match="linear sites only"):
        Decomposition(Routed(conv()), x, 4, seed=[0, 1])
    with pytest.raises(ValueError, match="no site fc9"):
        Decomposition(MLP((2, 2), 0), x[0, 0, :1, :2], 4, sites=["fc9"])
    with pytest.raises(TypeError, match="cannot be decomposed"):
        site_of("norm", nn.LayerNorm(3))
    small = MLP((2, 2), 0), x[0, 0, :1, :2]
    with pytest.raises(ValueError, match="there is no site"):
        Decomposition(Silent(), x, 4)
    for named in ({"fc2": 3}, {"fc1": 3, "fc2": 3}, {}):
        with pytest.raises(ValueError, match="the sites are fc1"):
            Decomposition(*small, named)
    with pytest.raises(ValueError, match="a component or more"):
        Decomposition(*small, 0)
    with pytest.raises(ValueError, match="there is no site fc9"):
        Decomposition(*small, 3, ties={"fc1": "fc9"})
    with pytest.raises(ValueError, match="different numbers"):
        toy = ToyModel(normal(2, 5), normal(5))
        Decomposition(toy, normal(1, 5), {"linear1": 3, "linear2": 4}, ties={"linear2": "linear1"})
    with pytest.raises(ValueError, match="do not fit"):
        Decomposition(MLP((2, 2), 0), x[0, 0, :1, :2], 4).load({})


class Silent(nn.Conv2d):
    """A target that sends nothing through the operation."""

    def __init__(self):
        super().__init__(4, 2, 3)

    def forward(self, x, op=None):
        return super().forward(x)


def test_norms_are_no_sites():
    net = Routed(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))
    assert list(Decomposition(net, normal(3, 4), 5).sites) == ["0", "3"]
