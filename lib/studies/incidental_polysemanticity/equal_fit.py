"""Comparing runs while a cost such as validation error is held fixed: in pairs, or over all runs at once."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lib.metrics.frontier import matched_pair


def pairs_at_equal_cost(
    runs: pd.DataFrame, a: str, b: str, others: Sequence[str], by: str, value: str, anchor: str
) -> pd.DataFrame:
    """Two kinds of run, pair by pair, each pair read off at one cost: that of b's anchor, or the nearest both reach.

    A pair agrees in `others` and the seed; whatever else varies (a penalty) is its sweep, along which `value` is
    interpolated.

    Args:
        runs: columns seed, `by` (the cost), `value`, `others` and what the queries name.
        a, b, anchor: pandas queries of the two kinds, and of the run of b whose cost is wanted.
    Returns:
        One row per pair: columns named `a`, `b` (nan where they reach no common cost), `at` (the cost) and `seed`.
    """
    both = pd.concat([runs.query(query).assign(arm=query) for query in (a, b)])
    pair = both.groupby([*others, "seed"]).ngroup()
    seed_of, both = both.seed.groupby(pair).first(), both.assign(seed=pair)
    anchors = both[both.arm == b].query(anchor).set_index("seed")[by]
    if anchors.index.has_duplicates:
        raise ValueError(f"pairs_at_equal_cost: several runs of {b} fit {anchor} in one pair; name more in others")
    wanted = anchors.reindex(both.seed.unique()).to_dict()
    return matched_pair(both, a, b, by, value, wanted).rename_axis("pair").assign(seed=seed_of)


def relative_change(pairs: pd.DataFrame, a: str, b: str) -> pd.Series:
    """Mean of a over mean of b, minus 1, of each seed, over its pairs that have both; index seed."""
    means = pairs.dropna().groupby("seed")[[a, b]].mean()
    return means[a] / means[b] - 1


def partial_rank_correlation(table: np.ndarray) -> float:
    """Rank correlation of two measures while a third is held fixed: correlation of what a line in its ranks leaves.

    table: [..., 3], columns x, y and what is held fixed; all runs are ranked together.
    """
    x, y, given = rankdata(table.reshape(-1, 3), axis=0).T
    x, y = (ranks - np.polyval(np.polyfit(given, ranks, 1), given) for ranks in (x, y))
    return float(np.corrcoef(x, y)[0, 1])
