"""Tables the chapter shows and judges by: coders read off at one cost, in words a reader knows."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.metrics.frontier import at_matched, common_cost

NAMES = {
    "relu": "ReLU with L1", "p_anneal": "L1 annealed", "gated": "Gated", "jumprelu": "JumpReLU",
    "stochastic": "Stochastic", "topk": "TopK", "batch_topk": "BatchTopK", "matryoshka": "Matryoshka",
    "abs_topk": "AbsTopK", "multi_input": "TopK, two sites", "matching_pursuit": "Matching pursuit",
    "batch_topk_unit": "BatchTopK, x/|x|",
}
"""Rules in words."""
SCORES = {
    "recovery": "features recovered", "mmcs": "nearest latent, cosine", "uniqueness": "latents of their own",
    "precision": "precision", "recall": "recall", "f1": "F1", "shrinkage": "size of reconstruction",
    "fvu": "variance unexplained", "dead_fraction": "dead latents",
}
"""Metrics in words."""


def shown(table: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """Numbers as text, a dash for what is not there."""
    return table.map(lambda value: "–" if np.isnan(value) else f"{value:.{digits}f}")


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


def span(means: pd.Series) -> str:
    """The least and the largest of rules' means in words, over those that are there."""
    return f"{means.min():.0%} to {means.max():.0%}" if means.notna().any() else "nothing (no rule in every seed)"


def above_chance(runs: pd.DataFrame, worlds: pd.DataFrame, names: Sequence[str], seeds: int) -> pd.DataFrame:
    """`sparsest` minus the random dictionary of its seed: rules by worlds, means; nan where a seed has none."""
    chance = worlds.set_index(["world", "seed"]).null_recovery
    found = {world: sparsest(runs[runs.world == world], seeds).sub(chance[world], axis=1).mean(axis=1, skipna=False)
             for world in names}
    return pd.DataFrame(found).reindex(list(NAMES))


def matched(runs: pd.DataFrame, worlds: pd.DataFrame, world: str) -> pd.DataFrame:
    """The rules of a world, read off per seed at its own l0 or the nearest that all reach: index (arm, seed)."""
    own = runs[(runs.world == world) & runs.arm.isin(NAMES)]
    wanted = worlds[worlds.world == world].set_index("seed").true_l0.to_dict()
    return at_matched(own, "l0", common_cost(own, "l0", wanted), list(SCORES))


def together(
    runs: pd.DataFrame, worlds: pd.DataFrame, world: str, arms: Sequence[str], by: str, value: str = "recovery"
) -> pd.DataFrame:
    """Arms of one world where all cost as much, per seed: index seed, a column per arm; nan where they never do.

    Args:
        by: "l0", at the world's own, or "fvu", at 0.2; either moved to what all reach.
    """
    wanted = worlds[worlds.world == world].set_index("seed").true_l0.to_dict()
    wanted = wanted if by == "l0" else dict.fromkeys(wanted, 0.2)
    own = runs[(runs.world == world) & runs.arm.isin(arms)]
    return at_matched(own, by, common_cost(own, by, wanted), [value])[value].unstack("arm")[list(arms)]


SITES = ("multi_input", "topk", "shuffled_input")
"""TopK that reads two sites, one, and two of which the second is shuffled."""
SPLITTING = (("absorption", "absorption", "l0"), ("absorption", "absorption", "fvu"),
             ("latents per parent", "latents_per_parent", "l0"))
ABLATION = {"transcoder": ("transcoder", "unablated_transcoder"), "autoencoder": ("stochastic", "unablated")}
"""Coders with the ablation loss, and without."""


def effects(runs: pd.DataFrame, worlds: pd.DataFrame) -> dict[str, dict[str, pd.Series]]:
    """What the variants of SV-2 to SV-4 add over their controls, per seed: claim -> label -> differences."""
    def less(world: str, arms: Sequence[str], by: str, value: str = "recovery") -> pd.Series:
        table = together(runs, worlds, world, arms, by, value)
        return table[arms[0]] - table[arms[1]]

    sites = together(runs, worlds, "independent", SITES, "l0")
    return {
        "SV-2: signed latents": {
            f"{label} features, matched {by}": less(world, ("abs_topk", "topk"), by)
            for label, world in (("non-negative", "independent"), ("signed", "signed")) for by in ("l0", "fvu")},
        "SV-3: second site": {"two sites - one": sites.multi_input - sites.topk,
                              "two sites - shuffled": sites.multi_input - sites.shuffled_input},
        "SV-4: stochastic ablation": {
            f"{kind}: {label}, matched {by}": less("hierarchy", arms, by, value)
            for kind, arms in ABLATION.items() for label, value, by in SPLITTING},
    }


def masks(runs: pd.DataFrame) -> pd.DataFrame:
    """Coders with mask noise and with Bernoulli masks, each with whether it is in use (fvu below 0.5)."""
    own = runs[(runs.world == "independent") & runs.arm.isin(("noise", "bernoulli"))]
    return own.assign(in_use=own.fvu < 0.5)
