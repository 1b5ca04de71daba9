"""Tables and figures of the study, and its dashboard: they show what they are given and nothing that does not count."""
import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.studies.shapes_and_colours import anova, dashboard, figures, tables

COUNTS = (3, 3, 3)
LEVELS = anova.level_indicators(COUNTS)  # [27, 9]
READ = {"alive": 9.0, "atomic": 1.0, "levels": 9.0, "cells": 0.0, "l0": 3.0, "ci_accuracy": 0.99, "null_alive": 9.0,
        "null_atomic": 0.1, "null_levels": 1.0, "null_cells": 0.0}


def run(task: str, seed: int, atomic=(1.0, 0.5), counts=(True, True), **extra):
    rows = [{"site": site, "decomposition": i, **READ, "atomic": atomic[i], "counts": counts[i]}
            for i in (0, 1) for site in ("fc1", "fc2")]
    means = {site: np.stack([LEVELS, LEVELS]) for site in ("fc1", "fc2")}
    return {"task": task, "seed": seed, "rows": pd.DataFrame(rows), "means": means, "accuracy": np.ones(3),
            "frequency": {site: np.full((2, 9), 1 / 3) for site in means}, **extra}


def found() -> pd.DataFrame:
    return pd.DataFrame([run("heads", 0), run("heads", 1, counts=(True, False)), run("joint", 0), run("joint", 1),
                         run("scrambled", 0), run("scrambled", 1, counts=(False, False))])


def test_a_network_is_the_mean_of_its_decompositions_that_count():
    table = tables.per_network(found())
    assert table.atomic["heads", 0, "fc1"] == 0.75 and table.atomic["heads", 1, "fc1"] == 1.0
    assert ("scrambled", 1, "fc1") not in table.index and len(table) == 10
    assert tables.values(table, "heads", "fc2", "atomic").tolist() == [0.75]  # seed 1 has no scrambled network


class Values:
    counts = COUNTS


def test_too_few_networks_or_other_images_test_nothing():
    few = tables.per_network(found())
    assert tables.untested(Values, few) == "1 networks of each kind decide nothing; profile long has eight"
    assert tables.untested(Values, few.iloc[:0]).startswith("0 networks")
    assert tables.untested(Values, few.drop("fc1", level="site")).startswith("0 networks")
    many = tables.per_network(pd.DataFrame([run(t, s) for t in ("heads", "joint", "scrambled") for s in range(5)]))
    assert tables.untested(Values, many) == ""
    other = type("Other", (), {"counts": (3, 3, 2)})
    assert tables.untested(other, many).endswith("here 3 x 3 x 2")


def test_components_are_ordered_by_attribute_and_level():
    means = LEVELS[:, [8, 0, 4, 3]]
    assert tables.ordered(means, np.full(4, 0.3), COUNTS).tolist() == [1, 3, 2, 0]
    assert tables.ordered(np.ones((27, 2)), np.ones(2), COUNTS).tolist() == []
    ideals = tables.ideals(COUNTS)
    assert [anova.reading(m, np.ones(m.shape[1]) / 3, COUNTS)["atomic"] for m in ideals.values()] == [1.0, 0.0]
    assert [anova.reading(m, np.ones(m.shape[1]) / 3, COUNTS)["cells"] for m in ideals.values()] == [0, 27]


def test_predictions_of_atoms_are_right_on_what_was_left_out():
    guessed = tables.predicted(found().query("task == 'heads'"), Values)
    assert guessed.atomic.all() and len(guessed) == 3 * 2 * 9 * 3  # of four, one does not count
    assert np.abs(guessed.actual - guessed.predicted).max() < 1e-9
    assert tables.within(guessed).tolist() == [1.0, 1.0]
    off = guessed.assign(predicted=guessed.predicted + np.where(guessed.seed == 1, 0.3, 0.1))
    assert tables.within(off).tolist() == [1.0, 0.0]


def test_weights_of_the_importance_loss_are_compared_in_the_same_networks():
    swept = pd.DataFrame([run("heads", 0, importance=0.03)])
    table = tables.by_importance(found(), swept, 0.01)
    assert table.index.get_level_values("importance").unique().tolist() == [0.01, 0.03]
    assert table.index.get_level_values("seed").unique().tolist() == [0]
    alone = tables.by_importance(found(), swept.iloc[:0], 0.01)
    assert alone.index.get_level_values("seed").unique().tolist() == [0, 1]
    assert not figures.alive_against_importance(table.iloc[:0], 9, 27).axes[0].get_xticks().size
    axes = figures.alive_against_importance(table, 9, 27).axes
    assert [list(line.get_ydata()) for line in axes[0].lines] == [[9, 9]] + [[9, 9], [27, 27]]


def test_unseen_combinations_list_the_network_before_its_gates():
    held = pd.DataFrame([{"seed": 0, "every_cell": kind, "held_accuracy": np.array([1, 0.5, 0]),
                          "held_ci": np.full((2, 3), 0.1)} for kind in (False, True)])
    told = tables.unseen(held)
    assert told.index.get_level_values(1).tolist() == [
        "network", "gates of the rest, 0", "gates of the rest, 1", "gates of all cells, 0", "gates of all cells, 1"]
    assert told.iloc[0].tolist() == [1, 0.5, 0] and tables.unseen(held.iloc[:0]).empty


def test_every_network_has_a_dot_and_a_null():
    table = tables.per_network(found())
    fc1, _ = figures.atomic_shares(table, 0.8).axes
    dots = [line.get_ydata().tolist() for line in fc1.lines if line.get_marker() == "o"]
    assert dots == [[0.75, 1.0], [0.75, 0.75], [0.75]]
    assert sum(line.get_marker() == "_" for line in fc1.lines) == 3


def test_counts_are_three_marks_for_every_network():
    fc1, fc2 = figures.counts(tables.per_network(found()), 9, 27).axes
    assert [line.get_marker() for line in fc1.lines if line.get_marker() != "None"] == ["o", "^", "s"] * 3
    told = [line.get_label() for line in fc1.lines if line.get_marker() != "None"]
    assert told == ["alive", "levels found", "combinations found"] * 3  # in the numbers under the figure, too
    assert [9, 9] in [list(line.get_ydata()) for line in fc2.lines]


def test_matrices_are_drawn_as_given_with_the_groups_under_them():
    panels = {"a": LEVELS, "b": np.eye(27), "c": LEVELS[:, :4], "d": LEVELS[:, :2], "e": LEVELS[:, :1]}
    fig = figures.cell_matrices(panels, ("disc", "square", "triangle"))
    drawn = [ax for ax in fig.axes if ax.images]
    assert np.array_equal(drawn[0].images[0].get_array(), LEVELS.T)
    assert [t.get_text() for t in drawn[0].get_xticklabels()] == ["disc", "square", "triangle"]
    assert [ax.get_title(loc="left") for ax in drawn if ax.get_title(loc="left")] == list(panels)


def test_predictions_are_drawn_apart_by_kind():
    table = pd.DataFrame({"seed": 0, "site": "fc1", "atomic": [True, False, False], "actual": [0.1, 0.2, 0.3],
                          "predicted": [0.1, 0.9, 0.3]})
    atoms, others = figures.predictions(table).axes
    assert [len(ax.lines[0].get_xdata()) for ax in (atoms, others)] == [1, 2]


def layer() -> dict[str, np.ndarray]:
    means = LEVELS[:, [3, 0]]
    return {"component": np.array([7, 2]), "means": means, "frequency": np.array([0.333, 0.25]),
            "shares": anova.shares(means, COUNTS), "histogram": np.full((2, 20), 0.05),
            "by_importance": np.array([[0, 1], [2, 3]]), "by_activation": np.array([[3, 2], [1, 0]])}


def test_the_dashboard_has_a_frame_and_a_button_for_every_component():
    images = np.zeros((4, 28, 28, 3), np.uint8)
    images[0, ..., 0] = 255
    names = (("disc", "square", "triangle"), ("red", "green", "blue"), ("small", "medium", "large"))
    fig = dashboard.explorer({"fc1": layer(), "fc2": layer()}, images, names, ("fc2", 1))
    labels = [button.label for button in fig.layout.updatemenus[0].buttons]
    assert labels[0] == "fc1 7: on in 33.3% of images, 100% of its variance in colour, an atom"
    assert labels == [frame.name for frame in fig.frames] and fig.layout.updatemenus[0].active == 3
    assert [button.args[0][0] for button in fig.layout.updatemenus[0].buttons] == labels
    bars = fig.frames[0].data[2]
    assert list(bars.x) == [name for some in names for name in some]
    assert list(bars.y) == pytest.approx([1 / 3] * 3 + [1, 0, 0] + [1 / 3] * 3, abs=1e-3)
    shown = Image.open(io.BytesIO(base64.b64decode(fig.frames[0].data[0].source.partition(",")[2])))
    top = np.asarray(shown)[40, 40].astype(int)
    assert top[0] > 200 > 60 > top[1]  # the first image, which is red, comes first
    assert fig.data[2].y == fig.frames[3].data[2].y
    table = tables.components(layer())
    assert table.loc[7].tolist() == ["33.3%", 0.0, 1.0, 0.0]


def test_a_filters_tile_is_its_colours_with_grey_for_nothing():
    filters = np.zeros((3, 2, 2, 3))
    filters[0, 0, 0, 0], filters[1, 1, 1] = 2.0, (-0.5, 0.25, 0.0)
    fig = figures.filter_tiles(filters, ["a", "b", "c"], columns=2)
    tiles = [ax.images[0].get_array() for ax in fig.axes if ax.images]
    assert len(fig.axes) == 4 and len(tiles) == 3
    assert tiles[0][0, 0].tolist() == [1, 0.5, 0.5] and tiles[0][1, 1].tolist() == [0.5, 0.5, 0.5]
    assert tiles[1][1, 1].tolist() == [0, 0.75, 0.5] and (np.asarray(tiles[2]) == 0.5).all()


def test_importance_maps_stand_under_their_images():
    maps = {"c1": np.zeros((2, 3, 3)), "c2": np.ones((2, 3, 3))}
    fig = figures.importance_maps(np.zeros((2, 6, 6, 3)), maps)
    panels = np.array([ax for ax in fig.axes if ax.images and ax.get_label() != "<colorbar>"]).reshape(3, 2)
    assert [ax.get_ylabel() for ax in panels[:, 0]] == ["", "c1", "c2"]
    assert (panels[2, 1].images[0].get_array() == 1).all() and panels[1, 0].images[0].get_clim() == (0, 1)
