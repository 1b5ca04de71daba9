"""Figures of toy models: they draw what they are given, label it, and stay readable."""
import numpy as np
import pandas as pd
import pytest

from lib.metrics.statistics import Interval
from lib.studies.superposition_phases import figures as superposition
from lib.studies.superposition_phases.explorer import geometry_explorer

RNG = np.random.default_rng(0)


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


@pytest.fixture
def arms():
    cells = [(s, seed) for s in (0.8, 0.85, 0.9) for seed in range(4)]
    runs = pd.DataFrame(cells, columns=["sparsity", "seed"])
    runs["zero_loss"], runs["heldout_loss"] = 1 - runs.sparsity, 0.02 + 0.001 * runs.seed
    runs["n_missed"] = runs.seed % 3
    return {"as published": runs, "trained well": runs.assign(heldout_loss=0.01)}


def test_loss_curves_show_every_seed_behind_every_mean(arms):
    zero = arms["as published"].groupby("sparsity").zero_loss.first()
    fig = superposition.loss_curves(arms, zero, (0.82, 0.87), "claimed")
    raw, normalised = fig.axes
    assert len(raw.lines) == 2 * (4 + 1) + 1 and len(normalised.lines) == 2 * (4 + 1) + 1
    assert {"as published", "trained well", "claimed", "zero predictor (null)"} <= set(texts(fig))
    ratio = normalised.lines[4].get_ydata()
    assert np.allclose(ratio, np.array([0.0215] * 3) / zero.to_numpy())


def test_peak_causes_draws_a_dot_per_seed(arms):
    shares = {"as published": Interval(0.4, 0.2, 0.6), "trained well": Interval(0.0, 0.0, 0.2)}
    left, right = superposition.peak_causes(shares, arms, 0.85).axes
    assert [len(line.get_xdata()) for line in right.lines] == [4, 4]
    assert [t.get_text() for t in left.get_xticklabels()] == list(shares)


def test_zoo_draws_bars_and_gram_per_kind_and_sparsity():
    W = RNG.normal(size=(2, 3, 2, 4))
    fig = superposition.zoo(np.array([0, 0.5, 0.9]), W, np.abs(W).sum(2), ("linear", "ReLU"))
    panels = fig.axes[:12]
    assert [len(ax.patches) for ax in panels] == [4] * 3 + [0] * 3 + [4] * 3 + [0] * 3
    assert np.allclose(panels[3].images[0].get_array(), W[0, 0].T @ W[0, 0])


def test_planes_share_their_limits():
    fig = superposition.planes(np.array([0, 0.9]), RNG.normal(size=(2, 2, 5)))
    assert {ax.get_xlim() for ax in fig.axes} == {(-1.35, 1.35)}


def test_phase_diagrams_pale_where_few_restarts_agree():
    G = 6
    phase = np.tile([0, 1, 2], (G, 2)).astype(int)
    agreeing = np.ones((G, G))
    agreeing[0, 0] = 0.1
    diagram = {"density": np.logspace(-2, 0, G), "importance": np.logspace(-1, 1, G), "phase": phase, "theory": phase,
               "agreeing": agreeing}
    [ax] = superposition.phase_diagrams([diagram, diagram], ["one", "two"], ("a", "b", "c")).axes[:1]
    picture = ax.images[0].get_array()  # [importance, density, 3]
    assert picture.shape == (G, G, 3)
    assert picture[0, 0].min() > picture[0, 1].min()
    assert np.allclose(picture[0, 1], picture[3, 1]), "one phase, one colour"


def test_staircase_labels_every_polytope_and_attack():
    x = np.array([1.0, 3.0, 10.0])
    stairs = {"inverse_density": x, "dstar": RNG.random((3, 2)), "D": RNG.random((3, 2, 5))}
    fig = superposition.staircase(stairs, {"attack 1": RNG.random((3, 2))})
    assert set(superposition.POLYTOPES) <= set(texts(fig)) and "attack 1" in texts(fig)


def test_geometry_choices_end_a_curve_where_its_minimum_does():
    stored = np.array([[5, 4], [5, 4], [5, 5]])
    varied = {"factor": np.array([0.5, 1, 2]), "loss": RNG.random((3, 2)), "n_represented": stored}
    pairs = {"kind": np.array(["independent", "correlated", "anticorrelated"]), "loss": RNG.random((3, 4)),
             "cosine_within": RNG.random((3, 4))}
    history = {"step": np.arange(1, 5), "loss": RNG.random(4), "D": RNG.random((4, 5))}
    left, middle, _ = superposition.geometry_choices(varied, pairs, history).axes
    assert [len(line.get_xdata()) for line in left.lines] == [3, 2]
    assert {"independent", "correlated", "anticorrelated"} <= {t.get_text() for t in middle.texts}


def test_basis_and_circuits_shows_null_and_unit():
    unit = {"feature": np.array([2, 0]), "in": np.array([1.0, 0.2]), "out": np.array([0.1, 1.5])}
    null = (np.full(3, 0.3), np.full(3, 0.5))
    fig = superposition.basis_and_circuits(np.array([0, 0.5, 0.9]), {"a": np.ones(3)}, null, {"0": np.arange(4)}, unit)
    assert "random rotations" in texts(fig)
    assert [bar.get_height() for bar in fig.axes[2].patches] == [1.0, 0.2, 0.1, 1.5]


def test_explorer_shows_one_sparsity_at_a_time():
    sparsity = np.array([0.0, 0.5, 0.9])
    plane = {"sparsity": sparsity, "W": RNG.normal(size=(3, 2, 5)), "D": RNG.random((3, 5))}
    space = {"sparsity": sparsity, "W": RNG.normal(size=(3, 3, 7)), "D": RNG.random((3, 7))}
    fig = geometry_explorer(plane, space)
    for number, step in enumerate(fig.layout.sliders[0].steps):
        assert [i // 2 for i, shown in enumerate(step.args[0]["visible"]) if shown] == [number, number]
    assert [trace.visible for trace in fig.data] == [False] * 4 + [True] * 2
    assert fig.layout.meta["alt"]
    with pytest.raises(ValueError, match="share their sparsities"):
        geometry_explorer(plane, {**space, "sparsity": sparsity[:2]})
