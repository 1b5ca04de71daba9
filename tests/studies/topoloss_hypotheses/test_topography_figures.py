"""Figures of sheets and arms: colours mean what they say, seeds and nulls are drawn, labels keep apart."""
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from lib.figures import style
from lib.metrics.statistics import t_interval
from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses import dose_response
from lib.studies.topoloss_hypotheses import explorer as sheet_explorer
from lib.studies.topoloss_hypotheses import figures as topography

ARMS = {0.0: "α = 0", 0.1: "α = 0.1", 1.0: "α = 1", "permuted": "permuted sheet"}
CLASSES = ["cat", "dog", "ant"]
WHITE = pytest.approx(to_rgb(style.PAPER))


def rng(*labels):
    return numpy_generator(0, "test", "topography figures", *labels)


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


def rows(seeds=2):
    liked, strength = rng("liked").integers(3, size=(seeds, 2, 4)), rng("strength").random((seeds, 2, 4))
    return {"α = 0": (liked, strength), "α = 1": (liked[:, ::-1], strength), "null": (liked, 0 * strength)}


def test_hue_is_the_class_and_lightness_the_selectivity():
    image = topography.preference_image(np.array([[0, 1, 2, 2]]), np.array([[0, 0.25, 0.5, np.nan]]), 3, full=0.5)
    colours = topography.class_colours(3)
    assert image[0, 0] == WHITE and image[0, 3] == WHITE
    assert image[0, 2] == pytest.approx(colours[2]) and image[0, 1] == pytest.approx((colours[1] + 1) / 2)


@pytest.mark.parametrize("n", [2, 10, 27, 100])
def test_classes_have_colours_of_their_own_none_of_them_the_nulls(n):
    colours = topography.class_colours(n)
    assert colours.shape == (n, 3) and len(np.unique(colours.round(6), axis=0)) == n
    assert np.abs(colours - to_rgb(style.NULL)).max(1).min() > 0.05


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_sheets_stand_in_rows_of_arms_and_columns_of_seeds(seeds):
    fig = topography.cortical_sheets(rows(seeds), CLASSES, 1.0, "white: no preference")
    images = [ax.images[0].get_array() for ax in fig.axes if ax.images]
    assert len(images) == 3 * seeds and images[0].shape == (2, 4, 3)
    assert (np.asarray(images[-1]) == 1).all()  # the null row has no selectivity here
    assert [ax.get_ylabel() for ax in fig.axes if ax.get_ylabel()] == ["α = 0", "α = 1", "null"]
    assert {"■ cat", "■ dog", "■ ant", "white: no preference"} == set(texts(fig))
    liked, strength = rows(seeds)["α = 1"]
    assert len(fig.numbers) == 3 * seeds * 8
    told = fig.numbers.set_index(["arm", "seed", "row", "column"]).loc[("α = 1", seeds - 1, 1, 3)]
    assert told.tolist() == [CLASSES[liked[-1, 1, 3]], strength[-1, 1, 3]]
    fig.canvas.draw()


def test_a_long_key_names_the_first_and_last_classes():
    named = [f"class {c}" for c in range(27)]
    shown = texts(topography.cortical_sheets(rows(), named, 1.0))
    assert "■ class 4" in shown and "■ class 26" in shown and "■ class 12" not in shown


def test_controls_are_grey_and_the_strongest_arm_keeps_its_colour():
    for arms in ({0: "", 1: ""}, {0: "", 0.1: "", 1: ""}, {0: "", 0.01: "", 0.1: "", 1: ""}):
        colours = topography.arm_colours({**arms, "permuted": ""}, ["permuted"])
        assert (colours[0], colours[1], colours["permuted"]) == (style.BLACK, style.ORANGE, style.NULL)
        assert len({str(c) for c in colours.values()}) == len(arms) + 1
    assert len(topography.arm_colours({w: "" for w in range(7)})) == 7


def sweeps():
    cells = [(a, s, 0.1 * e + 0.01 * s, 2.0**e * (2 if a == 1.0 else 1)) for a in ARMS for s in range(3)
             for e in range(5, 9)]
    return pd.DataFrame(cells, columns=["arm", "seed", "fve", "l0"])


def test_a_frontier_has_a_thin_line_per_seed_and_a_thick_mean_and_shades_what_is_not_sparse():
    fig = topography.sparsity_frontier(sweeps(), ARMS, ["permuted"], n_latents=1000)
    [ax] = fig.axes
    thin, thick = ([line for line in ax.lines if line.get_linewidth() == w] for w in (0.6, 2.2))
    assert len(thin) == 12 and len(thick) == 4 and ax.get_yscale() == "log"
    assert thick[3].get_color() == style.NULL and set(ARMS.values()) == set(key(fig))
    assert any("not sparse" in text for text in texts(fig))
    assert not any("not sparse" in text for text in texts(topography.sparsity_frontier(sweeps(), ARMS)))


def test_the_mean_curve_is_geometric_over_the_common_range():
    a, b = np.array([[0.0, 1], [1, 1]]), np.array([[0.5, 4.0], [2, 4]])
    x, y = topography._mean_curve([a, b])
    assert (x[0], x[-1]) == (0.5, 1) and y == pytest.approx(np.full(60, 2.0))
    x, y = topography._mean_curve([a, b + [5, 0]])  # no common range: the points as they are
    assert list(x) == [0, 1, 5.5, 7]


def key(fig):
    """Label -> (line style, colour) of the figure's key, in order."""
    found = fig.axes[0].get_legend()
    return {t.get_text(): (line._dash_pattern, line.get_color())
            for t, line in zip(found.get_texts(), found.get_lines(), strict=True)}


def test_the_key_has_the_order_of_the_lines_and_tells_two_greys_apart():
    arms = {0.0: "plain", 1.0: "topo", "permuted": "permuted", "early": "early"}
    cells = [(a, s, f, height * f) for height, a in enumerate([1.0, "early", 0.0, "permuted"], 1) for s in range(2)
             for f in (0.7, 0.9, 0.95)]
    table = pd.DataFrame(cells, columns=["arm", "seed", "fve", "l0"])
    found = key(topography.sparsity_frontier(table, arms, ["permuted", "early"]))
    assert list(found) == ["permuted", "plain", "early", "topo"]  # highest first
    assert found["permuted"][1] == found["early"][1] == style.NULL and found["permuted"][0] != found["early"][0]
    assert found["plain"][0] == found["topo"][0] == (0, None)


def test_outcomes_have_a_panel_each_with_seeds_means_intervals_and_nulls():
    cells = [(o, a, s, s + i) for o in ("l0", "accuracy") for i, a in enumerate(ARMS) for s in range(3)]
    table = pd.DataFrame([*cells, ("l0", 0.0, 3, np.nan)], columns=["outcome", "arm", "seed", "value"])
    fig = dose_response.dose_response(table, ARMS, ["permuted"], {"l0": 0.5})
    left, right, spare = fig.axes
    assert [left.get_title(loc="left"), right.get_title(loc="left"), spare.axison] == ["l0", "accuracy", False]
    means = [c.get_segments()[0] for c in left.collections]
    assert [segment[0][1] for segment in means if segment[0][1] == segment[1][1]] == [1, 2, 3, 4]
    ends = [segment.tolist() for segment in means if segment[0][1] != segment[1][1]]  # none where a seed has no value
    half = t_interval([0, 1, 2]).high - 1
    assert ends == [[[x, x + 1 - half], [x, x + 1 + half]] for x in (1, 2, 3)]
    assert [line.get_ydata()[0] for line in left.lines if line.get_color() == style.NULL][-1] == 0.5


def test_hovering_a_unit_shows_its_tuning_curve():
    tuning = np.zeros((3, 2, 4))
    tuning[:, 1, 2] = [2.0, 1.0, -1.0]
    liked, strength = rows()["α = 0"][0][0], rows()["α = 0"][1][0]
    fig = sheet_explorer.sheet_explorer({"α = 0": (liked, strength)}, {"α = 0": tuning}, CLASSES, 1.0)
    lines = fig.data[0].hovertext[1][2].split("<br>")
    assert lines[0] == f"place 6, contrast {strength[1, 2]:.2f}"
    assert [line.count("█") for line in lines[1:]] == [14, 7, 0]
    assert [re.search(r"-?[\d.]+$", line)[0] for line in lines[1:]] == ["2.00", "1.00", "-1.00"]
    assert np.asarray(fig.data[0].z).shape == (2, 4, 3)
