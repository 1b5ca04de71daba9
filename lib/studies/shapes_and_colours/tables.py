"""What the chapter asks of the runs: one value per network, what a run can test, and tables for a reader."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.data import shapes_colours as generated
from lib.press.ledger import Record
from lib.studies.shapes_and_colours import anova
from lib.studies.shapes_and_colours.common import ATTRIBUTES, HEADS, JOINT, SCRAMBLED, held_out
from lib.studies.shapes_and_colours.measure import MeasuringBehind
from lib.studies.shapes_and_colours.net import BEHIND

ENOUGH = 5
"""Networks of each kind without which PD-9 is not tested."""


def decompositions(found: pd.DataFrame) -> pd.DataFrame:
    """`measure.readings_behind` as one row per decomposition and layer, with its network's task and seed."""
    keys = [name for name in ("task", "seed", "importance", "every_cell") if name in found]
    return pd.concat([run["rows"].assign(**{key: run[key] for key in keys}) for _, run in found.iterrows()])


def per_network(found: pd.DataFrame, by: Sequence[str] = ("task", "seed", "site")) -> pd.DataFrame:
    """Means over the decompositions that count, a row per network and layer; one without any is left out."""
    rows = decompositions(found)
    return rows[rows.counts].groupby(list(by)).mean(numeric_only=True).drop(columns=["decomposition"])


def values(table: pd.DataFrame, task: str, site: str, column: str) -> pd.Series:
    """One value per network that every kind has with the same seed."""
    wide = table[column].unstack("task").reindex(columns=[HEADS, JOINT, SCRAMBLED])
    return wide.query("site == @site").droplevel("site").dropna()[task]


def untested(params: MeasuringBehind, table: pd.DataFrame) -> str:
    """Why a run of these values cannot test PD-9; empty where it can."""
    n = min(len(values(table, HEADS, site, "atomic")) for site in BEHIND)
    if params.counts != generated.COUNTS:
        return f"made of 3 shapes, 3 colours and 3 sizes, here {' x '.join(map(str, params.counts))}"
    return "" if n >= ENOUGH else f"{n} networks of each kind decide nothing; profile long has eight"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over networks by layer and kind, for a reader."""
    shown = table.groupby(["site", "task"]).mean()
    shown.insert(0, "networks", table.groupby(["site", "task"]).size())
    every = pd.MultiIndex.from_product([BEHIND, (HEADS, JOINT, SCRAMBLED)], names=["layer", "network"])
    shown = shown.reindex(every)
    names = {"alive": "alive", "atomic": "share atomic", "null_atomic": "random", "levels": "levels", "cells": "cells",
             "null_levels": "random levels", "null_cells": "random cells", "ci_accuracy": "masked accuracy"}
    return shown[["networks", *names]].rename(columns=names).round(2)


def told(record: Record) -> pd.DataFrame:
    """What each part of a claim came to."""
    rows = {part.name: (part.word, str(part.estimate or ""), str(part.excess or "")) for part in record.parts}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["word", "ours", "over its null, as claimed"])


def accuracies(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each head of every network, and of the worst head of its masked decompositions."""
    rows = []
    for _, run in found.iterrows():
        names = ATTRIBUTES if len(run.accuracy) == 3 else ("combination",)
        one = run["rows"].query("site == 'fc1'")
        rows.append({"network": f"{run.task} {run.seed}", **dict(zip(names, run.accuracy, strict=True)),
                     "worst head, masked": one.ci_accuracy.tolist(), "count": int(one.counts.sum())})
    told = pd.DataFrame(rows).set_index("network")
    told["worst head, masked"] = [", ".join(f"{value:.3f}" for value in one) for one in told["worst head, masked"]]
    return told.round(3).fillna("")


def ordered(means: np.ndarray, frequency: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Components that are judged, by the attribute with most of their variance and then by the level they follow."""
    own = np.flatnonzero(anova.judged(means, frequency))
    if not len(own):
        return own
    which = anova.shares(means[:, own], counts).argmax(1)
    centred = means[:, own] - means[:, own].mean(0)
    level = (anova.level_indicators(counts).T @ centred).argmax(0)
    return own[np.lexsort((level, which))]


def ideals(counts: Sequence[int]) -> dict[str, np.ndarray]:
    """What the two answers would look like: mean importance over the cells, [n_cells, C]."""
    return {"nine atoms would be": anova.level_indicators(counts), "27 cells would be": np.eye(int(np.prod(counts)))}


def predicted(found: pd.DataFrame, params: MeasuringBehind) -> pd.DataFrame:
    """Mean importance on combinations left out of an additive fit: columns seed, site, atomic, actual, predicted."""
    left, rows = list(held_out(params)), []
    shown = ~np.isin(np.arange(int(np.prod(params.counts))), left)
    for _, run in found.iterrows():
        for site in BEHIND:
            kept = run["rows"].query("site == @site").counts.to_numpy()
            for means, on in zip(run.means[site][kept], run.frequency[site][kept], strict=True):
                own = means[:, anova.judged(means, on)]
                atoms, fitted = anova.is_atomic(own, params.counts), anova.additive(own, shown, params.counts)
                rows += [(run.seed, site, bool(a), own[c, i], fitted[c, i]) for i, a in enumerate(atoms) for c in left]
    return pd.DataFrame(rows, columns=["seed", "site", "atomic", "actual", "predicted"])


def by_importance(found: pd.DataFrame, swept: pd.DataFrame, importance: float) -> pd.DataFrame:
    """`per_network` of networks with heads at every weight of the importance loss, index (importance, seed, site).

    Args:
        found: `protocol.behind`, at the weight `importance`; swept: at the others, maybe none.
    """
    own = found[found.task == HEADS].assign(importance=importance)
    every = pd.concat([own[own.seed.isin(swept.seed)] if len(swept) else own, swept])
    return per_network(every, ("importance", "seed", "site"))


def unseen(held: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by head on combinations a network was not shown: its own, and masked by gates of either kind."""
    rows = {}
    for _, run in held.iterrows():
        kind = "gates of all cells" if run.every_cell else "gates of the rest"
        rows[run.seed, "network"] = dict(zip(ATTRIBUTES, run.held_accuracy, strict=True))
        for i, one in enumerate(run.held_ci):
            rows[run.seed, f"{kind}, {i}"] = dict(zip(ATTRIBUTES, one, strict=True))
    return pd.DataFrame.from_dict(rows, orient="index", columns=ATTRIBUTES).round(2)


def within(table: pd.DataFrame, tolerance: float = 0.2) -> pd.Series:
    """Share of `predicted` within the tolerance, per network and whether the component is atomic."""
    return (table.assign(near=(table.actual - table.predicted).abs() <= tolerance)
            .groupby(["atomic", "seed"]).near.mean())


def failures(found: Mapping[str, object], rows: pd.DataFrame) -> pd.DataFrame:
    """The four failures: how far the twin is away, what ours reads, and what the reference's averaging makes of it."""
    last, differs = rows.set_index("site").loc["fc1"], found["differs"]
    own, first = "fc1: mean importance {:.3f}", "fc1: mean importance {:.5f}"
    table = {
        "CIHistograms": (differs["histogram"], own.format(last.importance), first.format(last.importance_first)),
        "ComponentActivationDensity": (differs["density"], f"fc1: {last.l0:.2f} on", f"fc1: {last.l0_first:.4f} on"),
        "UVPlots": (differs["directions"], "order and sizes", "the same: no average over positions enters"),
        "StochasticAccuracyLayerwise": (differs["layerwise"], f"worst layer {rows.drawn.min():.3f}",
                                        "the same: an image has one answer"),
    }
    columns = ["largest difference to the twin", "ours", "by the first layer's positions"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("said to break")


def nothing(table: pd.DataFrame) -> pd.DataFrame:
    """What random directions read that are on as often as the components, by layer and kind, mean over networks."""
    names = {"null_atomic": "share atomic", "null_levels": "levels", "null_cells": "cells"}
    return table.groupby(["site", "task"])[list(names)].mean().rename(columns=names).round(2)


def beside(by_own: pd.DataFrame, by_first: pd.DataFrame) -> pd.DataFrame:
    """Decompositions of all layers trained with either average, of the networks that have both, by layer."""
    arms = {"own": by_own[by_own.seed.isin(by_first.seed)] if len(by_first) else by_own, "first": by_first}
    rows = [run["rows"].assign(positions_of=arm, together=run.together)
            for arm, runs in arms.items() for _, run in runs.iterrows()]
    shown = ["alive", "l0", "image_l0", "atomic", "alone", "together"]
    return pd.concat(rows).groupby(["site", "positions_of"], sort=False)[shown].mean().round(3)


def components(layer: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Components of a layer of `gallery.pictures`: share of images they are on in, of variance in each attribute."""
    table = pd.DataFrame(layer["shares"], layer["component"], ATTRIBUTES).rename_axis("component")
    table.insert(0, "on in", [f"{share:.1%}" for share in layer["frequency"]])
    return table.round(2)


def kinds(layer: Mapping[str, np.ndarray]) -> list[str]:
    """For each component of a layer of `gallery.pictures` its attribute and share of variance, or "always on"."""
    always = layer["means"].min(0) >= anova.ALWAYS
    return ["always on" if on else f"{ATTRIBUTES[int(share.argmax())]} {share.max():.2f}"
            for on, share in zip(always, layer["shares"], strict=True)]
