"""Figures of the topographic loss draw the units, curves and lines they are given."""
import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from lib.figures import style, topoloss


def texts(ax):
    return [t.get_text() for t in ax.texts]


def test_rank_panels_mark_what_is_read():
    reads = {"one": np.zeros((2, 3)), "two": np.ones((4, 4))}
    reads["one"][1, 2] = 0.5
    fig = topoloss.rank_of_the_operator(reads, [1, 16])
    assert [ax.get_title("left") for ax in fig.axes] == ["one\nrank 1 of 6", "two\nrank 16 of 16"]
    meshes = [c for ax in fig.axes for c in ax.collections if isinstance(c, QuadMesh)]
    assert [int(mesh.get_array().sum()) for mesh in meshes] == [1, 16]
    assert fig.axes[0].get_ylim() == (2, 0)  # row 0 on top, as in the sheet


def test_five_sheets_stand_in_two_lines_and_no_panel_is_empty():
    fig = topoloss.rank_of_the_operator({str(n): np.ones((2, n)) for n in range(2, 7)}, range(5))
    assert len(fig.axes) == 5 and {ax.get_subplotspec().rowspan.start for ax in fig.axes} == {0, 1}


def test_sheets_share_one_signed_scale_and_ring_the_same_units():
    rng = np.random.default_rng(0)
    is_read = np.zeros((4, 6), bool)
    is_read[1, 2] = is_read[3, 5] = True
    sheets = {name: rng.normal(size=(4, 6)) for name in ("a", "b", "c", "d")}
    fig = topoloss.sampled_not_blurred(sheets, is_read)
    limit = max(np.abs(sheet).max() for sheet in sheets.values())
    for ax in fig.axes[:4]:
        assert ax.images[0].get_clim() == (-limit, limit)
        assert np.array_equal(np.column_stack(ax.lines[0].get_data()), [[2, 1], [5, 3]])  # column, row


def test_pull_falls_beside_the_published_growth():
    rms = np.logspace(-2, 0, 5)
    fig = topoloss.pull_and_length(rms, np.stack([3 / rms, 4 / rms]))
    (ax,) = fig.axes
    slopes = {}
    for line in ax.lines:
        x, y = (np.log(np.asarray(values, float)) for values in line.get_data())
        slopes.setdefault(line.get_color(), []).append(np.polyfit(x, y, 1)[0])
    assert slopes[style.NULL] == pytest.approx([-1]) and slopes[style.BLUE] == pytest.approx([-1, -1])
    assert slopes[style.BLACK] == pytest.approx([2]) and "published: rms²" in texts(ax)


def test_alone_labels_every_curve_and_the_rank():
    steps, distance = np.arange(3) * 10, np.arange(1.0, 9)
    ranks = {"sheet": np.array([300.0, 50, 6]), "permuted sheet": np.array([300.0, 60, 7])}
    likeness = {"at the start": 0 * distance, "sheet": 1 / distance, "permuted sheet": 0 * distance + 0.3}
    left, right = topoloss.alone(steps, ranks, 6, distance, likeness).axes
    assert "rank of the operator, 6" in texts(left) and left.get_yscale() == "log"
    assert texts(right) == list(likeness)
    assert [line.get_color() for line in right.lines] == [style.NULL, style.BLUE, style.ORANGE]
