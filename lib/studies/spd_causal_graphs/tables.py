"""What runs of all networks say side by side: parts of claims as `ledger.judge` takes them, and tables for the page."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lib.metrics.statistics import Interval, mean_interval
from lib.press.ledger import Claim, Measured
from lib.studies.spd_causal_graphs.predictors import STEPS


def per_network(values: pd.Series, of: Any = np.nanmean) -> np.ndarray:
    """One number per network of arrays, such as over its outputs, [n]."""
    return np.array([of(own) for own in values])


def four_effects(largest: Sequence[np.ndarray], null: Sequence[np.ndarray]) -> list[Measured]:
    """The parts of PD-5: `effects.extremes` of each network and the same of random components, [n] of [4] each."""
    return [Measured(*pair) for pair in zip(np.stack(largest).T, np.stack(null).T[:, None], strict=True)]


def reported_parts(rows: pd.DataFrame, pool: int) -> dict[str, list[Measured | None]]:
    """Claim -> its parts by a decomposition that is read as the report reads its own; empty where it was not run.

    Where it was run and some network has no output that matters, only PD-2 has parts: counts need no effects.

    Args:
        rows: from `protocol.published`, a row per network; pool: components per layer, the null of how many are alive.
    """
    if rows.empty:
        return {}
    counts = {"PD-2": [Measured(rows[name], [float(pool)]) for name in ("ins", "outs")]}
    if rows.needed.isna().any():
        return counts
    return counts | {
        "PD-1": [Measured(rows.needed, [rows.chance_needed])],
        "PD-3": [Measured(rows.lasso, [rows.lasso_null])],
        "PD-4": [Measured(rows.steps, [rows.steps_null]), Measured(rows["all"] - rows.steps)],
        "PD-5": four_effects(list(rows.largest), list(rows.large_null)),
        "PD-6": [Measured([wrong[STEPS[0]] for wrong in rows.wrong]), None],
    }


def beside_printed(
    columns: Mapping[str, dict[str, list[Measured | None]]], claims: Mapping[str, Claim]
) -> pd.DataFrame:
    """A row for each part that `reported_parts` gives: its mean in every column, and what the source prints."""
    rows = {}
    for claim, places in {"PD-2": 2, "PD-1": 1, "PD-3": 1, "PD-4": 1, "PD-5": 4, "PD-6": 1}.items():
        for place, part in enumerate(claims[claim].parts[:places]):
            means = {name: f"{np.mean(parts[claim][place].values):.2f}" if claim in parts
                     else "run, but no output matters" if parts else "not run" for name, parts in columns.items()}
            said = part.printed and " to ".join(f"{end:g}" for end in dict.fromkeys(part.printed.ends))
            rows[f"{part.name} ({claim})"] = {**means, "printed": said or "not printed"}
    return pd.DataFrame.from_dict(rows, orient="index")


def rank_correlations(matrices: Sequence[Mapping[str, np.ndarray]]) -> list[Interval]:
    """How a network's matrices rank its pairs beside the effects, entry by entry, as an interval over networks.

    Args:
        matrices: of each network, by title, [I, J] each; the effects last.
    Returns:
        Spearman's rank correlation of every matrix before the last with it, 0 on average where one is permuted.
    """
    *titles, effect = matrices[0]
    found = [[spearmanr(own[title], own[effect], axis=None).statistic for own in matrices] for title in titles]
    return [mean_interval(row) for row in found]


def hubs(keeps: Sequence[np.ndarray], rng: np.random.Generator, draws: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Share of the outputs that the busiest input of each network feeds, and where each output's edges lie at random.

    Args:
        keeps: of each network the kept edges, bool [I, J]; rng, draws: of the null.
    Returns:
        [n] and [n], the null's mean over draws.
    """
    shares = np.array([keep.mean(1).max() for keep in keeps])
    null = [np.mean([rng.permuted(keep, axis=0).mean(1).max() for _ in range(draws)]) for keep in keeps]
    return shares, np.array(null)


def thumbnails(row: pd.Series) -> tuple[dict, dict]:
    """Image [side, side] and short text of every node of a network's graph, from a row of `protocol.analyses`."""
    side = int(len(row.pixel_sd) ** 0.5)
    images = {("in", i): (own * row.pixel_sd).reshape(side, side) for i, own in zip(row.inputs, row.reads, strict=True)}
    images |= {("out", j): own.reshape(side, side) for j, own in zip(row.outputs, row["where"], strict=True)}
    labels = {("in", i): str(i) for i in row.inputs}
    labels |= {("out", j): f"{j}: raises {own.argmax()}, lowers {own.argmin()}"
               for j, own in zip(row.outputs, row.writes, strict=True)}
    return images, labels
