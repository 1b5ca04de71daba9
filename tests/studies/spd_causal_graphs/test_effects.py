"""Effects against literal loops over images and components, and what each variant must give by theory."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.rng import generator, numpy_generator
from lib.studies.spd_causal_graphs.effects import (
    Pairs,
    TwoLayers,
    ablation_effects,
    edges,
    largest_at_random,
    mean_effects,
    random_components,
    shapley_effects,
)

INS, OUTS = [0, 2, 3], [1, 4]


def network(seed: int = 0, dtype: torch.dtype = torch.float64, bias: float = 0.3) -> TwoLayers:
    rng = generator(seed, "two layers")
    sizes = [(6, 5), (5, 7), (7, 6), (7,), (7, 8), (8, 3), (3, 7), (3,)]
    parts = [torch.randn(*size, generator=rng, dtype=dtype) for size in sizes]
    parts[2] = 0.1 * parts[2]
    parts[3] = bias * parts[3]
    return TwoLayers(*parts)


def images(n: int = 11, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 6, generator=generator(seed, "images"), dtype=torch.float64)


def pairs(net: TwoLayers, x: torch.Tensor, on: torch.Tensor | None = None, ins=INS, outs=OUTS) -> Pairs:
    """The pairs of INS and OUTS on images that matter to all outputs, where nothing else is said."""
    on = torch.ones(len(x), len(outs), dtype=torch.bool) if on is None else on
    return Pairs(net, x, on, list(ins), list(outs))


def literal(net: TwoLayers, x: torch.Tensor, replaced: torch.Tensor, published: bool = False) -> torch.Tensor:
    """[n, I, J] by loops: layer 1 is summed component by component, with component i at `replaced`[n, i]."""
    found = torch.zeros(len(x), len(INS), len(OUTS), dtype=x.dtype)

    def a2(row, j, instead=None):
        total = torch.zeros(7, dtype=x.dtype)
        for c in range(5):
            a = float(row @ net.V1[:, c])
            total += (instead[1] if instead and instead[0] == c else a) * net.U1[c]
        if published:
            return (total.relu() + net.b1) @ net.V2[:, j]
        return (total + net.delta1 @ row + net.b1).relu() @ net.V2[:, j]

    for b, row in enumerate(x):
        for p, i in enumerate(INS):
            for q, j in enumerate(OUTS):
                found[b, p, q] = a2(row, j) - a2(row, j, (i, float(replaced[b, i])))
    return found


def test_all_components_on_are_the_target_network():
    rng = generator(3, "target")
    W1, W2 = torch.randn(7, 6, generator=rng), torch.randn(3, 7, generator=rng)
    V1, U1, V2, U2 = (torch.randn(*s, generator=rng) for s in ((6, 5), (5, 7), (7, 8), (8, 3)))
    b1, b2 = torch.randn(7, generator=rng), torch.randn(3, generator=rng)
    net = TwoLayers(V1, U1, W1 - (V1 @ U1).T, b1, V2, U2, W2 - (V2 @ U2).T, b2)
    x = torch.randn(9, 6, generator=rng)
    wanted = (x @ W1.T + b1).relu() @ W2.T + b2
    torch.testing.assert_close(net.output(x), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("baseline", "form"), [("zero", "exact"), ("mean", "exact"), ("zero", "published")])
def test_ablation_is_the_literal_loop(baseline, form):
    net, x = network(), images()
    a = x @ net.V1
    replaced = torch.zeros_like(a) if baseline == "zero" else a.mean(0).expand_as(a)
    found = ablation_effects(pairs(net, x), baseline, form)
    torch.testing.assert_close(found, literal(net, x, replaced, form == "published"))


def test_ci_baseline_works_in_the_masked_network():
    net, x = network(), images()
    ci = torch.rand(11, 5, generator=generator(4), dtype=x.dtype)
    found = ablation_effects(pairs(net, x), "ci", ci1=ci)
    masked = ci * (x @ net.V1)
    without = masked.clone()
    without[:, 2] = 0
    wanted = (masked @ net.U1 + net.b1).relu() - (without @ net.U1 + net.b1).relu()
    torch.testing.assert_close(found[:, 1], wanted @ net.V2[:, OUTS])


def test_the_published_form_differs_only_where_bias_and_delta_move_gates():
    x = images()
    plain = network()._replace(delta1=torch.zeros(7, 6, dtype=x.dtype), b1=torch.zeros(7, dtype=x.dtype))
    torch.testing.assert_close(*(ablation_effects(pairs(plain, x), form=form) for form in ("exact", "published")))
    net = network(bias=3.0)
    exact, published = (ablation_effects(pairs(net, x), form=form) for form in ("exact", "published"))
    assert (exact - published).abs().max() > 0.1


def test_means_of_all_pairs_are_the_means_of_single_effects():
    net, x = network(), images(40)
    on = torch.rand(40, 8, generator=generator(5)) < 0.4
    values = ablation_effects(pairs(net, x, ins=range(5), outs=range(8)))
    wanted = torch.stack([values[on[:, j], :, j].mean(0) for j in range(8)], dim=1)
    torch.testing.assert_close(mean_effects(net, x, on), wanted)
    on[:, 3] = False
    assert mean_effects(net, x, on)[:, 3].isnan().all() and mean_effects(net, x, on)[:, 2].isfinite().all()


def test_shapley_values_sum_to_everything_minus_nothing():
    """With every component and delta a player, sum_i phi_i + phi_delta is exact; without delta phi_delta is 0."""
    x = images()
    net = network()._replace(delta1=torch.zeros(7, 6, dtype=x.dtype))
    phi = shapley_effects(pairs(net, x, ins=range(5)), 3, generator(6))
    wanted = (net.pre(x).relu() - net.b1.relu()) @ net.V2[:, OUTS]
    torch.testing.assert_close(phi.sum(1), wanted)


def test_where_no_gate_moves_effects_agree():
    x = images()
    net = network()._replace(b1=torch.full((7,), 100.0, dtype=x.dtype))
    ablated = ablation_effects(pairs(net, x))
    torch.testing.assert_close(ablated, shapley_effects(pairs(net, x), 2, generator(7)))


def test_edges_average_over_the_images_of_each_output():
    values = torch.tensor([[[1.0, 5.0]], [[3.0, 7.0]], [[8.0, 9.0]], [[0.0, 1.0]]])  # 4 images, 1 input, 2 outputs
    on = torch.tensor([[True, False], [True, True], [True, True], [False, True]])
    found = edges(values, on, numpy_generator(0, "test"))
    assert found.mean.tolist() == [[4.0, pytest.approx(17 / 3)]]
    assert found.n.tolist() == [3, 3]
    assert (found.low <= found.mean).all() and (found.mean <= found.high).all()


def test_edges_of_noise_are_rarely_significant_and_of_signal_nearly_always():
    rng = generator(9)
    noise = torch.randn(100, 20, 20, generator=rng)
    on = torch.ones(100, 20, dtype=torch.bool)
    assert edges(noise, on, numpy_generator(0), n_resamples=50).significant.sum() <= 2
    assert edges(noise + 1, on, numpy_generator(0), n_resamples=50).significant.all()


def test_bootstrap_interval_covers_the_mean():
    rng, hits = generator(10), 0
    values = torch.randn(60, 100, 1, generator=rng) + 0.5
    found = edges(values, torch.ones(60, 1, dtype=torch.bool), numpy_generator(1), n_resamples=500)
    hits = ((found.low < 0.5) & (found.high > 0.5)).sum()
    assert 86 <= hits <= 100


def test_random_components_leave_the_network_and_their_lengths():
    net, x = network(), images()
    drawn, other = random_components(net, generator(1)), random_components(net, generator(2))
    torch.testing.assert_close(drawn.output(x), net.output(x))
    torch.testing.assert_close(drawn.V1.norm(dim=0), net.V1.norm(dim=0))
    torch.testing.assert_close(drawn.U1.norm(dim=1), net.U1.norm(dim=1))
    on = torch.ones(11, 8, dtype=torch.bool)
    assert (mean_effects(drawn, x, on) - mean_effects(other, x, on)).abs().max() > 0.1  # a null that moves


def test_the_null_of_the_largest_effects_moves_and_is_scaled():
    net, x = network(), images()
    unit = np.array([1.0, 1.0])
    null = largest_at_random(pairs(net, x), unit, 5, generator(1))
    half = largest_at_random(pairs(net, x), 2 * unit, 5, generator(1))
    assert null.shape == (5, 4) and np.ptp(null, axis=0).min() > 0
    np.testing.assert_allclose(half, null / 2)


def test_refusals():
    net, x = network(), images()
    with pytest.raises(ValueError, match="baseline 'none' is not one of zero, mean, ci"):
        ablation_effects(pairs(net, x), "none")
    with pytest.raises(ValueError, match="form 'other' is not one of"):
        mean_effects(net, x, torch.ones(11, 8, dtype=torch.bool), form="other")
    for wrong in ({}, {"ci1": torch.ones(11, 5, dtype=x.dtype), "form": "published"}):
        with pytest.raises(ValueError, match="give ci1"):
            ablation_effects(pairs(net, x), "ci", **wrong)
