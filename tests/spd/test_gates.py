"""Gates and leaky sigmoids against plain autograd; masks, and the gradient that Bernoulli masks do not have."""
import math

import pytest
import torch
import torch.nn.functional as F

from lib.rng import generator
from lib.spd import gates
from lib.spd.masks import Mask, Noise, masked, subset_routes


def normal(*shape, label="x"):
    return torch.randn(*shape, generator=generator(0, "gates", label), dtype=torch.float64)


def plain_mlp(a, w1, b1, w2, b2):
    """g = sum_h w2_h gelu(w1_h a + b1_h) + b2, with everything stored."""
    return (F.gelu(a.unsqueeze(-1) * w1 + b1) * w2).sum(-1) + b2


@pytest.mark.parametrize("lead", [(301,), (3, 5, 7), (2, 4, 3)])
@pytest.mark.parametrize("tile", [2**6, 2**9, 2**16])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_mlp_gate_is_plain_autograd(monkeypatch, lead, tile, layout):
    monkeypatch.setitem(gates.TILES, "cpu", tile)
    C, m = 6, 5
    parts = [normal(*shape, label=i).requires_grad_() for i, shape in enumerate([(C, m)] * 3 + [(C,)])]
    acts = normal(*lead, C)
    if layout == "columns":
        acts = acts.flatten(0, -2).T.contiguous().T.view(*lead, C)
    acts.requires_grad_()
    g, wanted = gates._MLP.apply(acts, *parts), plain_mlp(acts, *parts)
    assert torch.allclose(g, wanted, atol=1e-12)
    arriving = normal(*lead, C, label="arriving")
    ours = torch.autograd.grad(g, [acts, *parts], arriving)
    theirs = torch.autograd.grad(wanted, [acts, *parts], arriving)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape and torch.allclose(one, other, atol=1e-11)


@pytest.mark.parametrize("kind", gates.GATES)
def test_panels_of_gates_are_gates_side_by_side(kind):
    C, d, m = 4, 3, 5
    parts = [gates.initial(kind, C, d, m, generator(s)) for s in range(3)]
    both = {name: torch.stack([p[name] for p in parts]) for name in parts[0]}
    acts, vectors = normal(3, 7, C).float(), normal(3, 7, d).float()
    together = gates.gate(kind, both, acts, vectors)
    alone = torch.stack([gates.gate(kind, p, a, v) for p, a, v in zip(parts, acts, vectors, strict=True)])
    assert together.shape == (3, 7, C) and torch.allclose(together, alone, atol=1e-6)


def test_vector_gates_by_hand():
    d, C, m, x = 3, 2, 4, normal(5, 3).float()
    p = gates.initial("vector_mlp", C, d, m, generator(0))
    for c in range(C):
        wanted = F.gelu(x @ p["w1"][c] + p["b1"][c]) @ p["w2"][c] + p["b2"][c]
        assert torch.allclose(gates.gate("vector_mlp", p, x.new_zeros(5, C), x)[:, c], wanted, atol=1e-6)
    p = gates.initial("shared_mlp", C, d, m, generator(0))
    wanted = F.gelu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
    assert torch.allclose(gates.gate("shared_mlp", p, x.new_zeros(5, C), x), wanted, atol=1e-6)
    p = {"w": torch.tensor([2.0, 3.0]), "b": torch.tensor([0.5, 0.0])}
    assert gates.gate("linear", p, torch.tensor([[1.0, -1.0]]), None).tolist() == [[2.5, -3.0]]
    with pytest.raises(ValueError, match="mlp, vector_mlp"):
        gates.initial("deep", C, d, m, generator(0))


def slope(sigmoid, at, arriving):
    g = torch.tensor([at], requires_grad=True)
    out = sigmoid(g, 0.01)
    out.backward(torch.tensor([arriving]))
    return float(out.detach()), float(g.grad)


@pytest.mark.parametrize(
    ("at", "arriving", "value", "gradient"),
    [(0.4, 2.0, 0.4, 2.0), (0.4, -2.0, 0.4, -2.0), (-0.3, -2.0, 0.0, -0.02), (-0.3, 2.0, 0.0, 0.0),
     (0.0, -2.0, 0.0, -0.02), (1.5, 2.0, 1.0, 0.0), (1.5, -2.0, 1.0, 0.0)],
)
def test_lower_leaky(at, arriving, value, gradient):
    assert slope(gates.lower_leaky, at, arriving) == pytest.approx((value, gradient))


@pytest.mark.parametrize(
    ("at", "arriving", "value", "gradient"),
    [(0.4, 2.0, 0.4, 2.0), (-0.3, -2.0, 0.0, 0.0), (-0.3, 2.0, 0.0, 0.0), (1.5, 2.0, 1.005, 0.02),
     (1.5, -2.0, 1.005, -0.02)],
)
def test_upper_leaky(at, arriving, value, gradient):
    assert slope(gates.upper_leaky, at, arriving) == pytest.approx((value, gradient))


@pytest.mark.parametrize("delta", [0.0, "drawn"])
def test_fused_masks_are_plain_autograd(delta):
    acts, g = normal(9, 4).requires_grad_(), normal(9, 4, label="g").sigmoid().requires_grad_()
    r, delta = normal(9, 4, label="r").sigmoid(), normal(9, label="d") if delta else 0.0
    arriving = normal(9, 4, label="arriving")
    ours = masked(acts, Mask(g, r, delta))
    wanted = acts * (g + (1 - g) * r - (delta.unsqueeze(-1) if isinstance(delta, torch.Tensor) else delta))
    assert torch.allclose(ours, wanted)
    pairs = zip(*(torch.autograd.grad(t, [acts, g], arriving) for t in (ours, wanted)), strict=True)
    assert all(torch.allclose(one, other) for one, other in pairs)


def test_noise_lies_between_importance_and_one():
    g = torch.linspace(0, 1, 50).expand(4000, 50)
    for kind, values in (("uniform", None), ("binary", {0.0, 1.0})):
        importance, r = Noise([0], False).noise(g, kind)
        mask = importance + (1 - importance) * r
        assert bool((mask >= g).all() and (mask <= 1).all())
        # mean of m is (1 + g)/2 for both; 4,000 draws: standard error at most .5/sqrt(4000) = .008
        assert torch.allclose(mask.mean(0), (1 + g[0]) / 2, atol=0.04)
        assert values is None or set(r.unique().tolist()) == values


def gradient(kind, seed):
    g = torch.full((64, 5), 0.3, requires_grad=True)
    acts = torch.randn(64, 5, generator=generator(seed, "acts"))
    importance, r = Noise([seed], False).noise(g, kind)
    masked(acts, Mask(importance, r, 0.5)).square().sum().backward()
    return g.grad


def test_bernoulli_masks_teach_nothing():
    g = torch.full((64, 5), 0.3, requires_grad=True)
    torch.bernoulli(g, generator=generator(0)).sum().backward()
    assert not g.grad.any(), "torch's own: a gradient, and it is 0"
    for seed in range(20):
        assert not gradient("bernoulli", seed).any()
        assert gradient("uniform", seed).abs().mean() > 0.01 and gradient("binary", seed).abs().mean() > 0.01
    m, none = Noise([0], False).noise(torch.full((100_000,), 0.3), "bernoulli")
    assert none is None and float(m.mean()) == pytest.approx(0.3, abs=0.01)


def test_subset_routes_are_uniform():
    names, rows = ["a", "b", "c"], torch.zeros(60_000)
    routes = subset_routes(names, Noise([0], False), rows)
    chosen = torch.stack([routes[name] for name in names], -1)
    counts = torch.bincount(chosen.sum(-1), minlength=4) / len(rows)
    # k uniform in 1..3, each layer in k of them with chance k/3: P(layer) = 2/3; standard errors below .002
    assert counts[0] == 0 and torch.allclose(counts[1:], torch.full((3,), 1 / 3), atol=0.01)
    assert torch.allclose(chosen.float().mean(0), torch.full((3,), 2 / 3), atol=0.01)


def test_a_panel_draws_what_it_draws_alone():
    like = torch.zeros(2, 3, 4)
    both, alone = Noise([5, 9], True).uniform(like), Noise([9], False).uniform(like[1])
    assert torch.equal(both[1], alone)
    assert not torch.equal(both[0], both[1])
    assert math.isclose(float(Noise([0], False).uniform(torch.zeros(100_000)).mean()), 0.5, abs_tol=0.005)


def test_masks_with_other_shapes_or_a_trained_delta_are_plain_autograd():
    acts, g = normal(9, 4).requires_grad_(), normal(9, 4, label="g").sigmoid().requires_grad_()
    delta = normal(9, label="d").requires_grad_()
    for r in (normal(9, 4, label="r").sigmoid(), normal(1, 4, label="r").sigmoid()):
        ours, wanted = masked(acts, Mask(g, r, delta)), acts * (g + (1 - g) * r - delta.unsqueeze(-1))
        pairs = zip(*(torch.autograd.grad(t.sum(), [acts, g, delta]) for t in (ours, wanted)), strict=True)
        assert torch.allclose(ours, wanted) and all(torch.allclose(one, other) for one, other in pairs)
    found = torch.autograd.grad(masked(acts, Mask(g, r, 0.5)).sum(), [acts, g])  # one draw for all positions
    assert torch.allclose(found[1], acts * (1 - r))
