"""What the chapter asks of the runs: tables by seed, intervals, slopes of the storage, and what a run can test."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.metrics.statistics import Interval, mean_interval
from lib.press.ledger import Record
from lib.rng import numpy_generator
from lib.studies.superposition_phases.common import Sweep
from lib.tensors import finite

GRID = (0.5, 0.6, 0.7, 0.75, 0.82, 0.87, 0.9, 0.95, 0.99)
"""Sparsities between which SP-4 looks for the steepest step; 0.80 and 0.85 would make steps that scatter decides."""
REGION = (0.82, 0.87)
"""The step of `GRID` that the claimed region is."""
MIDDLES = (np.array(GRID[1:]) + np.array(GRID[:-1])) / 2
NEEDED = {"SP-1": (0.1, 0.3, 0.7), "SP-2": (0.8, 0.85, 0.9), "SP-3": (0.7, 0.9, 0.95, 0.99), "SP-4": GRID}
"""Sparsities that each claim compares."""
SIZE = (20, 5)
"""n and m of the models the claims are about."""


def lacking(params: Sweep) -> dict[str, str]:
    """Per claim why a run of these values cannot test it; an empty text where it can."""
    n, m = params.n_features, params.n_hidden
    common = [f"made of {SIZE[0]} features in {SIZE[1]} dimensions, here {n} in {m}"] * ((n, m) != SIZE)
    common += ["one seed has no scatter"] * (params.seeds < 2)
    missing = {claim: [f"{s:g}" for s in needed if s not in params.sparsities] for claim, needed in NEEDED.items()}
    return {claim: "; ".join(common + [f"needs S = {', '.join(absent)} too"] * bool(absent))
            for claim, absent in missing.items()}


def by_seed(arms: Mapping[str, pd.DataFrame], column: str) -> dict[str, pd.DataFrame]:
    """Arm -> table with a row per seed and a column per sparsity, nan where the run lacks one that a claim needs."""
    needed = {s for some in NEEDED.values() for s in some}
    return {
        label: table.reindex(columns=sorted(needed | {*table.columns}))
        for label, runs in arms.items()
        for table in [runs.pivot(index="seed", columns="sparsity", values=column).astype(float)]
    }


def relative(table: pd.DataFrame, s: float, base: float) -> pd.Series:
    """Loss at s over the mean at base, per seed; the scatter at base counts too."""
    return 1 + (table[s] - table[base]) / table[base].mean()


def ratios(tables: Mapping[str, pd.DataFrame], s: float, sides: Sequence[float]) -> dict[tuple[str, float], Interval]:
    """(name of a table, side) -> the `relative` loss at s over that side."""
    return {(label, side): mean_interval(relative(table, s, side)) for label, table in tables.items() for side in sides}


def ratio_table(found: Mapping[tuple[str, float], Interval], s: float) -> pd.DataFrame:
    """`ratios` for a reader."""
    index = pd.MultiIndex.from_tuples(found, names=["loss, arm", f"L({s:g}) over L(S), S ="])
    return pd.DataFrame(found.values(), index, ["ratio", "low", "high"]).round(3)


def parts(record: Record) -> pd.DataFrame:
    """What each part of a claim came to."""
    rows = {part.name: (part.word, str(part.estimate), str(part.excess)) for part in record.parts}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["word", "ours", "over its null, as claimed"])


def neighbours(sparsities: Sequence[float], around: float = 0.85) -> tuple[float, float, float]:
    """What SP-2 compares where a run has it; else the swept S nearest to `around`, between the swept ones beside it.

    Where nothing was swept on a side, what a claim needs there stands in; its column is nan.
    """
    if set(NEEDED["SP-2"]) <= set(sparsities):
        return NEEDED["SP-2"]
    middle = min(sparsities, key=lambda s: abs(s - around))
    below = above = [middle]
    for some in (set().union(*NEEDED.values()), sparsities):
        below, above = [s for s in some if s < middle] or below, [s for s in some if s > middle] or above
    return max(below), middle, min(above)


def slopes(rows: np.ndarray, axis: str = "log") -> np.ndarray:
    """Slope of the mean over seeds between neighbours of `GRID`, [8], per unit of log(1/(1-S)) or of S ("S").

    Args:
        rows: [seeds, 9].
    """
    at = np.array(GRID) if axis == "S" else -np.log1p(-np.array(GRID))
    return np.diff(np.asarray(rows).mean(0)) / np.diff(at)


def steepest(rows: np.ndarray, axis: str = "log") -> float:
    """Middle of the steepest step, an S; nan where a sparsity is missing."""
    found = slopes(rows, axis)
    return float(MIDDLES[found.argmax()]) if np.isfinite(found).all() else np.nan


def steepest_per_S(rows: np.ndarray) -> float:
    """`steepest` per unit of S."""
    return steepest(rows, "S")


def claimed_step(rows: np.ndarray) -> float:
    """Slope over `REGION` as a multiple of the median slope, which counts as .02 at least.

    (Less than a feature in ten e-folds is nothing to divide by.)
    """
    found = slopes(rows)
    return float(found[GRID.index(REGION[1]) - 1] / np.maximum(np.median(found), 0.02))


def over_seeds(
    rows: pd.DataFrame, statistic: Callable[[np.ndarray], float], root: int, level: float = 0.95
) -> Interval:
    """Percentile interval of a statistic of all seeds together, [seeds, 9], by resampling seeds 2,000 times.

    For what a mean per seed cannot express, such as where the curve of seed means is steepest; where a value is
    missing, or there is one seed, it has no ends, as `mean_interval` has none.

    Args:
        root: the study's root seed; every interval of the storage resamples the same seeds.
    Source: Efron & Tibshirani 1993, chapter 13.
    """
    table = rows.to_numpy(dtype=float)
    if len(table) < 2 or np.isnan(table).any():
        return Interval(statistic(table), np.nan, np.nan)
    rng = numpy_generator(root, "superposition_phases", "storage")
    drawn = [statistic(table[rng.integers(len(table), size=len(table))]) for _ in range(2_000)]
    low, high = np.quantile(finite(drawn, "the resampled statistic"), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(table)), float(low), float(high))


def slope_table(stored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`slopes` of every arm on both axes, a row per step of `GRID`."""
    steps = [f"{a:g} to {b:g}" for a, b in zip(GRID[:-1], GRID[1:], strict=True)]
    columns = {f"{label}, per {axis}": slopes(table[list(GRID)].to_numpy(), axis)
               for axis in ("log", "S") for label, table in stored.items()}
    return pd.DataFrame(columns, index=steps).rename_axis("step of S").round(2)
