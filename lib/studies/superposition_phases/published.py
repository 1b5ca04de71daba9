"""The published programme, replicated: batch-1 Adam on one data set per seed; plain data out."""
from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
from pydantic import Field

from lib.press.runs import reuse
from lib.studies.superposition_phases import train_published
from lib.studies.superposition_phases.common import (
    Models,
    Root,
    Sparsities,
    Sweep,
    Swept,
    falling_importance,
    model_seeds,
    tensor,
)
from lib.studies.superposition_phases.tables import described

ARCHITECTURES = ((10, 5), (20, 5), (30, 5), (30, 8), (3, 2), (5, 2), (7, 2), (4, 3), (7, 3), (8, 3))
"""The published (n_features, n_hidden) pairs."""
IMPORTANCES = ("geometric_.7", "uniform", "geometric_.5", "geometric_.9", "step", "linear", "u_shaped")


class Published(Sweep):
    """What the published sweep takes."""

    published_samples: int = Field(ge=100, le=10000, description="samples of the published data set (theirs 10000)")
    published_epochs: int = Field(ge=1, le=100, description="passes over them (theirs 10)")


class Variants(Swept):
    """What its other architectures take."""

    variant_samples: int = Field(ge=100, le=10000, description="samples for the other architectures and importances")
    variant_epochs: int = Field(ge=1, le=100, description="passes in those")


class Patterns(Variants, Models):
    """What its other importances take."""


def importance_of(pattern: str, n_features: int) -> np.ndarray:
    """A published importance pattern, I [n_features].

    `geometric_a` is a^i; `step` 1 for the first half and .1 after; `linear` falls from 1 to .1; `u_shaped` is
    .9 t^2 + .1 for t evenly spaced in [-1, 1].
    """
    i, t = np.arange(n_features), np.linspace(-1, 1, n_features)
    if pattern.startswith("geometric_"):
        return float(pattern.removeprefix("geometric_")) ** i
    named = {"uniform": np.ones(n_features), "step": np.where(i < n_features // 2, 1.0, 0.1),
             "linear": np.linspace(1, 0.1, n_features), "u_shaped": 0.9 * t**2 + 0.1}
    if pattern not in named:
        raise ValueError(f"importance pattern {pattern!r} is not one of {IMPORTANCES}")
    return named[pattern]


def published_sweep(params: Published, sparsities: Sparsities | None = None, seeds: range | None = None) -> dict:
    """The published programme as it stands: batch-1 Adam at lr .01, I_i = .7^i; model and data seed are equal.

    Args:
        sparsities: default params.sparsities (the published single-seed sweeps are (.1, .3, .7) and (.82, .85, .87)).
        seeds: legacy NumPy seeds, default the first params.seeds (`model_seeds`).
    Returns:
        runs: DataFrame, one row per (sparsity, seed) in that order, columns sparsity, seed, last_epoch_loss (training,
            as printed), heldout_loss (fresh data), zero_loss (sum(I)(1-S)/3), n_learned (features with |W_i| > .5),
            n_missed (of the m most important, those not learned).
        W [runs, m, n], b [runs, n]; importance [n]; epoch_loss [runs, epochs].
    """
    cells = list(product(sparsities or params.sparsities, seeds or model_seeds(params, params.seeds)))
    size = params.published_samples, params.published_epochs
    return _published(params, cells, params.n_hidden, falling_importance(params), *size)


def published_architectures(params: Variants, architectures: tuple = ARCHITECTURES) -> dict:
    """The published n-k-n models at every params.sparsities, one seed, their training shortened to params.variant_*.

    Returns:
        runs: DataFrame as in `published_sweep` plus n_features, n_hidden; weights: "n-k-n" -> W [S, k, n].
    """
    cells, frames, weights = list(product(params.sparsities, model_seeds(params, 1))), [], {}
    for n, k in architectures:
        found = _published(params, cells, k, 0.7 ** np.arange(n), params.variant_samples, params.variant_epochs)
        frames.append(found["runs"].assign(n_features=n, n_hidden=k))
        weights[f"{n}-{k}-{n}"] = found["W"]
    return {"runs": pd.concat(frames, ignore_index=True), "weights": weights}


def published_importances(params: Patterns, patterns: tuple[str, ...] = IMPORTANCES) -> dict:
    """The published importance patterns, one seed, their training shortened to params.variant_*.

    Returns:
        runs: DataFrame as in `published_sweep` plus pattern; W [patterns, S, m, n]; importance [patterns, n].
    """
    cells = list(product(params.sparsities, model_seeds(params, 1)))
    importance = np.stack([importance_of(pattern, params.n_features) for pattern in patterns])
    rows = importance.repeat(len(cells), axis=0)
    size = params.variant_samples, params.variant_epochs
    found = _published(params, cells * len(patterns), params.n_hidden, rows, *size)
    runs = found["runs"].assign(pattern=np.repeat(patterns, len(cells)))
    return {"runs": runs, "W": found["W"].reshape(len(patterns), -1, *found["W"].shape[1:]), "importance": importance}


def _published(params: Root, cells: list, k: int, importance: np.ndarray, samples: int, epochs: int) -> dict:
    """Train (sparsity, seed) cells as published; importance is [n] or one row per cell."""
    done = reuse(train_published.cells, params, cells, k, importance, samples, epochs)
    found = described(params, cells, tensor(params, done["W"]), tensor(params, done["b"]), importance)
    found["runs"].insert(2, "last_epoch_loss", done["epoch_loss"][-1])
    return found | {"epoch_loss": done["epoch_loss"].T}
