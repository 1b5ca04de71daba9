from __future__ import annotations

import itertools

import pandas as pd

from lib.figures import style
from lib.figures.statistics import promise_kept


def test_the_worst_claim_is_drawn_and_the_hardest_one_named():
    keys = list(itertools.product(("even", "skewed"), ("one part", "all of five"), (3, 5, 8)))
    hard = [0.5 * (claim == "all of five") for _, claim, _ in keys]
    shares = pd.DataFrame({"false_presence": [0.01] * 12, "false_absence": [0.02 + h for h in hard],
                           "power": [0.9 - h for h in hard]}, index=pd.MultiIndex.from_tuples(keys))
    fig = promise_kept(shares.rename_axis(["shape", "claim", "n"]), 0.05, {"a": 5, "b": 5, "c": 7})
    there, absent, power = fig.axes
    assert [line.get_color() for line in there.lines] == [style.BLACK, style.ORANGE]
    assert [line.get_ydata().tolist() for line in absent.lines] == [[0.52] * 3] * 2
    assert {text.get_text() for text in power.texts} == {"one\npart", "all\nof five", "5 a, b\n7 c"}
    assert [line.get_linestyle() for line in power.lines[:4]] == ["-", "-", "--", "--"]
    assert [line.get_xdata()[0] for line in power.lines[4:]] == [5, 7]
    assert power.get_xlim()[0] < 3 / 2
