"""Arms beside one another: one value per model of everything that is compared, and what an arm changes, by seed."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lib.metrics.frontier import read_off
from lib.metrics.mixed_effects import mixed_effects
from lib.metrics.statistics import Interval, holm, mean_interval
from lib.press.ledger import Measured, Record
from lib.studies.topoloss_hypotheses.pooling import MeanTest, seed_test

PLAIN, TOPO, PERMUTED, EARLIER = "α = 0", "α = 1", "permuted sheet", "earlier checkpoint"
STAYS = "shows no change that matters"
FAMILY = {"TL-1 selectivity": "h1_entropy", "TL-2 latents": "peak", "TL-3 l0": "l0", "TL-4 patching": "log_matched",
          "TL-5 distance": "distance", "TL-9 points": "points", "TL-10 d95": "d95"}
"""The outcome of each claim that compares α = 1 with 0."""
EXPLAINED = {"l0_80": 0.8, "l0": 0.9, "l0_95": 0.95}
"""Explained variance at which l0 is read off a sweep."""
RELATIVE = {"rms", "effective_rank", "d95", "class_d95", "participation", "published_l0", "h1_published", "h1_entropy",
            "h1_index", "h1_peak", "h1_auroc", "h1_monosemanticity", *EXPLAINED, "peak", "distance",
            "published_distance"}
"""What is compared as a share of its value at the base; everything else by difference."""
OF_CLASSES = ["log_sufficiency", "log_matched", "log_specificity", "log_published", "published_ratio", "distance",
              "chance", "closer", "published_distance"]
"""Read as means over classes; closer is the share of classes whose units lie closer than random ones at p < .05."""


class Models:
    """One value per model of everything that is compared; what a run lacks reads nan.

    Args:
        runs: of `protocol.runs`.
        fixed_k: k at which fve, dead and ce of coders are read.
    """

    def __init__(self, runs: Mapping[str, pd.DataFrame], fixed_k: int) -> None:
        key, coders, classes = ["arm", "seed"], runs["coders"], runs["classes"]
        coders = coders.assign(fve=1 - coders.fvu, log_l0=np.log(coders.l0))
        classes = classes.assign(log_published=np.log(classes.published_ratio), closer=classes.p_closer < 0.05)
        classes = classes.groupby(key)
        table = runs["scalars"].set_index(key).assign(points=100 * runs["scalars"].accuracy.to_numpy())
        table = table.join(classes[OF_CLASSES].mean(skipna=False)).join(classes[["log_disc"]].mean())
        wanted = {name: ("log_l0", fve) for name, fve in EXPLAINED.items()}
        wanted |= {name: (name, 0.9) for name in ("peak", "peak_null")}
        for name, (column, fve) in wanted.items():
            sweeps = coders.groupby([*key, "coder_seed"])
            read = {place: read_off(sweep, "fvu", round(1 - fve, 6), column) for place, sweep in sweeps}
            own = pd.Series(read).rename_axis([*key, "coder_seed"]).groupby(key).mean(skipna=False)
            table[name] = np.exp(own) if column == "log_l0" else own
        self.table = table.join(coders[coders.k == fixed_k].groupby(key)[["fve", "dead", "ce"]].mean())
        self.arms = list(dict.fromkeys(self.table.index.get_level_values("arm")))

    def per_seed(self, what: str, arm: str) -> pd.Series:
        """A value of every model of an arm, by seed; empty where there is none."""
        return self.table[what].xs(arm) if arm in self.arms else pd.Series(dtype=float, name=what)

    def mean(self, what: str, arm: str = PLAIN) -> float:
        """Mean over the models of an arm."""
        return float(self.per_seed(what, arm).mean())

    def change(self, what: str, arm: str = TOPO, base: str = PLAIN) -> pd.Series:
        """What an arm adds to another, for the seeds both have; as a share where `RELATIVE` says so."""
        new, old = self.per_seed(what, arm).align(self.per_seed(what, base), join="inner")
        return (new - old) / (old if what in RELATIVE else 1)

    def interval(self, what: str, arm: str = TOPO, base: str = PLAIN) -> Interval:
        """Student's interval over seeds of `change`."""
        return mean_interval(self.change(what, arm, base))

    def against(self, what: str, *nulls: str, arm: str = TOPO, base: str = PLAIN) -> Measured:
        """What an arm changes, beside no change and what the arms `nulls` change."""
        own = self.change(what, arm, base)
        others = (self.change(what, null, base).reindex(own.index).to_numpy() for null in nulls)
        return Measured(own.to_numpy(), [0.0, *others])

    def contrasts(self, outcomes: Mapping[str, str], arms: Sequence[str] = (TOPO, PERMUTED, EARLIER)) -> pd.DataFrame:
        """What arms change, with intervals, as text: a row per outcome (label -> what), a column per arm."""
        rows = [[told(self.interval(what, arm)) for arm in arms] for what in outcomes.values()]
        return pd.DataFrame(rows, list(outcomes), list(arms))

    def family(self, outcomes: Mapping[str, str]) -> pd.DataFrame:
        """α = 1 against 0 as one family of tests over seeds: label -> what; columns of `MeanTest` and holm."""
        tests = {}
        for label, what in outcomes.items():
            pair = self.per_seed(what, PLAIN).align(self.per_seed(what, TOPO), join="inner")
            if len(pair[0]) > 1 and np.isfinite(pair).all() and np.ptp(pair[1] - pair[0]) > 0:
                tests[label] = seed_test(*pair)
        table = pd.DataFrame.from_dict(tests, "index", columns=MeanTest._fields).astype(float)
        return table.assign(holm=holm(table.p_value) if len(table) else ())


def told(interval: Interval) -> str:
    """An interval in a table: three digits, nothing where there is none."""
    return "" if np.isnan(interval.low) else "{:.3g} [{:.3g}, {:.3g}]".format(*interval)


def moves(changes: ArrayLike, margin: float = 0.0) -> str:
    """In prose, what a change does; one word where its interval lies off 0, `STAYS` where its 90 % interval fits."""
    interval = mean_interval(changes)
    if np.isnan(interval.low):
        return "is not compared here"
    if interval.holds(0):
        return STAYS if mean_interval(changes, 0.9).inside(-margin, margin) else "is not settled"
    return "falls" if interval.below(0) else "rises"


def untested(*parts: Measured, needs: str = "topo_weight 0 and 1, with controls") -> str:
    """Why a run cannot judge these parts: arms or seeds that it lacks, a share of variance no sweep reaches."""
    read = [np.asarray(values, float) for part in parts for values in (part.values, *part.nulls)]
    if any(values.ndim and not len(values) for values in read):
        return f"needs {needs}"
    if any(values.ndim and len(values) < 2 for values in read):
        return "needs two seeds"
    if all(np.isfinite(values).all() for values in read):
        return ""
    return f"needs {needs}, and coders of every model that reach this share of the variance"


def lacking(records: Mapping[str, Record], *ids: str) -> str:
    """What a run needs for those of these claims that it lacks weights, depths or seeds for, in one sentence."""
    needs = [f"{id} {records[id].reason}" for id in ids if records[id].reason.startswith("needs ")]
    return "; ".join(needs) or "This run has the weights and depths they need"


def mixed_model(classes: pd.DataFrame, what: str) -> str:
    """α = 1 against 0 of every class, told; crossed random intercepts for seeds, classes and pairs of seed and arm."""
    both = classes[classes.arm.isin([PLAIN, TOPO])].assign(topo=lambda table: table.arm.eq(TOPO) * 1.0)
    if both.arm.nunique() < 2 or both.seed.nunique() < 2:
        return ""
    try:
        return told(mixed_effects(both, f"{what} ~ topo", ["seed", "class", "seed:topo"]).interval("topo"))
    except ValueError:  # too few seeds for three components
        return "did not converge"
