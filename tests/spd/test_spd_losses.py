"""Terms of the loss against their literal formulas, and the samples that can be left out."""
import pytest
import torch
from torch import nn

from lib.rng import generator
from lib.spd import Decomposition, Mask, Routed, SPDConfig
from lib.spd.gates import lower_leaky, upper_leaky
from lib.spd.losses import Step, divergence, faithfulness
from lib.spd.masks import Noise
from lib.spd.targets import ToyModel, toy_draw
from lib.spd.trainer import without_zero_rows
from lib.studies.spd_causal_graphs.mlp import MLP


def normal(*shape, label="x"):
    return torch.randn(*shape, generator=generator(0, "losses", label))


def step(dec, x, panels=False, seeds=(0,), **options):
    rest = {name: options.pop(name) for name in ("progress", "weights", "n_rows") if name in options}
    return Step(dec, x, SPDConfig(n_components=4, **options), Noise(seeds, panels), **rest)


@pytest.fixture
def small():
    target, x = MLP((4, 3, 2), 0), normal(6, 4)
    return Decomposition(target, x, 5), x


def conv_net():
    net = Routed(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, stride=2), nn.Flatten(), nn.Linear(3 * 2 * 2, 2))
    return net, normal(5, 1, 7, 7)


def test_faithfulness_by_hand():
    dec = Decomposition(MLP((2, 1), 0), torch.zeros(1, 2), 1)
    dec.sites["fc1"].module.weight.data = torch.tensor([[3.0, 1.0]])
    dec.load(dec.arrays() | {"fc1.V": torch.tensor([[1.0], [2.0]]), "fc1.U": torch.tensor([[2.0]])})
    # Ŵ = (2, 4), W - Ŵ = (1, -3), (1 + 9)/2
    assert float(faithfulness(dec).detach()) == pytest.approx(5.0)


def test_divergences_by_hand():
    out, wanted = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert float(divergence(out, wanted, "mse")) == (1 + 4 + 16) / 4
    assert float(divergence(out, wanted, "mse", n_rows=4)) == (1 + 4 + 16) / 8
    p, q = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
    kl = 0.25 * torch.tensor(0.5).log() + 0.75 * torch.tensor(1.5).log()
    assert float(divergence(q.log()[None], p.log()[None], "kl")) == pytest.approx(float(kl))
    both = divergence(torch.stack([out, wanted]), torch.stack([wanted, wanted]), "mse", lead=1)
    assert both.tolist() == [5.25, 0.0]


@pytest.mark.parametrize("p", [0.9, 1.0, 2.0])
def test_importance_is_normalised_by_each_layers_own_positions(p):
    net, x = conv_net()
    dec = Decomposition(net, x, 4)
    ours = step(dec, x, p=p)
    literal, shapes = 0, []
    for g in ours.gates.values():
        shapes.append(tuple(g.shape))
        per_component = (upper_leaky(g, 0.01) + 1e-12).pow(p).reshape(-1, g.shape[-1])
        literal = literal + per_component.sum() / len(per_component)
    assert shapes == [(5, 5, 5, 4), (5, 2, 2, 4), (5, 4)]
    value = ours.importance()
    assert float(value.detach()) == pytest.approx(float(literal.detach()), rel=1e-5)
    gates = list(ours.gates.values())
    pairs = zip(torch.autograd.grad(value, gates, retain_graph=True), torch.autograd.grad(literal, gates), strict=True)
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-7) for one, other in pairs)
    # by the first layer's 125 positions, what a published implementation divides by, the others would count less
    by_first = sum((upper_leaky(g) + 1e-12).pow(p).sum() for g in gates) / 125
    assert abs(float((by_first - literal).detach())) > 0.05 * float(literal.detach())


def test_exponent_is_annealed():
    config = SPDConfig(n_components=1, p=2.0, p_final=1.0, p_from=0.5)
    assert [config.exponent(t) for t in (0, 0.5, 0.75, 1)] == [2.0, 2.0, 1.5, 1.0]
    assert SPDConfig(n_components=1, p=2.0).exponent(0.9) == 2.0
    halfway = SPDConfig(n_components=1, p=2.0, p_final=0.5, p_to=0.5)
    assert [halfway.exponent(t) for t in (0, 0.25, 0.5, 1)] == [2.0, 1.25, 0.5, 0.5]


def test_reconstructions_are_the_masked_passes(small):
    dec, x = small
    wanted = dec.target(x)
    one, ours = torch.ones(1), step(dec, x)
    masks = {name: Mask(one, delta=0.0) for name in dec.sites}
    assert torch.allclose(ours.unmasked(), (dec(x, masks) - wanted).square().mean())
    masks = {name: Mask(lower_leaky(g), delta=0.0) for name, g in ours.gates.items()}
    assert torch.allclose(ours.ci_masked(), (dec(x, masks) - wanted).square().mean())
    masks = step(dec, x).stochastic_masks()
    assert torch.allclose(step(dec, x).recon(), (dec(x, masks) - wanted).square().mean())
    drawn = step(dec, x)
    each = [{name: drawn._stochastic(g)} for name, g in drawn.importances.items()]
    expected = sum((dec(x, masks) - wanted).square().mean() for masks in each) / 2
    assert torch.allclose(step(dec, x).layerwise(), expected)


def test_hidden_compares_outputs_of_sites(small):
    dec, x = small
    record: dict = {}
    dec(x, step(dec, x).stochastic_masks(), record=record)
    before = dec.capture(x)
    expected = sum(
        (record[name] - dec.sites[name].add_bias(before.outs[name])).square().mean() for name in dec.sites
    ) / 2
    assert torch.allclose(step(dec, x).hidden(), expected)


def test_subset_of_all_layers_is_recon(small, monkeypatch):
    dec, x = small
    everywhere = {name: torch.ones(6, dtype=torch.bool) for name in dec.sites}
    nowhere = {name: ~route for name, route in everywhere.items()}
    for routes, expected in ((everywhere, step(dec, x).recon()), (nowhere, torch.tensor(0.0))):
        monkeypatch.setattr("lib.spd.losses.subset_routes", lambda *_, routes=routes: routes)
        assert torch.allclose(step(dec, x).subset(), expected, atol=1e-12)


def test_adversary_on_all_layers_is_the_adversary_and_on_none_finds_nothing(small, monkeypatch):
    dec, x = small
    given = {"attack_steps": 1, "attack_size": 1.0}
    everywhere = {name: torch.ones(6, dtype=torch.bool) for name in dec.sites}
    nowhere = {name: ~route for name, route in everywhere.items()}
    for routes, expected in ((everywhere, step(dec, x, **given).adversarial()), (nowhere, torch.tensor(0.0))):
        monkeypatch.setattr("lib.spd.losses.subset_routes", lambda *_, routes=routes: routes)
        assert torch.allclose(step(dec, x, **given).adversarial_subset(), expected, atol=1e-12)


def test_one_step_of_the_adversary_by_hand(monkeypatch):
    """One component a = x v on x = 1, W = 1 and V U = 1: no mask below 1 is better, so the noise goes to 0."""
    dec = Decomposition(MLP((1, 1), 0), torch.zeros(1, 1), 1, gate="linear")
    dec.sites["fc1"].module.weight.data.fill_(1.0)
    one = torch.ones(1, 1)
    dec.load({"fc1.V": one, "fc1.U": one, "fc1.gate.w": torch.zeros(1), "fc1.gate.b": torch.full((1,), 0.25)})
    monkeypatch.setattr("lib.spd.losses.subset_routes", lambda *_: {"fc1": torch.ones(1, dtype=torch.bool)})
    worst = step(dec, one, attack_steps=1, attack_size=1.0).adversarial_subset()
    assert float(worst.detach()) == pytest.approx((1 - 0.25) ** 2)  # the mask is the importance


def test_subset_of_a_convolutional_net_has_a_gradient():
    net, x = conv_net()
    dec = Decomposition(net, x, 4)
    assert step(dec, x).importances["0"].shape[1:3] == (5, 5)
    loss = step(dec, x).subset()
    grads = torch.autograd.grad(loss, list(dec.named_parameters().values()), allow_unused=True)
    assert float(loss.detach()) > 0 and all(g is not None and g.isfinite().all() for g in grads)


@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_adversary_is_worse_than_chance(scope):
    net, x = conv_net()
    dec = Decomposition(net, x, 4)
    chance = max(float(step(dec, x, seeds=[s]).recon().detach()) for s in range(10))
    attacked = step(dec, x, attack_scope=scope, attack_steps=8).adversarial()
    assert float(attacked.detach()) > chance
    assert all(g.isfinite().all() for g in torch.autograd.grad(attacked, list(dec.named_parameters().values())))
    start = step(dec, x, attack_scope=scope, attack_steps=0).adversarial()
    assert float(attacked.detach()) > float(start.detach())


def toy(dtype=torch.float64):
    target = ToyModel(normal(2, 6).to(dtype), normal(6).to(dtype))
    x = toy_draw(6, 0.05)(generator(0, "rows"), 400).to(dtype)
    return target, x


def test_zero_rows_by_hand():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    rows, weights = without_zero_rows(x)
    assert rows.tolist() == [[1, 0], [0, 2], [0, 0]] and weights.tolist() == [1, 1, 2]
    rows, weights = without_zero_rows(torch.stack([x, x.flip(0) * (x.flip(0) > 1)]), 1)
    assert rows[1].tolist() == [[0, 2], [0, 0], [0, 0]] and weights.tolist() == [[1, 1, 2], [1, 3, 0]]
    rows, weights = without_zero_rows(x[1::2])
    assert rows.tolist() == x[1::2].tolist() and weights.tolist() == [1, 1]


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 5e-7)])
def test_dropping_zero_rows_is_exact(monkeypatch, dtype, within):
    """Loss and gradients of a batch, and of its non-zero rows with one that stands for the others, equal noise."""
    target, x = toy(dtype)
    rows, weights = without_zero_rows(x)
    assert len(rows) < 0.5 * len(x)
    dec, place = Decomposition(target, x, 5), {}
    for whole, kept in zip((x != 0).any(1).nonzero()[:, 0].tolist(), range(len(rows) - 1), strict=True):
        place[kept] = whole
    kept = torch.tensor([place[i] for i in range(len(rows) - 1)])

    def by_sample(self, like):
        full = torch.rand(400, *like.shape[1:], generator=self.streams[0], dtype=dtype)
        return full if len(like) == 400 else torch.cat([full[kept], full[:1]])

    monkeypatch.setattr(Noise, "uniform", by_sample)
    names, parameters = zip(*dec.named_parameters().items(), strict=True)
    found = []
    for given in ({"x": x}, {"x": rows, "weights": weights, "n_rows": 400}):
        total, _ = step(dec, importance=0.1, subset=1.0, hidden=1.0, faithfulness=1.0, **given).total()
        found.append([total.detach(), *torch.autograd.grad(total, parameters)])
    for name, one, other in zip(("loss", *names), *found, strict=True):
        assert (one - other).abs().max() <= within * max(1.0, float(one.abs().max())), name


def test_options_are_refused():
    for wrong in ({"gate": "deep"}, {"mask": "gaussian"}, {"steps": 0}, {"p_from": 1.0}, {"p_to": 0.0},
                  {"p_final": -1.0}, {"warmup_steps": 2.5}, {"attack_steps": -1}, {"attack_size": -0.1},
                  {"importance": -1.0}, {"divergence": "l1"}, {"recon": 0.0, "layerwise": 0.0, "importance": 0.0}):
        with pytest.raises(ValueError):
            SPDConfig(n_components=3, **wrong)
