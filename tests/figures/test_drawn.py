"""The numbers a figure draws, beside its picture."""
import csv
import io

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from matplotlib.collections import LineCollection

from lib.figures import style
from lib.figures.contact_sheet import contact_sheet
from lib.figures.drawn import COLUMNS, table
from lib.figures.stored_features import phase_diagrams


def told(fig, **wanted):
    found = csv.DictReader(io.StringIO(table(fig)))
    return [row for row in found if all(row[k] == v for k, v in wanted.items())]


def rows(fig, **wanted):
    return [(row["x"], row["y"], row["value"]) for row in told(fig, **wanted)]


def shown(fig):
    """What a notebook keeps of it: a picture, and its numbers where it tells them."""
    shell = InteractiveShell()
    select_figure_formats(shell, {"png"})
    kept, _ = shell.display_formatter.format(fig)
    assert "image/png" in kept
    return kept.get("text/csv")


@pytest.fixture
def fig():
    fig, (a, b, c) = style.figure(cols=3)
    a.set_title("Left, the first")
    a.plot([1, 2], [3, np.nan], label="loss")
    a.axhline(7)
    style.null_band(a, 0.1, 0.2)
    points = b.scatter([1, 2], [3, 4], c=[0.1, 1 / 3])
    b.text(1, 3, "no number")
    fig.colorbar(points)
    b.bar([0, 1], [5, 6])
    b.set_xticks([0, 1], ["relu", "topk"])
    c.imshow(np.arange(6).reshape(2, 3))
    c.pcolormesh([0, 2, 4], [0, 1], [[8, 9]])
    return fig


def test_every_line_point_band_bar_and_image_is_there(fig):
    first = {"panel": "Left, the first"}
    assert table(fig).splitlines()[0] == ",".join(COLUMNS)
    assert rows(fig, **first, series="loss") == [("1", "3", ""), ("2", "", "")]
    assert ("", "7", "") in rows(fig, **first, kind="line")  # it spans the panel
    assert {row[1] for row in rows(fig, **first, kind="shape")} == {"0.1", "0.2"}
    assert rows(fig, panel="2", kind="points") == [("1", "3", "0.1"), ("2", "4", "0.333333333")]
    assert {row[1] for row in rows(fig, panel="2", kind="shape")} == {"0", "5", "6"}
    assert rows(fig, panel="2", kind="tick") == [("0", "", "relu"), ("1", "", "topk")]
    cells = [("1", "0.5", "8"), ("3", "0.5", "9"), ("0", "0", "0"), ("1", "0", "1")]
    assert rows(fig, panel="3", kind="image")[:4] == cells
    assert rows(fig, panel="4") == []  # the colour bar


def test_columns_and_series_say_what_they_are():
    fig, axes = style.figure(cols=2, sharey=True)
    axes[0].set(xlabel="step,\nlogged", ylabel="loss")
    for y, colour in ((1, style.BLUE), (2, style.BLUE), (5, style.ORANGE)):
        axes[0].plot([0, 1], [y, y], color=colour)
    for y, text, colour in ((2.1, "second", style.BLUE), (1, "first", style.BLUE), (5, "other", style.ORANGE)):
        style.direct_label(axes[0], 1, y, text, colour)
    axes[1].bar([0, 1], [2, 3], label="bars")
    axes[1].hist([1, 2], bins=2, label="counts")
    axes[1].errorbar([0], [1], [[0.5], [0.5]], fmt="o", label="interval")
    style.null_band(axes[1], 0, 1, label="chance")
    assert {row["x_label"] for row in told(fig, panel="1")} == {"step, logged"}
    assert {row["y_label"] for row in told(fig)} == {"loss"}
    assert {row["series"]: row["y"] for row in told(fig, panel="1")} == {"first": "1", "second": "2", "other": "5"}
    assert {row["series"] for row in told(fig, panel="2")} == {"bars", "counts", "interval", "chance"}
    assert {row["part"] for row in told(fig, series="bars")} == {"1", "2"}


def test_places_are_those_drawn():
    fig, (a, b, c) = style.figure(cols=3)
    a.imshow([[1, 2], [3, 4]], extent=(0, 4, 10, 30), origin="lower")
    b.set(xscale="log", yscale="log")
    b.pcolormesh([1, 100, 10_000], [1, 4], [[8, 9]])
    b.set_xticks([10, 1000], ["10", "all"])
    c.set_xticks([-2, 0], ["0.01", "1"])
    c.add_collection(LineCollection([[(0, 0), (1, 1)], [(5, 5), (6, 1234567), (6, 1234568)]]))
    style.dots(c, [3, 3], [1, 2], apart=[-0.1, 0.1])
    style.dots(c, [6, 7], -1, apart=[0.2, 0], along="y", marker="s")
    assert rows(fig, panel="1", kind="image") == [
        ("1", "15", "1"), ("3", "15", "2"), ("1", "25", "3"), ("3", "25", "4")]
    assert rows(fig, panel="2", kind="image") == [("10", "2", "8"), ("1000", "2", "9")]
    assert rows(fig, panel="2", kind="tick") == [("1000", "", "all")]
    assert rows(fig, panel="3", kind="tick") == [("-2", "", "0.01"), ("0", "", "1")]
    assert [(row["part"], row["y"]) for row in told(fig, panel="3", kind="shape")] == [
        ("1", "0"), ("1", "1"), ("2", "5"), ("2", "1234567"), ("2", "1234568")]
    assert rows(fig, panel="3", kind="line") == [("3", "1", ""), ("3", "2", ""), ("6", "-1", ""), ("7", "-1", "")]
    assert [*c.lines[0].get_xdata()] == [2.9, 3.1] and [*c.lines[1].get_ydata()] == [-0.8, -1]
    assert c.lines[0].get_marker() == "o" and c.lines[1].get_marker() == "s"


@pytest.mark.parametrize("draw", [
    lambda ax: ax.scatter([1, 2], [3, 4], c=["red", "blue"]),
    lambda ax: ax.scatter([1, 2], [3, 4], s=[5, 9]),
    lambda ax: ax.bar([1, 2], [3, 4], color=["red", "blue"]),
    lambda ax: ax.pcolormesh([0, 1], [0, 1], [[1, 2], [3, 4]], shading="gouraud"),
    lambda ax: ax.hexbin([0, 1, 1], [0, 1, 2]),
])
def test_a_figure_that_cannot_tell_all_tells_nothing(draw):
    fig, ax = style.figure()
    ax.plot([1], [2])
    assert shown(fig) == table(fig)
    draw(ax)
    assert shown(fig) is None


def test_a_maker_hands_over_what_colours_stand_for():
    phase = np.array([[0, 1], [1, 1]])
    diagram = {"density": [0.1, 1], "importance": [1, 3], "phase": phase, "theory": phase.T, "agreeing": phase / 3}
    text = shown(phase_diagrams({"one": {k: np.array(v) for k, v in diagram.items()}}, ("kept", "ignored", "both")))
    head, *found = text.splitlines()
    assert head == "panel,density,importance,phase,phase in theory,share of restarts"
    assert found[1] == "one,0.1,3,ignored,ignored,0.333333333" and len(found) == 4


def test_a_cell_given_as_a_colour_is_red_green_and_blue():
    fig, (a, b) = style.figure(cols=2)
    a.imshow([[[0, 0.5, 1], [1, 1, 1]]])
    b.imshow(np.array([[[0, 128, 255]]], np.uint8))
    assert rows(fig, panel="1", kind="image") == [("0", "0", "0 0.5 1"), ("1", "0", "1 1 1")]
    assert rows(fig, panel="2", kind="image") == [("0", "0", "0 128 255")]


def test_of_many_cells_their_number_alone_is_told():
    fig, (a, b) = style.figure(cols=2)
    a.imshow(np.zeros((150, 100)))
    b.imshow(np.zeros((50, 100, 3)))
    assert len(rows(fig, kind="image")) == 20_000
    b.plot([1], [2])
    a.imshow([[7]])
    assert rows(fig, kind="image") == [("", "", "left out: 20001 cells in all, more than 20000")] * 3
    assert rows(fig, kind="line") == [("1", "2", "")]
    assert "left out: 31360 cells" in shown(contact_sheet(np.zeros((40, 28, 28)), np.zeros(40, int), ["one"], 40))
