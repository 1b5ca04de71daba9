"""Comparing sparse coders at equal cost: every coder's own sweep, read off where it costs as much as another's.

A sweep is one arm and seed trained at several strengths of its sparsity. Rows of a table of runs have the columns arm,
seed and anything measured. Nothing is extrapolated: outside a sweep's own range the answer is nan.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def read_off(sweep: pd.DataFrame, by: str, at: float, value: str) -> float:
    """`value` where the sweep's `by` is `at`, linear in log(by) between neighbouring rows; nan outside their range.

    The sweep has one arm and seed, a row per setting; rows whose `by` is not positive are left out.
    """
    rows = sweep[sweep[by] > 0].groupby(by)[value].mean()  # sorted; equal costs count once
    if not len(rows) or not rows.index[0] * (1 - 1e-9) <= at <= rows.index[-1] * (1 + 1e-9):
        return float("nan")
    return float(np.interp(np.log(at), np.log(rows.index), rows))


def at_matched(runs: pd.DataFrame, by: str, at: Mapping[int, float], values: Sequence[str]) -> pd.DataFrame:
    """Every arm and seed (the index) read off at one cost per seed; columns `values`."""
    found = {
        (arm, seed): [read_off(sweep, by, at[seed], value) for value in values]
        for (arm, seed), sweep in runs.groupby(["arm", "seed"], sort=False)
    }
    index = pd.MultiIndex.from_tuples(found, names=["arm", "seed"])
    return pd.DataFrame(list(found.values()), index=index, columns=list(values))


def common_cost(runs: pd.DataFrame, by: str, wanted: Mapping[int, float]) -> dict[int, float]:
    """Per seed, the cost nearest to the wanted one that the sweeps of all arms reach; nan where there is none."""
    ends = runs[runs[by] > 0].groupby(["seed", "arm"])[by].agg(["min", "max"])
    n_arms, found = runs.arm.nunique(), {}
    for seed, cost in wanted.items():
        own = ends.loc[seed] if seed in ends.index.get_level_values(0) else ends.iloc[:0]
        low, high = own["min"].max(), own["max"].min()
        found[seed] = float(np.clip(cost, low, high)) if len(own) == n_arms and low <= high else float("nan")
    return found


def matched_pair(
    runs: pd.DataFrame, a: str, b: str, by: str, value: str, wanted: Mapping[int, float]
) -> pd.DataFrame:
    """Two arms at the same cost, seed by seed; what a paired difference is taken of.

    Args:
        a, b: names of arms.
        wanted: seed -> cost; moved into the range both arms reach.
    Returns:
        Index seed; columns `a`, `b` (nan where they reach no common cost) and `at`.
    """
    both = runs[runs.arm.isin([a, b])]
    if both.arm.nunique() < 2:
        raise ValueError(f"matched_pair: no runs of {', '.join({a, b} - set(both.arm))}")
    at = common_cost(both, by, wanted)
    table = at_matched(both, by, at, [value])[value].unstack("arm")[[a, b]]
    return table.assign(at=pd.Series(at))
