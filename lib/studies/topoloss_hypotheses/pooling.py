"""What pooling items of few seeds does to a test: the same comparison with the item and with the seed as its unit."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from lib.metrics.statistics import paired_dz, paired_permutation_test, sample, standardised


class MeanTest(NamedTuple):
    """A test of b against a, with everything named."""

    unit: str
    """What counts as independent: "items, pooled" or "seeds"."""
    n: int
    """Number of units on each side."""
    difference: float
    """mean b - mean a; of logs where asked for."""
    t: float
    df: float
    p_value: float
    d: float
    d_name: str
    """"Cohen's d" (spread over items) or "paired d_z" (spread of the seeds' differences)."""


def pooled_summary_test(mean_a: float, sd_a: float, mean_b: float, sd_b: float, n: int) -> MeanTest:
    """Student's two-sample test of items as if each were independent, from their printed means and deviations.

    Args:
        n: items a side, all seeds together.
    """
    if n < 2:
        raise ValueError(f"pooled_summary_test needs at least 2 items a side, got {n}")
    spread = float(np.sqrt((sd_a**2 + sd_b**2) / 2))
    d = standardised(mean_b - mean_a, spread, "pooled_summary_test")
    t, df = d * np.sqrt(n / 2), 2 * n - 2
    p_value = float(2 * stats.t.sf(abs(t), df))
    return MeanTest("items, pooled", n, mean_b - mean_a, float(t), df, p_value, d, "Cohen's d")


def seed_test(a: ArrayLike, b: ArrayLike, log: bool = False) -> MeanTest:
    """Student's paired test of one value per seed, t = mean(b - a) / (sd / sqrt(n)), df = n - 1.

    Args:
        a, b: one value per seed, [n_seeds] each, in the same order of seeds.
        log: test the logs, for ratios.
    """
    a, b = _per_seed(a, b, log)
    d = paired_dz(b, a)
    t, df = d * np.sqrt(len(a)), len(a) - 1
    return MeanTest("seeds", len(a), float((b - a).mean()), float(t), df, float(2 * stats.t.sf(abs(t), df)), d,
                    "paired d_z")


def sign_flip_p(a: ArrayLike, b: ArrayLike, log: bool = False) -> float:
    """Exact two-sided sign-flip p of one value per seed; never below 2 / 2^n: .25 for three seeds."""
    a, b = _per_seed(a, b, log)
    if len(a) > 16:
        raise ValueError(f"sign_flip_p counts every pattern, which {len(a)} seeds are too many for")
    return paired_permutation_test(b, a, 2**16, rng=np.random.default_rng(0)).p_value  # exact, so nothing is drawn


def as_table(tests: dict[str, MeanTest]) -> pd.DataFrame:
    """Tests as rows, by label: unit, n, difference, t, df, p_value, d, d_name."""
    return pd.DataFrame([test._asdict() for test in tests.values()], index=list(tests))


def _per_seed(a: ArrayLike, b: ArrayLike, log: bool) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if log and not ((a > 0).all() and (b > 0).all()):
        raise ValueError("logs need values above 0")
    return sample(np.log(a) if log else a, "a"), sample(np.log(b) if log else b, "b")
