"""The eight published combinations with the published draws, read by the published metrics."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from lib.metrics.statistics import t_interval
from lib.press.runs import reuse
from lib.rng import generator
from lib.studies.incidental_polysemanticity import published
from lib.studies.incidental_polysemanticity.groups import Root
from lib.studies.incidental_polysemanticity.leaky_sae import LeakySAE
from lib.studies.incidental_polysemanticity.network import PUBLISHED, read
from lib.studies.incidental_polysemanticity.report import published_metrics, table
from lib.tensors import device_named


class Published(Root):
    """What the published programme takes."""

    combinations: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(
        min_length=1, description="published combinations that are run; IP-2 and IP-4 need all eight")
    published_seeds: int = Field(ge=2, le=100, description="seeds of the published programme (theirs 10, from 0)")
    published_steps: int = Field(ge=1, le=2000, description="steps of its networks (theirs 2000)")
    published_sae_steps: int = Field(ge=1, le=1000, description="steps of its autoencoders (theirs 1000)")


def published_arm(params: Published) -> dict:
    """Published combinations with the published draws, autoencoders untied (as printed) and tied.

    Returns:
        runs: DataFrame, one row per (storage, combination, seed): storage "untied" or "tied", combination 1..8, the
            cell's init, noise, reg, act, and train_mse, val_mse and what `published_metrics` measures.
        decoders: untied decoder columns, [combinations, seeds, 12, 16].
    """
    seeds, device, frames = params.first(params.published_seeds), device_named(params.device), []
    numbers = tuple(sorted(set(params.combinations)))
    cells = [PUBLISHED[number - 1] for number in numbers]
    made = reuse(published.programme, numbers, seeds, params.published_steps, params.published_sae_steps, params.device)
    network = read(torch.tensor(made["theta"], device=device), cells, published.samples(seeds, device))
    acts, permutations = network.acts.flatten(0, 1), generator(params.seed, "column permutations")
    own = {"train_mse": network.train_mse.flatten(), "val_mse": network.val_mse.flatten()}
    saes = {storage: LeakySAE.of(**made[storage], device=device) for storage in ("untied", "tied")}
    for storage, sae in saes.items():
        rows = table(cells, seeds, own | published_metrics(sae, acts, permutations))
        frames.append(rows.assign(storage=storage, combination=np.repeat(numbers, len(seeds))))
    decoders = saes["untied"].directions().unflatten(0, (len(cells), -1)).cpu().numpy()
    return {"runs": pd.concat(frames, ignore_index=True), "decoders": decoders}


def by_combination(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per combination of untied runs: its cell, and what a reader compares with the printed figures.

    Columns init, noise, reg, act; interference (an Interval over seeds); MACS of the first seed; calibrated, the mean
    calibrated MACS; CV, the coefficient of variation of the autoencoder's error over seeds; validation error.
    """
    groups = runs.groupby("combination")
    found = groups[["init", "noise", "reg", "act"]].first()
    error = groups.sae_mse
    return found.assign(
        interference=[t_interval(rows.interference) for _, rows in groups], macs=groups.macs.first(),
        calibrated=groups.calibrated.mean(), cv=error.std(ddof=0) / error.mean(), val_mse=groups.val_mse.mean())


def above_chance(runs: pd.DataFrame, null: np.ndarray) -> pd.Series:
    """MACS calibrated by a null that moves, sigmoid of the z-score: mean of each seed's runs; null [draws]."""
    z = (runs.macs - null.mean()) / null.std()
    return (1 / (1 + np.exp(-z))).groupby(runs.seed).mean()


def published_change(runs: pd.DataFrame, a: Sequence[int], b: Sequence[int]) -> pd.Series:
    """Mean Interference of combinations a over that of b, minus 1, of each seed; empty if one of them was not run."""
    table = runs.pivot(index="seed", columns="combination", values="interference").reindex(columns=[*a, *b])
    table = table if table.notna().all(axis=None) else table[:0]
    return table[[*a]].mean(axis=1) / table[[*b]].mean(axis=1) - 1
