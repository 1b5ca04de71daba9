"""The numbers a figure draws, beside its picture."""
import csv
import io

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats

from lib.figures import style
from lib.figures.drawn import COLUMNS, table


def rows(fig, **wanted):
    found = csv.DictReader(io.StringIO(table(fig)))
    return [(row["x"], row["y"], row["value"]) for row in found if all(row[k] == v for k, v in wanted.items())]


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
    assert rows(fig, panel="2", kind="points") == [("1", "3", "0.1"), ("2", "4", "0.333333")]
    assert {row[1] for row in rows(fig, panel="2", kind="shape")} == {"0", "5", "6"}
    assert rows(fig, panel="2", kind="tick") == [("0", "", "relu"), ("1", "", "topk")]
    cells = [("1", "0.5", "8"), ("3", "0.5", "9"), ("0", "0", "0"), ("1", "0", "1")]
    assert rows(fig, panel="3", kind="image")[:4] == cells
    assert rows(fig, panel="4") == []  # the colour bar


def test_a_notebook_keeps_picture_and_numbers(fig):
    shell = InteractiveShell()
    select_figure_formats(shell, {"png"})
    shown, _ = shell.display_formatter.format(fig)
    assert {"image/png", "text/csv"} <= shown.keys() and shown["text/csv"] == table(fig)
