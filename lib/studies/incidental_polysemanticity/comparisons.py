"""What the chapter compares, as frames: runs at equal validation error, levels of a factor, widths, coders.

Rows of a table of runs have the columns of `report.table`, a `combination`, and an `anchor` that says which of a
pair's runs has the penalty at whose cost the two are compared. Where nothing can be compared a frame has no rows.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lib.metrics.frontier import matched_pair
from lib.metrics.mixed_effects import mixed_effects
from lib.metrics.statistics import Interval, holm, mean_interval, paired_permutation_test

CELLS = ["init", "noise", "reg", "act"]
FACTORS = {
    "L2, not L1": ("reg", "L2", "L1"),
    "orthogonal start, not random": ("init", "orthogonal", "random"),
    "heavy-tailed noise, not bipolar": ("noise", "positive_kurtosis", "bipolar"),
    "heavy-tailed noise, not none": ("noise", "positive_kurtosis", "none"),
    "bipolar noise, not none": ("noise", "bipolar", "none"),
    "GELU, not ReLU": ("act", "gelu", "relu"),
}
"""Name -> the factor and its two levels."""


def told(values: ArrayLike | Interval, form: str = "+.1%") -> str:
    """The mean with its interval as a table shows it, "+1.2% [-0.3%, +2.7%]"; a dash where there is none."""
    found = values if isinstance(values, Interval) else mean_interval(values)
    return "–" if np.isnan(found.low) else "{:{f}} [{:{f}}, {:{f}}]".format(*found, f=form)


def stands(changes: Mapping[str, ArrayLike], margins: Mapping[str, float]) -> str:
    """In words which of the changes named in `margins` is less, more, none past its margin, or open; name -> values."""
    said = {"there is less overlap with": [], "more with": [], "no change that matters with": [], "it is open with": []}
    for name, margin in margins.items():
        change = mean_interval(changes[name])
        is_one = change.below(0), change.above(0), change.inside(-margin, margin), True
        list(said.values())[is_one.index(True)].append(name.replace(", not ", " (against ") + ")")
    return "; ".join(f"{word} {' and '.join(names)}" for word, names in said.items() if names)


def raises(factors: pd.DataFrame) -> str:
    """In words with which factors recovery rises, over the seeds that `by_factor` read at equal error."""
    found = {name: mean_interval(rows.recovery.dropna()) for name, rows in factors.groupby("factor", sort=False)}
    said = [f"{told(rise)} with {name.replace(', not ', ' against ')}" for name, rise in found.items() if rise.above(0)]
    return f"it rises by {' and by '.join(said)}" if said else "it rises with no factor"


def pairs_at_equal_error(
    runs: pd.DataFrame, a: str, b: str, others: Sequence[str] = (), value: str = "interference"
) -> pd.DataFrame:
    """Two kinds of run, pair by pair, each read off at one validation error: that of b's anchor, or the nearest both
    reach.

    A pair agrees in `others` and the seed; whatever else varies (a penalty) is its sweep, along which `value` is
    interpolated.

    Args:
        a, b: pandas queries of the two kinds.
    Returns:
        One row per pair: columns a, b (nan where they reach no common error), `at` (the error) and `seed`.
    """
    both = pd.concat([runs.query(query).assign(arm=arm) for arm, query in (("a", a), ("b", b))])
    pair = both.groupby([*others, "seed"]).ngroup()
    seed_of, both = both.seed.groupby(pair).first(), both.assign(seed=pair)
    anchors = both[(both.arm == "b") & both.anchor].set_index("seed").val_mse
    if anchors.index.has_duplicates:
        raise ValueError(f"pairs_at_equal_error: several anchors of {b} in one pair; name more in others")
    wanted = anchors.reindex(both.seed.unique()).to_dict()
    return matched_pair(both, "a", "b", "val_mse", value, wanted).rename_axis("pair").assign(seed=seed_of)


def relative_change(pairs: pd.DataFrame) -> pd.Series:
    """Mean of a over mean of b, minus 1, of each seed over its pairs that have both; index seed."""
    means = pairs.dropna().groupby("seed")[["a", "b"]].mean()
    return means.a / means.b - 1


def at_equal_error(
    runs: pd.DataFrame, a: str, b: str, others: Sequence[str] = (), value: str = "interference"
) -> pd.Series:
    """`relative_change` of `pairs_at_equal_error`, which takes the same."""
    return relative_change(pairs_at_equal_error(runs, a, b, others, value))


def by_factor(runs: pd.DataFrame) -> pd.DataFrame:
    """Each of `FACTORS` per seed, all others alike: relative change of Interference, and how it was found.

    Returns:
        Index (factor, seed); columns same (at the published penalty), equal (at equal validation error; nan where no
        pair reaches one), kept (share of its pairs that do), recovery (relative change of that, at equal error).
    """
    found = {}
    for name, (factor, a, b) in FACTORS.items():
        mean = runs[runs.anchor].groupby(["seed", factor]).interference.mean().unstack()
        kinds = f"{factor} == '{a}'", f"{factor} == '{b}'", [cell for cell in CELLS if cell != factor]
        pairs, recovered = (pairs_at_equal_error(runs, *kinds, value) for value in ("interference", "recovery"))
        found[name] = pd.DataFrame({
            "same": mean[a] / mean[b] - 1, "equal": relative_change(pairs),
            "kept": pairs.a.notna().groupby(pairs.seed).mean(), "recovery": relative_change(recovered)})
    return pd.concat(found, names=["factor", "seed"])


def factor_table(factors: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """What `by_factor` found as a reader sees it, with Holm's p of the changes at the same penalty (sign flips).

    Changes at equal error are means over the seeds that reach one.
    """
    groups = factors.groupby("factor", sort=False)
    p = [paired_permutation_test(rows.same, 0 * rows.same, rng=rng).p_value for _, rows in groups]
    read = groups[["equal", "recovery"]].agg(lambda found: told(found.dropna()))
    columns = {"same penalty": groups.same.agg(told), "Holm p": np.round(holm(p), 4), "equal error": read.equal,
               "pairs kept": groups.kept.mean().map("{:.0%}".format), "recovery, equal error": read.recovery}
    return pd.DataFrame(columns, index=list(FACTORS))


def mixed_models(runs: pd.DataFrame) -> pd.DataFrame:
    """Changes of log Interference by all factors at once, one intercept per seed; a row per term, a column per model.

    The models: at the published penalty; there, with log validation error among the terms; with it, at all penalties.
    """
    dummies = {"L2": runs.reg == "L2", "GELU": runs.act == "gelu", "orthogonal start": runs.init == "orthogonal",
               "bipolar noise": runs.noise == "bipolar", "heavy-tailed noise": runs.noise == "positive_kurtosis",
               "log validation error": np.log(runs.val_mse)}
    logs = pd.DataFrame({f"x{i}": column.astype(float) for i, column in enumerate(dummies.values())})
    logs, terms = logs.assign(y=np.log(runs.interference), seed=runs.seed), "y ~ x0 + x1 + x2 + x3 + x4"
    asked = {"one penalty": (logs[runs.anchor], terms), "with error": (logs[runs.anchor], f"{terms} + x5"),
             "all penalties, with error": (logs, f"{terms} + x5")}
    table = {}
    for name, (rows, formula) in asked.items():
        found = mixed_effects(rows, formula, ["seed"])
        table[name] = {term: told(found.interval(f"x{i}"), "+.3f") if f"x{i}" in found.effects.index else ""
                       for i, term in enumerate(dummies)}
    return pd.DataFrame(table)


def partial_rank_correlation(table: np.ndarray) -> float:
    """Rank correlation of two measures while a third is held fixed: correlation of what a line in its ranks leaves.

    table: [..., 3], columns x, y and what is held fixed; all runs are ranked together.
    """
    x, y, given = rankdata(table.reshape(-1, 3), axis=0).T
    x, y = (ranks - np.polyval(np.polyfit(given, ranks, 1), given) for ranks in (x, y))
    return float(np.corrcoef(x, y)[0, 1])


def sparsity_against(runs: pd.DataFrame, value: str, rng: np.random.Generator | None = None) -> pd.Series:
    """Partial rank correlation of sparsity (1 - l0/16) with `value` over the runs of each seed, error held fixed.

    With `rng` the null: mean over 50 draws with the runs of a seed permuted.
    """
    found = {}
    for seed, rows in runs.groupby("seed"):
        sparsity, rest = 1 - rows.l0.to_numpy() / 16, rows[[value, "val_mse"]].to_numpy()
        drawn = [sparsity] if rng is None else [rng.permutation(sparsity) for _ in range(50)]
        found[seed] = np.mean([partial_rank_correlation(np.c_[x, rest]) for x in drawn])
    return pd.Series(found)


def narrowing(runs: pd.DataFrame) -> pd.DataFrame:
    """How clipping changes the spread of the autoencoder's error between seeds: a row per seed, a column per norm.

    Distance from the median of the seeds relative to its mean without clipping, minus that without, mean over cells.
    """
    error = runs.pivot(index="seed", columns=["clip", *CELLS], values="sae_mse")
    away = {norm: (error[norm] - error[norm].median()).abs() for norm in error.columns.unique("clip")}
    free = away.pop(np.inf)
    return pd.DataFrame({norm: ((far - free) / free.mean()).mean(axis=1) for norm, far in away.items()})


def bound(runs: pd.DataFrame, norm: float) -> float:
    """Share of the networks whose autoencoder's error differs where gradients are clipped at `norm`."""
    error = runs.pivot(index=["seed", *CELLS], columns="clip", values="sae_mse")
    return float((error[norm] != error[np.inf]).mean())


def falls(runs: pd.DataFrame, null: np.ndarray) -> pd.DataFrame:
    """Fall of log Interference per unit from 8 to 9 hidden units, elsewhere (a unit counts once), and at random.

    Args:
        runs: columns width, seed, interference; null: the same of random directions, [widths, draws].
    Returns:
        One row per seed; columns step, elsewhere, random. Without rows unless 8, 9 and another width are there.
    """
    table = runs.pivot(index="seed", columns="width", values="interference")
    widths = table.columns.to_numpy()
    if not {8, 9} < set(widths):
        return pd.DataFrame(columns=["step", "elsewhere", "random"], dtype=float)
    trained, random = (-np.diff(logs) / np.diff(widths) for logs in (np.log(table), np.log(null.mean(axis=1))))
    step = int(np.flatnonzero(widths == 8)[0])
    elsewhere = np.average(np.delete(trained, step, 1), axis=1, weights=np.delete(np.diff(widths), step))
    return pd.DataFrame({"step": trained[:, step], "elsewhere": elsewhere, "random": random[step]}, table.index)


def fidelity_gain(runs: pd.DataFrame, a: str, b: str, l0: float = 3.0) -> pd.Series:
    """Share of arm b's unexplained variance that arm a leaves less at one l0, of each seed that both reach together.

    runs: columns arm, seed, l0, fvu; l0: active latents wanted, moved into the range that both arms reach.
    """
    found = matched_pair(runs, a, b, "l0", "fvu", dict.fromkeys(runs.seed.unique(), l0)).dropna()
    return 1 - found[a] / found[b]
