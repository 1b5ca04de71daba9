"""A random sign gauge changes raw paths and nothing else; the gate-aware path is exact where no gate moves."""
from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.rng import generator, numpy_generator
from lib.studies.spd_causal_graphs.effects import ablation_effects, edges, mean_effects
from lib.studies.spd_causal_graphs.graph import inputs_needed, strongest
from lib.studies.spd_causal_graphs.predictors import (
    STEPS,
    flips,
    orientation,
    predictions,
    random_gauge_flips,
)

made = runpy.run_path(str(Path(__file__).with_name("test_effects.py")))
network, images, pairs = (made[name] for name in ("network", "images", "pairs"))


def regauged(net, sign1, sign2):
    """The same network with component c written as (s_c V_c, s_c U_c); signs ±1, [C1] and [C2]."""
    return net._replace(V1=net.V1 * sign1, U1=net.U1 * sign1[:, None], V2=net.V2 * sign2, U2=net.U2 * sign2[:, None])


def every(net, x, on):
    """All pairs of components."""
    return pairs(net, x, on, range(5), range(8))


@pytest.fixture
def setting():
    net, x = network(), images(60)
    ci1 = torch.rand(60, 5, generator=generator(1), dtype=x.dtype)
    on = torch.rand(60, 8, generator=generator(2)) < 0.5
    return net, x, ci1, on


def test_a_random_gauge_of_the_inputs_changes_raw_paths_and_nothing_else(setting):
    net, x, ci1, on = setting
    sign = torch.tensor([1.0, -1, -1, 1, -1], dtype=x.dtype)
    turned = regauged(net, sign, torch.ones(8, dtype=x.dtype))
    before, after = (predictions(every(n, x, on), ci1) for n in (net, turned))
    assert np.array_equal(before["raw path"] * sign.numpy()[:, None], after["raw path"])
    for step in STEPS[1:]:
        np.testing.assert_allclose(before[step], after[step], atol=1e-12)
    torch.testing.assert_close(mean_effects(net, x, on), mean_effects(turned, x, on))
    torch.testing.assert_close(net.output(x), turned.output(x))
    # and so of everything that is computed from effects
    values = [edges(ablation_effects(every(n, x, on)), on, numpy_generator(0)).mean for n in (net, turned)]
    assert np.array_equal(strongest(values[0]), strongest(values[1]))
    assert np.array_equal(inputs_needed(values[0]), inputs_needed(values[1]))


def test_the_gauge_of_an_output_turns_its_effect_and_every_prediction_alike(setting):
    net, x, ci1, on = setting
    sign = torch.tensor([1.0, -1, -1, 1, -1, 1, 1, -1], dtype=x.dtype)
    turned = regauged(net, torch.ones(5, dtype=x.dtype), sign)
    before, after = (predictions(every(n, x, on), ci1) for n in (net, turned))
    effects = [mean_effects(n, x, on).numpy() for n in (net, turned)]
    np.testing.assert_allclose(effects[0] * sign.numpy(), effects[1], atol=1e-12)
    for step in STEPS:
        assert np.array_equal(flips(before[step], effects[0]), flips(after[step], effects[1]))


def test_random_gauges_flip_half_of_the_raw_paths_on_average(setting):
    net, x, ci1, on = setting
    effects, rng, shares = mean_effects(net, x, on).numpy(), generator(3), []
    for _ in range(200):
        signs = 2 * torch.randint(0, 2, (5,), generator=rng).to(x) - 1
        turned = regauged(net, signs, torch.ones(8, dtype=x.dtype))
        raw = (turned.U1 @ turned.V2).numpy()
        shares.append(flips(raw, effects).mean())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04) and np.std(shares) > 0.02


def test_orientation_makes_the_mean_over_important_images_positive():
    a = torch.tensor([[1.0, 2.0, 0.5], [-3.0, 2.0, 0.5], [5.0, -1.0, 0.5]])
    ci = torch.tensor([[0.9, 0.05, 0.0], [0.9, 0.9, 0.0], [0.0, 0.9, 0.0]])
    assert orientation(a, ci).tolist() == [-1.0, 1.0, 1.0]  # 1 - 3 < 0; 2 - 1 > 0; never important


def test_the_gate_aware_path_is_exact_where_no_gate_moves(setting):
    net, x, ci1, on = setting
    open_ = net._replace(b1=torch.full((7,), 100.0, dtype=x.dtype))
    found = predictions(every(open_, x, on), ci1)
    np.testing.assert_allclose(found["gate-aware path"], mean_effects(open_, x, on).numpy())
    np.testing.assert_allclose(found["gate-aware path"], found["path x activation"])  # every gate is 1


def test_gate_aware_path_by_hand(setting):
    net, x, ci1, on = setting
    a, gate = (x @ net.V1)[:, 3], (net.pre(x) > 0).to(x.dtype)
    wanted = (a * (gate * net.U1[3] @ net.V2[:, 4]))[on[:, 4]].mean()
    found = predictions(pairs(net, x, on[:, [4]], [3], [4]), ci1)
    assert found["gate-aware path"].item() == pytest.approx(wanted.item())
    assert found["path x activation"].item() == pytest.approx(float(net.U1[3] @ net.V2[:, 4] * a[on[:, 4]].mean()))


def test_flips_count_kept_edges_only():
    predicted, effects = np.array([[1.0, -1.0], [2.0, 0.5]]), np.array([[3.0, 2.0], [-1.0, np.nan]])
    assert flips(predicted, effects).tolist() == [False, True, True]
    assert flips(predicted, effects, np.array([[True, True], [False, True]])).tolist() == [False, True]
    with pytest.raises(ValueError, match="no edge is kept"):
        flips(predicted, effects, np.zeros((2, 2), dtype=bool))


def test_the_random_gauge_null_moves_about_one_half(setting):
    net, x, ci1, on = setting
    effects, everything = mean_effects(net, x, on).numpy(), np.ones((5, 8), dtype=bool)
    shares = random_gauge_flips(every(net, x, on), effects, everything, 200, generator(4))
    assert shares.mean() == pytest.approx(0.5, abs=0.05) and shares.std() > 0.02
