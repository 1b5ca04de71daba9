"""Figures of what toy models store: they draw what they are given, label it, and stay readable."""
import numpy as np
import pytest

from lib.figures import stored_features as figures

RNG = np.random.default_rng(0)


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def test_zoo_draws_bars_and_gram_per_kind_and_sparsity():
    W = {kind: RNG.normal(size=(3, 2, 4)) for kind in ("linear", "ReLU")}
    met = {kind: np.abs(weights).sum(1) for kind, weights in W.items()}
    fig = figures.zoo((0, 0.5, 0.9), W, met)
    panels, told = fig.axes[:12], fig.numbers.set_index(["panel", "sparsity", "i", "j"]).loc["ReLU", 0.9, 3, 1]
    assert [*told] == [np.linalg.norm(W["ReLU"][2, :, 3]), met["ReLU"][2, 3], (W["ReLU"][2].T @ W["ReLU"][2])[3, 1]]
    assert [len(ax.patches) for ax in panels] == [4] * 3 + [0] * 3 + [4] * 3 + [0] * 3
    assert np.allclose(panels[3].images[0].get_array(), W["linear"][0].T @ W["linear"][0])
    assert panels[6].get_ylabel().startswith("ReLU") and panels[1].get_title(loc="left") == "S = 0.5"


def test_phase_diagrams_pale_where_few_restarts_agree():
    G = 6
    phase = np.tile([0, 1, 2], (G, 2)).astype(int)
    agreeing = np.ones((G, G))
    agreeing[0, 0] = 0.1
    diagram = {"density": np.logspace(-2, 0, G), "importance": np.logspace(-1, 1, G), "phase": phase, "theory": phase,
               "agreeing": agreeing}
    first, second = figures.phase_diagrams({"one": diagram, "two": diagram}, ("a", "b", "c")).axes
    picture = first.images[0].get_array()  # [importance, density, 3]
    assert picture.shape == (G, G, 3)
    assert picture[0, 0].min() > picture[0, 1].min()
    assert np.allclose(picture[0, 1], picture[3, 1]), "one phase, one colour"
    assert second.get_title(loc="left") == "two" and np.allclose(first.images[0].get_extent(), (-2.2, 0.2, -1.2, 1.2))


def test_staircase_labels_every_polytope_and_attack():
    x = np.array([1.0, 3.0, 10.0])
    fig = figures.staircase(x, RNG.random((3, 2)), RNG.random((3, 2, 5)), {"attack 1": RNG.random((3, 2))})
    assert set(figures.POLYTOPES) <= set(texts(fig)) and "attack 1" in texts(fig)
    top, middle, bottom = fig.axes
    dots = np.concatenate([line.get_ydata() for line in middle.lines if line.get_marker() == "o"])
    assert dots.size == 3 * 2 * 5 and len(bottom.lines) == 2 * (2 + 1)


def test_explorer_shows_one_sparsity_at_a_time():
    fig = figures.geometry_explorer((0.0, 0.5, 0.9), RNG.normal(size=(3, 2, 5)), RNG.normal(size=(3, 3, 7)))
    for number, step in enumerate(fig.layout.sliders[0].steps):
        assert [i // 2 for i, shown in enumerate(step.args[0]["visible"]) if shown] == [number, number]
    assert [trace.visible for trace in fig.data] == [False] * 4 + [True] * 2
    assert fig.layout.meta["alt"]
    with pytest.raises(ValueError, match="argument"):
        figures.geometry_explorer((0.0, 0.9), np.zeros((2, 2, 5)), np.zeros((3, 3, 7)))
