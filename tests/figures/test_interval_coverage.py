from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from lib.figures import style
from lib.figures.statistics import interval_coverage


def test_what_misses_the_truth_is_orange_and_nothing_else():
    found = np.array([[0.0, -1, 1], [2, 1, 3], [-2, -3, -1]])  # holds 0, above it, below it
    coverage = pd.DataFrame({"a": [0.5] * 3, "b": [0.8] * 3, "c": [0.95] * 3}, index=[3, 5, 10])
    fig = interval_coverage({"a": found, "b": found[:1]}, truth=0.0, coverage=coverage, level=0.95)
    first, second, curves = fig.axes
    segments = {to_hex(lines.get_color()[0]).upper(): len(lines.get_segments()) for lines in first.collections}
    assert segments == {style.BLACK: 1, style.ORANGE: 2}
    assert [len(lines.get_segments()) for lines in second.collections] == [1, 0]
    assert first.get_xlim() == second.get_xlim()
    assert {text.get_text() for text in curves.texts} == {"a", "b", "c"}
