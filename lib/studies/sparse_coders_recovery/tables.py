"""Tables the chapter shows and judges by: coders read off at one cost, in words a reader knows."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.metrics.frontier import at_matched, common_cost, matched_pair
from lib.metrics.statistics import Interval, t_interval

NAMES = {
    "relu": "ReLU with L1", "p_anneal": "L1 annealed", "gated": "Gated", "jumprelu": "JumpReLU",
    "stochastic": "Stochastic", "topk": "TopK", "batch_topk": "BatchTopK", "matryoshka": "Matryoshka",
    "abs_topk": "AbsTopK", "multi_input": "TopK, two sites", "matching_pursuit": "Matching pursuit",
}
"""Rules in words."""
SCORES = {
    "recovery": "features recovered", "mmcs": "nearest latent, cosine", "uniqueness": "latents of their own",
    "precision": "precision", "recall": "recall", "f1": "F1", "shrinkage": "size of reconstruction",
    "fvu": "variance unexplained", "dead_fraction": "dead latents",
}
"""Metrics in words."""


def interval(values: ArrayLike) -> Interval:
    """Student's interval of a mean over seeds; without ends for one seed, nan where a seed has no value."""
    values = np.asarray(values, dtype=float)
    if np.isfinite(values).all() and len(values) > 1:
        return t_interval(values)
    return Interval(float(values.mean()), float("nan"), float("nan"))


def sparsest(runs: pd.DataFrame, seeds: int, most: float = 0.05) -> pd.DataFrame:
    """Recovery of each rule's sparsest coder with fvu at most `most`, chosen without knowing the features.

    Args:
        runs: of one world, columns arm, seed, l0, fvu, recovery.
    Returns:
        Index arm, one column per seed; nan where the rule has no such coder.
    """
    good = runs[runs.fvu <= most].sort_values("l0")
    table = good.groupby(["arm", "seed"]).recovery.first().unstack("seed")
    return table.reindex(index=runs.arm.unique(), columns=range(seeds))


def above_chance(runs: pd.DataFrame, worlds: pd.DataFrame, names: Sequence[str], seeds: int) -> pd.DataFrame:
    """`sparsest` of each world minus the random dictionary of its seed: rules by worlds, means; nan where a seed lacks."""
    chance = worlds.set_index(["world", "seed"]).null_recovery
    found = {world: sparsest(runs[runs.world == world], seeds).sub(chance[world], axis=1).mean(axis=1, skipna=False)
             for world in names}
    return pd.DataFrame(found).reindex(list(NAMES))


def matched(runs: pd.DataFrame, worlds: pd.DataFrame, world: str) -> pd.DataFrame:
    """The rules of a world, read off per seed at its own l0 or the nearest that all reach: index (arm, seed)."""
    own = runs[(runs.world == world) & runs.arm.isin(NAMES)]
    wanted = worlds[worlds.world == world].set_index("seed").true_l0.to_dict()
    return at_matched(own, "l0", common_cost(own, "l0", wanted), list(SCORES))


def pair(runs: pd.DataFrame, worlds: pd.DataFrame, world: str, arms: tuple[str, str], by: str, value: str) -> pd.DataFrame:
    """Two arms of one world, per seed, where both cost as much (`matched_pair`).

    Args:
        by: "l0", at the world's own, or "fvu", at 0.2; either moved to what both reach.
    """
    own = worlds[worlds.world == world].set_index("seed").true_l0
    wanted = own.to_dict() if by == "l0" else dict.fromkeys(own.index, 0.2)
    return matched_pair(runs[runs.world == world], *arms, by, value, wanted)


def difference(
    runs: pd.DataFrame, worlds: pd.DataFrame, world: str, arms: tuple[str, str], by: str, value: str = "recovery"
) -> pd.Series:
    """First arm minus second, per seed, as `pair` reads them."""
    both = pair(runs, worlds, world, arms, by, value)
    return both[arms[0]] - both[arms[1]]


def together(runs: pd.DataFrame, worlds: pd.DataFrame, arms: Sequence[str], by: str, value: str) -> pd.DataFrame:
    """`value` of several arms per seed, all at the one cost that `pair` would want, or the nearest that all reach.

    Args:
        runs: of one world.
    """
    own = worlds[worlds.world == runs.world.iloc[0]].set_index("seed").true_l0
    wanted = own.to_dict() if by == "l0" else dict.fromkeys(own.index, 0.2)
    own = runs[runs.arm.isin(arms)]
    return at_matched(own, by, common_cost(own, by, wanted), [value])[value].unstack("arm")[list(arms)]
