"""Figures of incidental polysemanticity: they draw every seed they are given, and their nulls in grey."""
from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from lib.figures import style
from lib.rng import numpy_generator
from lib.studies.incidental_polysemanticity import figures as incidental

RNG = numpy_generator(0, "incidental figures")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def dots(ax, marker="o"):
    loose = [line for line in ax.lines if line.get_marker() == marker and line.get_linestyle() == "None"]
    return sum(len(line.get_xdata()) for line in loose)


def test_factors_draw_every_seed_on_both_sides_and_what_is_printed_where_the_source_compares():
    same = {"L2, not L1": [-0.2, -0.1, -0.15], "all four": [-0.3, 0.1]}
    left, right = incidental.factors(same, {"L2, not L1": [0.0, 0.1], "all four": []}, {"L2, not L1": -0.18}).axes
    assert dots(left) == 5 + 2 and dots(right) == 2 + 2  # seeds, and the means
    assert [label.get_text() for label in left.get_yticklabels()] == ["L2,\nnot L1", "all four"]
    assert texts(left) == ["printed -18%"] and not texts(right)
    bar = next(line for line in left.lines if line.get_linewidth() == 2.2)
    assert bar.get_xdata().tolist() == pytest.approx([-0.15 - 0.1242, -0.15 + 0.1242], abs=1e-4)  # t_2 = 4.303


def test_fit_and_overlap_draw_every_seed_of_cells_and_paths():
    cells = pd.DataFrame(list(product(("random",), ("none", "bipolar"), ("relu",), ("L1", "L2"), range(3))),
                         columns=["init", "noise", "act", "reg", "seed"])
    cells = cells.assign(val_mse=0.01 * (1 + cells.seed), interference=5.0 + cells.seed)
    paths = pd.DataFrame(list(product(("L1", "L2"), (1e-5, 1e-4), range(3))), columns=["reg", "penalty", "seed"])
    paths = paths.assign(val_mse=0.01 * (1 + paths.seed), interference=6.0)
    left, right = incidental.fit_and_overlap(cells, paths, (4, 6)).axes
    assert dots(left) == 12 + 4 and dots(right) == 12
    assert {"L1 1e-5", "L2 1e-4", "random directions"} <= set(texts(right)) and {"L1", "L2"} <= set(texts(left))


def test_readings_of_nothing_hold_density_ticks_and_spike():
    null = {"interference": RNG.normal(5, 0.6, 200), "macs": RNG.normal(0.22, 0.01, 200)}
    published = pd.DataFrame({"macs": [0.2, 0.3], "calibrated": [0.9, 0.1]})
    fig = incidental.readings_of_nothing(null, {"L1": [8.0, 9.0], "L2": [6.0, 7.0]}, published, np.full(200, 0.25))
    left, middle, right = fig.axes
    assert dots(left, "|") == 4
    assert [label.get_text() for label in left.get_yticklabels()] == ["L1", "L2"]
    assert [list(line.get_xdata()) for line in middle.lines] == [[0.25, 0.25]]
    assert dots(right) == 2


def test_published_combinations_show_both_storages_beside_printed_ranges():
    rows = list(product(("untied", "tied"), (1, 2), range(5)))
    runs = pd.DataFrame(rows, columns=["storage", "combination", "seed"])
    runs = runs.assign(reg=np.where(runs.combination == 1, "L1", "L2"), interference=6.0)
    printed = {1: (8, 9), 2: (6, 7), 3: (6, 7)}
    [ax] = incidental.published_combinations(runs, {1: "a", 2: "b"}, printed, {2: 6.4, 3: 1.0}, (4, 6)).axes
    assert dots(ax) == 20
    assert [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "D"] == [6.4]


def test_penalty_strength_draws_each_variant_below_the_untrained_one():
    rows = list(product((0.1, 1.0), range(3)))
    runs = pd.DataFrame(rows, columns=["sae_penalty", "seed"])
    runs = runs.assign(l0=5 / runs.sae_penalty, interference=5.0, recovery=0.7)
    bands = {"interference": (4, 6), "recovery": (0.3, 0.4)}
    fig = incidental.penalty_strength(runs, (6, 8), bands, {"ReLU": [0.1, 0.2], "leaky": [0.0, 0.1]}, [0.05, 0.06])
    left, middle, right = fig.axes
    assert [label.get_text() for label in right.get_yticklabels()] == ["untrained", "ReLU", "leaky"]
    assert dots(left) == dots(middle) == 6 and dots(right) == 6
    assert "all 24 cells" in texts(left)


@pytest.fixture
def predicted():
    clipping = pd.DataFrame({"clip": [np.inf, np.inf, 0.1, 0.1], "seed": [0, 1] * 2, "sae_mse": 0.3})
    widths = pd.DataFrame(list(product((8, 9, 10), range(2))), columns=["width", "seed"]).assign(interference=5.0)
    coders = pd.DataFrame(list(product(("ReLU", "TopK"), (0.1, 1.0), range(2))), columns=["arm", "setting", "seed"])
    return clipping, widths, RNG.normal(5, 1, (3, 50)), coders.assign(l0=3 / coders.setting, fvu=0.1)


def test_predictions_put_each_beside_its_null(predicted):
    left, middle, right = incidental.predictions(*predicted, 9).axes
    assert [label.get_text() for label in left.get_xticklabels()] == ["none", "0.1"]
    assert {"random directions", "proposed"} <= set(texts(middle)) and {"ReLU", "TopK"} <= set(texts(right))
    assert dots(left) == 4 and dots(middle) == 6 and dots(right) == 8


def test_one_layer_names_each_law_at_its_course():
    courses = {"none": np.full((3, 4), 0.17), "bipolar": np.linspace(0.2, 0.6, 12).reshape(3, 4)}
    [ax] = incidental.one_layer(np.arange(3), courses).axes
    assert {"none", "bipolar"} <= set(texts(ax)) and len(ax.lines) == 2 * 5
    assert ax.lines[0].get_color() == style.NULL
