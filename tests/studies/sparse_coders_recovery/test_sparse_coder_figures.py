"""Figures of sparse coders: they draw what they are given, seeds included, and survive what is missing."""
import numpy as np
import pandas as pd
import pytest

from lib.metrics.statistics import Interval
from lib.studies.sparse_coders_recovery import figures as sparse_coders

ARMS = ("relu", "topk")


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


@pytest.fixture
def tables():
    cells = [(w, a, s, l0) for w in ("toy", "planted") for a in ARMS for s in range(2) for l0 in (1.0, 2.0, 4.0)]
    runs = pd.DataFrame(cells, columns=["world", "arm", "seed", "l0"])
    runs["recovery"], runs["fvu"] = 0.2 * runs.l0, 0.1 / runs.l0
    worlds = pd.DataFrame([(w, s) for w in ("toy", "planted") for s in range(2)], columns=["world", "seed"])
    return runs, worlds.assign(true_l0=2.0, null_recovery=[0.1, 0.2, 0, 0], null_fvu=0.5)


def test_frontiers_draw_a_line_per_seed_and_world_over_relative_l0(tables):
    titles = {"relu": "ReLU", "topk": "TopK"}
    fig = sparse_coders.frontiers(*tables, titles, ["toy", "planted"], "recovery", "label")
    panel = fig.axes[0]
    lines = [line for line in panel.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 4 and list(lines[0].get_xdata()) == [0.5, 1, 2]
    assert [ax.get_title(loc="left") or ax.get_title() for ax in fig.axes] == ["ReLU", "TopK"]
    assert "●— planted" in texts(fig) and "bands: random dictionary" in texts(fig)
    filled = [list(line.get_xdata()) for line in panel.lines if line.get_linestyle() == "None"]
    assert filled == [[1, 2]] * 4  # fvu .05 and .025; .1 is too much


def test_alignment_draws_a_line_and_its_null_per_width():
    cells = [(n, 5, 10, s, seed) for n in (5, 10) for s in (0.1, 0.9) for seed in range(3)]
    rows = pd.DataFrame(cells, columns=["n_features", "n_hidden", "n_latents", "sparsity", "seed"])
    rows["cka"], rows["null_cka"] = rows.sparsity + 0.01 * rows.seed + 0.05 * (rows.n_features == 5), 0.2
    panel = sparse_coders.alignment(rows, {"cka": "CKA"}).axes[0]
    means = [list(line.get_ydata()) for line in panel.lines if line.get_linestyle() == "-"]
    nulls = [list(line.get_ydata()) for line in panel.lines if line.get_linestyle() == ":"]
    single = [list(line.get_ydata()) for line in panel.lines if line.get_linestyle() == "--"]
    assert means == [pytest.approx([0.11, 0.91])] and nulls == [pytest.approx([0.2, 0.2])]
    assert single == [pytest.approx([0.16, 0.96])]


def test_matched_scores_rank_arms_and_name_those_that_do_not_reach(tables):
    index = pd.MultiIndex.from_product([["toy"], ["a", "b", "c", "d"], [0, 1]], names=["world", "arm", "seed"])
    table = pd.DataFrame({"recovery": [0.1, 0.3, 0.8, 0.6, np.nan, np.nan, 1.0, np.nan]}, index=index)
    [ax] = sparse_coders.matched_scores(table, {"toy": (0.0, 0.1)}, "recovered").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "d", "a", "b"]
    assert [t.get_text() for t in ax.texts] == ["no such coder"]
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert list(dots[2]) == [0.1, 0.3] and list(dots[3]) == [0.8, 0.6]
    bars = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "|"]
    assert np.isnan(bars[:2]).all() and bars[2:] == [pytest.approx(0.2), pytest.approx(0.7)]  # d misses a seed


def test_matchings_share_signed_limits():
    values = np.array([[1.0, -0.5, 0.1], [0.0, 0.9, 0.2]])
    left, right, _ = sparse_coders.matchings({"one": values, "two": -values}).axes
    assert left.images[0].get_clim() == right.images[0].get_clim() == (-1, 1)
    assert np.array_equal(right.images[0].get_array(), -values)


def test_published_arms_show_before_after_and_the_printed_value():
    rows = [(a, s, 0.9, 0.5, 0.45) for a in ("relu", "topk 5", "topk 16") for s in range(2)]
    runs = pd.DataFrame(rows, columns=["activation", "seed", "loss", "inactive_before", "inactive"])
    left, middle, right = sparse_coders.published_arms(runs, {"relu": (0.98, 0.28), "topk 5": (1, 0.98)}, 256).axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["ReLU", "TopK,\nk = 5"]
    assert len(right.lines[1].get_xdata()) == 4
    assert any("published" in t for t in texts(left.figure))


def test_effects_draw_every_seed_and_survive_a_missing_interval():
    rows = {"a - b": (np.array([0.1, 0.3]), Interval(0.2, 0.1, 0.3)),
            "c - d": (np.array([np.nan, 0.1]), Interval(np.nan, np.nan, np.nan))}
    one, two = sparse_coders.paired_differences({"SV-1: noise": rows, "SV-2": {"e": rows["a - b"]}}).axes
    assert one.get_title(loc="left") == "SV-1: noise" and [t.get_text() for t in two.get_yticklabels()] == ["e"]
    assert list(one.lines[0].get_xdata()) == [0.1, 0.3]
