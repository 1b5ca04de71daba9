"""Figures of causal effects: they draw what they are given, and signs have colours."""
from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from matplotlib.colors import to_hex

from lib.figures import style
from lib.metrics.statistics import Interval
from lib.rng import numpy_generator
from lib.studies.spd_causal_graphs import figures as causal
from lib.studies.spd_causal_graphs import graph_figures as causal_graph
from lib.studies.spd_causal_graphs.graph import cumulative_share, random_shares


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


@pytest.fixture
def graph():
    found = nx.DiGraph()
    found.add_nodes_from([("in", i) for i in (3, 5, 8)], layer=0)
    found.add_nodes_from([("out", j) for j in (1, 2)], layer=1)
    told = {"low": 0.0, "high": 2.0, "on": 1.5, "off": 0.5, "n": 40, "significant": True}
    found.add_edge(("in", 3), ("out", 2), effect=1.0, **told)
    found.add_edge(("in", 5), ("out", 1), effect=-2.0, **told)
    found.add_edge(("in", 8), ("out", 1), effect=0.5, **told | {"significant": False})
    return found


def test_pairs_are_put_beside_each_other_and_a_weak_edge_does_not_part_them():
    pairs = np.eye(6)[numpy_generator(3).permutation(6)]
    left, right = causal_graph.order_sides(pairs)
    assert np.array_equal(left[pairs.argmax(0)], right)
    left, right = causal_graph.order_sides(np.array([[0.1, 2.0], [1.0, 0.0]]))
    assert left.tolist() == right[::-1].tolist()


def test_busiest_keeps_the_outputs_of_the_largest_effects_with_all_their_inputs(graph):
    graph.add_edge(("in", 3), ("out", 1), effect=0.1)
    assert set(causal_graph.busiest(graph, 1)) == {("out", 1), ("in", 3), ("in", 5), ("in", 8)}
    assert len(causal_graph.busiest(graph, 2)) == 5


def test_places_put_sides_apart_and_untangle(graph):
    at = causal_graph.node_positions(graph)
    assert {x for (side, _), (x, _) in at.items() if side == "in"} == {0.0}
    assert all(0 < y < 1 for _, y in at.values()) and len({at[n] for n in graph}) == 5
    assert (at["in", 3][1] < at["in", 5][1]) == (at["out", 2][1] < at["out", 1][1])


def test_static_graph_draws_every_edge_in_the_colour_of_its_sign_and_every_image(graph):
    images, labels = {n: np.eye(4) for n in graph}, {n: f"c{n[1]}" for n in graph}
    fig = causal_graph.bipartite(graph, images, labels, ("layer 1", "layer 2"))
    ax = fig.axes[0]
    assert sorted(fig.numbers["effect"]) == sorted(effect for *_, effect in graph.edges(data="effect"))
    colours = sorted(to_hex(p.get_edgecolor()) for p in ax.patches)
    assert colours == sorted(c.lower() for c in (style.BLUE, style.ORANGE, style.BLUE))
    assert len(ax.images) == 5 and {"c3", "c1", "raises", "lowers", "layer 1"} <= set(texts(fig))
    widths = {round(p.get_linewidth(), 2) for p in ax.patches}
    assert max(widths) == 3.4 and [p.get_linestyle() for p in ax.patches].count(":") == 1
    fig.canvas.draw()


def test_explorer_tells_effect_interval_levels_and_n(graph):
    fig = causal_graph.explorer(graph, {n: f"c{n[1]}" for n in graph})
    dots = [trace for trace in fig.data if trace.mode == "markers"][0]
    assert len(dots.x) == 3 and "component 5 → component 1" in dots.text[1]
    assert all(part in dots.text[1] for part in ("-2.00", "[0.00, 2.00]", "1.50", "0.50", "n = 40"))
    assert list(dots.marker.color) == [style.BLUE, style.ORANGE, style.BLUE]


def test_four_panels_colour_wrong_signs():
    effects = np.array([1.0, -1.0, 2.0])
    predicted = {"raw path": -effects, "gate-aware path": effects}
    shares = {name: Interval(0.5, 0.2, 0.8) for name in predicted}
    left, right = causal.weights_against_effects(predicted, effects, shares).axes
    assert [len(line.get_xdata()) for line in left.lines[:2]] == [0, 3]
    assert [len(line.get_xdata()) for line in right.lines[:2]] == [3, 0]
    assert left.get_xlabel().startswith("wrong sign: 50.0%")


def test_how_sparse_draws_each_output_over_the_ribbon():
    effects = numpy_generator(0).standard_normal((9, 4))
    shares = {"absolute": [cumulative_share(effects)], "squared": [cumulative_share(effects, 2)]}
    powers = {"absolute": 1, "squared": 2}
    ribbons = {name: random_shares(9, numpy_generator(1), power, 50) for name, power in powers.items()}
    left, right = causal.how_sparse(shares, ribbons, (5, 9)).axes
    blue = [line for line in left.lines if line.get_color() == style.BLUE]
    assert len(blue) == 4 and np.array_equal(blue[0].get_ydata(), shares["absolute"][0][:, 0])
    assert "published: 5 to 9" in [t.get_text() for t in right.texts]


def test_matrices_have_scales_of_their_own_and_the_kept_effects_that_of_all():
    effects = np.array([[2.0, -1.0], [0.5, 0.1]])
    panels = {"raw path": -10 * effects, "effect": effects}
    fig = causal.effect_matrix(panels, effects < 1, ["a", "b"], ["c", "d"])
    raw, all_, kept = (np.asarray(ax.images[0].get_array()) for ax in fig.axes[:3])
    assert np.allclose(raw, -effects.T / 2) and np.allclose(all_, effects.T / 2)
    assert np.allclose(kept, [[0, 0.25], [-0.5, 0.05]])  # outputs as rows; 2, which is not kept, still sets the scale
    titles = [ax.get_title(loc="left") for ax in fig.axes[:3]]
    assert titles[0] == "raw path (largest 20)" and titles[1] == "effect (largest 2)" and "80 %" in titles[2]


def test_step_curves_keep_every_output_and_mark_all_predictors():
    curves = np.array([[0.1, 0.5, 0.6, 0.9], [0.2, 0.4, 0.7, 0.8]])
    fig = causal.step_curves(curves, np.zeros((3, 4)), 0.8)
    [ax] = fig.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3", "all"]
    assert "published ceiling 0.8" in texts(fig)
