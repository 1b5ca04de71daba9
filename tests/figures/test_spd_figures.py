"""Figures of decompositions: they draw every seed, every site, and components in the order given."""
import numpy as np

from lib.figures import spd


def test_recovered_columns_draw_every_column_and_seed():
    W = np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    scores = {"one": np.array([1.0, 0.7]), "two": np.array([0.9, 0.8])}
    V, U = 2 * np.eye(3, 4), np.vstack([0.5 * W.T, np.ones((1, 2))])
    fig = spd.recovered_columns(W, V, U, scores, np.linspace(0.3, 0.5, 50), np.array([True, False]))
    plane, seeds = fig.axes
    ends = [tuple(line.get_xydata()[1]) for line in plane.lines if line.get_marker() == "o"]
    assert ends == [(1, 0), (0, 1), (-1, 0)]  # V_ii u_i = W_i
    values = [y for line in seeds.lines for y in line.get_ydata()]
    assert sorted(values) == [0.7, 0.8, 0.9, 1.0]


def test_importances_are_drawn_as_given():
    maps = {"a": np.eye(3, 5), "b": np.zeros((2, 4))}
    fig = spd.permuted_importances(maps)
    assert [ax.get_title(loc="left") for ax in fig.axes[:2]] == ["a", "b"]
    assert np.array_equal(fig.axes[0].images[0].get_array(), maps["a"])
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["1", "5"]


def test_balancing_changes_no_component_and_fixes_the_gauge():
    rng = np.random.default_rng(0)
    V, U = rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
    V[:, 5] = 0  # a dead one
    reads, writes = spd.balanced(V, U)
    for c in range(6):
        assert np.allclose(np.outer(reads[:, c], writes[c]), np.outer(V[:, c], U[c]))
    assert np.allclose(np.linalg.norm(reads, axis=0), np.linalg.norm(writes, axis=1))
    gauge = rng.choice([-3.0, 0.5], 6)
    again = spd.balanced(V * gauge, U / gauge[:, None])
    assert np.allclose(again[0], reads) and np.allclose(again[1], writes)


def test_uv_draws_matched_components_first():
    V, U = np.diag([1.0, 2.0, 3.0]), np.ones((3, 2))
    fig = spd.uv({"layer": (V, U)}, {"layer": np.array([2, 0, 1])}, shown=2)
    reads = np.asarray(fig.axes[0].images[0].get_array())
    assert reads.shape == (3, 2) and np.flatnonzero(reads[:, 0]).tolist() == [2]


def test_parts_stand_in_the_order_of_their_classes_the_most_used_first():
    shares = np.array([[0.1, 0.9, 0.0, 0.3], [0.6, 0.2, 0.8, 0.2]])  # the parts' classes: 1 0 1 0
    fig = spd.by_class({"components": shares, "latents": shares[:, :2]}, ["zero", "one"], "share")
    top, low, _ = fig.axes
    assert np.array_equal(np.asarray(top.images[0].get_array()), shares[:, [1, 3, 2, 0]])
    assert np.array_equal(np.asarray(low.images[0].get_array()), shares[:, [1, 0]])
    assert top.get_xlabel() == "4 components" and top.images[0].get_clim() == (0, 1)
