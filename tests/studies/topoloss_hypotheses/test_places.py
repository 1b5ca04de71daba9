"""What a sheet's preferences read where they are known: in bands, scattered, all the same."""
from __future__ import annotations

import numpy as np
import pytest

from lib.studies.topoloss_hypotheses.places import placed

SHEET = (8, 8)


def read(preferred: np.ndarray) -> dict[str, float]:
    contrast = np.eye(4)[preferred].T + 0.01 * np.random.default_rng(0).random((4, 64))
    return placed(contrast, 16, SHEET, 500, rng=np.random.default_rng(1))


def test_bands_lie_together_and_scattered_units_do_not():
    bands = np.repeat(np.arange(4), 16)
    together, scattered = read(bands), read(np.random.default_rng(2).permutation(bands))
    assert together["z"] < -2 < scattered["z"] and together["morans_i"] > 0.5 > abs(scattered["morans_i"])
    assert abs(together["morans_i_null"]) < 0.1 > abs(scattered["morans_i_null"])
    assert together["preferred"] == pytest.approx(4) == scattered["preferred"]


def test_units_that_all_prefer_one_class_count_as_one():
    assert read(np.zeros(64, dtype=int))["preferred"] == pytest.approx(1)
    assert read(np.arange(64) % 2)["preferred"] == pytest.approx(2)
