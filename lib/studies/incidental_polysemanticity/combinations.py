"""The eight published combinations with the published draws, read by the published metrics."""
from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from pydantic import Field

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

    published_seeds: int = Field(ge=2, le=100, description="seeds of the published programme (theirs 10, from 0)")
    published_steps: int = Field(ge=1, le=2000, description="steps of its networks (theirs 2000)")
    published_sae_steps: int = Field(ge=1, le=1000, description="steps of its autoencoders (theirs 1000)")


def published_arm(params: Published) -> dict:
    """The eight published combinations with the published draws, autoencoders untied (as printed) and tied.

    Returns:
        runs: DataFrame, one row per (storage, combination, seed): storage "untied" or "tied", combination 1..8, the
            cell's init, noise, reg, act, and train_mse, val_mse and what `published_metrics` measures.
        decoders: untied decoder columns, [8, seeds, 12, 16].
    """
    seeds, device, frames = params.first(params.published_seeds), device_named(params.device), []
    made = reuse(published.programme, seeds, params.published_steps, params.published_sae_steps, params.device)
    network = read(torch.tensor(made["theta"], device=device), PUBLISHED, published.samples(seeds, device))
    acts, permutations = network.acts.flatten(0, 1), generator(params.seed, "column permutations")
    own = {"train_mse": network.train_mse.flatten(), "val_mse": network.val_mse.flatten()}
    saes = {storage: LeakySAE.of(**made[storage], device=device) for storage in ("untied", "tied")}
    for storage, sae in saes.items():
        rows = table(PUBLISHED, seeds, own | published_metrics(sae, acts, permutations))
        frames.append(rows.assign(storage=storage, combination=np.repeat(np.arange(1, 9), len(seeds))))
    decoders = saes["untied"].directions().unflatten(0, (8, -1)).cpu().numpy()
    return {"runs": pd.concat(frames, ignore_index=True), "decoders": decoders}
