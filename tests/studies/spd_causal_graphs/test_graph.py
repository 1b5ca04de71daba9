"""The 80 % rule by hand, its null, and the joint effect against a literal forward."""
from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.rng import generator, numpy_generator
from lib.studies.spd_causal_graphs.effects import ablation_effects, edges
from lib.studies.spd_causal_graphs.graph import (
    build,
    cumulative_share,
    inputs_needed,
    joint_share,
    random_needed,
    random_shares,
    sparsity,
    strongest,
)

made = runpy.run_path(str(Path(__file__).with_name("test_effects.py")))
network, images, pairs, INS, OUTS = (made[name] for name in ("network", "images", "pairs", "INS", "OUTS"))

EFFECTS = np.array([[4.0, 0.0, 1.0], [-5.0, 0.0, 1.0], [1.0, 0.0, -1.0], [0.0, 0.0, 1.0]])


def test_eighty_per_cent_by_hand():
    """Column 0: 5, 9, 10, 10 of 10: two inputs hold .9. Squared: 25, 41, 42 of 42: .60, .98. Column 2: all four."""
    assert cumulative_share(EFFECTS)[:, 0].tolist() == [0.5, 0.9, 1.0, 1.0]
    np.testing.assert_array_equal(inputs_needed(EFFECTS), [2, np.nan, 4])
    np.testing.assert_array_equal(inputs_needed(EFFECTS, power=2), [2, np.nan, 4])
    np.testing.assert_array_equal(inputs_needed(EFFECTS, share=0.5), [1, np.nan, 2])
    assert strongest(EFFECTS)[:, 0].tolist() == [True, True, False, False]
    assert strongest(EFFECTS).sum(0).tolist() == [2, 0, 4]


def test_random_effects_move_and_need_what_theory_says():
    """28 normal effects need 13 to 17 inputs for 80 % of the absolute mass and 7 to 12 of the squared one."""
    absolute, squared = (random_needed(28, 1, numpy_generator(0, "null"), power=p) for p in (1, 2))
    assert 12.5 <= np.quantile(absolute, 0.025) and np.quantile(absolute, 0.975) <= 17.5
    assert 6.5 <= np.quantile(squared, 0.05) and np.quantile(squared, 0.95) <= 12.5
    assert absolute.std() > 0.5 and random_needed(28, 10, numpy_generator(0)).std() < absolute.std()
    ribbon = random_shares(28, numpy_generator(1))
    assert (ribbon.low < ribbon.high)[:-1].all() and ribbon.mean[-1] == pytest.approx(1)


def test_joint_share_is_the_literal_forward():
    net, x = network(), images(30)
    on = torch.rand(30, 2, generator=generator(1)) < 0.6
    keep = np.array([[True, False], [False, True], [True, True]])

    def a2(row, j, present):
        total = net.pre(row) - sum(float(row @ net.V1[:, i]) * net.U1[i] for i in INS if i not in present)
        return float(total.relu() @ net.V2[:, j])

    wanted = []
    for place, j in enumerate(OUTS):
        rows = x[on[:, place]]
        kept = [i for i, k in zip(INS, keep[:, place], strict=True) if k]
        none = sum(a2(row, j, []) for row in rows)
        wanted.append((sum(a2(row, j, kept) for row in rows) - none) / (sum(a2(row, j, INS) for row in rows) - none))
    asked = pairs(net, x, on)
    np.testing.assert_allclose(joint_share(asked, keep), wanted)
    np.testing.assert_allclose(joint_share(asked, np.ones((3, 2), dtype=bool)), 1)
    np.testing.assert_allclose(joint_share(asked, np.zeros((3, 2), dtype=bool)), 0)


def test_graph_carries_what_the_figure_tells():
    net, x = network(), images(30)
    on = torch.ones(30, 2, dtype=torch.bool)
    found = edges(ablation_effects(pairs(net, x)), on, numpy_generator(0))
    keep = strongest(found.mean)
    graph = build(found, keep, INS, OUTS, unit=np.array([2.0, -1.0]), level=np.array([5.0, 7.0]))
    assert graph.number_of_nodes() == 5 and graph.number_of_edges() == keep.sum()
    for (_, i), (_, j), edge in graph.edges(data=True):
        p, q = INS.index(i), OUTS.index(j)
        assert edge["effect"] == pytest.approx(found.mean[p, q] / (2.0, -1.0)[q]) and edge["n"] == 30
        assert edge["on"] == (2.5, -7.0)[q] and edge["off"] == pytest.approx(edge["on"] - edge["effect"])
        assert edge["low"] <= edge["effect"] <= edge["high"]


def test_sparsity_gathers_the_rule_and_its_chance():
    net, x = network(), images(40)
    on = torch.rand(40, 2, generator=generator(2)) < 0.7
    asked = pairs(net, x, on)
    values = ablation_effects(asked)
    found = sparsity(asked, values, 4, numpy_generator(3))
    mean = np.stack([values[on[:, j], :, j].mean(0).numpy() for j in range(2)], axis=1)
    assert np.array_equal(found["needed"], inputs_needed(mean))
    np.testing.assert_allclose(found["joint"], joint_share(asked, strongest(mean)))
    assert np.ptp(found["chance_needed"]) > 0
