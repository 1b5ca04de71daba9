"""The eight published combinations with the published draws: one torch stream and one NumPy stream per seed.

Per seed both are seeded once; torch then gives data, five Linear layers, orthogonal weights where asked, bipolar noise
step by step, and last the autoencoder; NumPy gives the heavy-tailed noise. GELU rows reproduce the published code to
four digits; ReLU rows drift, because float32 trajectories with kinks amplify rounding.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from lib.rng import generator
from lib.studies.incidental_polysemanticity import data, leaky_sae
from lib.studies.incidental_polysemanticity.decoder_overlap import w4
from lib.studies.incidental_polysemanticity.groups import Root
from lib.studies.incidental_polysemanticity.network import PUBLISHED, Cell, Trained, initial_row, train_rows
from lib.studies.incidental_polysemanticity.report import published_metrics, table
from lib.tensors import device_named


class Published(Root):
    """What the published programme takes."""

    published_seeds: int = Field(ge=2, le=100, description="seeds of the published programme, 0 .. (theirs 10)")
    published_steps: int = Field(ge=1, le=2000, description="steps of its networks (theirs 2000)")
    published_sae_steps: int = Field(ge=1, le=1000, description="steps of its autoencoders (theirs 1000)")


def published_arm(params: Published) -> dict:
    """The eight published combinations with the published draws, autoencoders untied (as printed) and tied.

    Returns:
        runs: DataFrame, one row per (storage, combination, seed): storage "untied" or "tied", combination 1..8, the
            cell's init, noise, reg, act, and train_mse, val_mse, w4, interference, macs, calibrated, null_sd (standard
            deviation of MACS over 200 column permutations), l0 (share > 0), sae_mse (on z-scored activations, as
            published), fvu (on the activations it was trained on).
        decoders: untied decoder columns, [8, seeds, 12, 16].
    """
    seeds, device = range(params.published_seeds), device_named(params.device)
    replica = train_published_networks(PUBLISHED, seeds, params.published_steps, device)
    network, frames, decoders = replica.networks, [], []
    acts, permutations = network.acts.flatten(0, 1), generator(params.seed, "column permutations")
    own = {"train_mse": network.train_mse.flatten(), "val_mse": network.val_mse.flatten()}
    own["w4"] = w4(network.weights).flatten()
    for storage, tied in (("untied", "none"), ("tied", "storage")):
        sae = replica.autoencoders(tied, params.published_sae_steps)
        rows = table(PUBLISHED, seeds, own | published_metrics(sae, acts, permutations))
        frames.append(rows.assign(storage=storage, combination=np.repeat(np.arange(1, 9), len(seeds))))
        decoders.append(sae.directions().unflatten(0, (8, len(seeds))).cpu().numpy())
    return {"runs": pd.concat(frames, ignore_index=True), "decoders": decoders[0]}


class Replica(NamedTuple):
    """Networks of C cells x S seeds, and the starts of their autoencoders by the published draws, [C, S, P]."""

    networks: Trained
    sae_start: Tensor

    def autoencoders(self, tied: Literal["storage", "none"], steps: int = 1000) -> leaky_sae.LeakySAE:
        """The published autoencoder of every network, rows in the order of cells, then seeds."""
        acts = self.networks.acts.flatten(0, 1)  # [C*S, n, 12]
        return leaky_sae.train_sae(acts, start=self.sae_start.flatten(0, 1), tied=tied, steps=steps)


def train_published_networks(
    cells: Sequence[Cell] = PUBLISHED, seeds: Sequence[int] = range(10), steps: int = 2000,
    device: str | torch.device = "cpu",
) -> Replica:
    """Train cells as published, every draw in the published order; draws are made on the CPU whatever the device.

    Args:
        cells: of hidden_dim 12; noise `bipolar` or `none` shifts the draws of what follows as it does there.
        seeds: theirs are 0 to 9.
    Source: ngugi_taming, main.py, models.py, utils.py.
    """
    draws = [_Draws({cell.init for cell in cells}, cells[0].hidden_dim, seed) for seed in seeds]
    sources = [f"bipolar {cell.init}" if cell.noise == "bipolar" else cell.noise for cell in cells]
    used = sorted(set(sources) - {"none"})
    noise = {name: partial(_together, [drawn.noise[name] for drawn in draws], device) for name in used}
    x = torch.stack([drawn.x for drawn in draws])  # [S, n, 8]
    active = torch.zeros(*x.shape[:2], len(data.GROUPS), dtype=torch.bool)
    samples = data.Samples(*(part.to(device) for part in (x, data.weighted_targets(x), active)))
    start = torch.stack([torch.stack([drawn.starts[cell.init] for drawn in draws]) for cell in cells])  # [C, S, P]
    networks = train_rows(cells, start.to(device), samples, noise, steps, sources=sources)
    sae = [[drawn.sae_start(cell.init, name) for drawn in draws] for cell, name in zip(cells, sources, strict=True)]
    return Replica(networks, torch.stack([torch.stack(row) for row in sae]))


class _Draws:
    """What one seed gives: features, a start per kind, and noise; the autoencoder is drawn after training."""

    def __init__(self, inits: set[str], hidden_dim: int, seed: int):
        rng = torch.Generator().manual_seed(seed)
        self.x, self.starts, self.after_init = legacy_features(rng), {}, {}
        self.noise: dict[str, LegacyBipolar | LegacyStudent] = {"positive_kurtosis": LegacyStudent(seed)}
        after_data = rng.get_state()
        for kind in inits:
            rng.set_state(after_data)
            self.starts[kind] = initial_row(kind, hidden_dim, rng)
            self.after_init[kind] = rng.get_state()
            self.noise[f"bipolar {kind}"] = LegacyBipolar(self.after_init[kind])

    def sae_start(self, init: str, source: str) -> Tensor:
        """The autoencoder's start: torch's stream goes on where training left it, or after the network's weights."""
        rng = torch.Generator()
        noise = self.noise.get(source)
        rng.set_state(noise.rng.get_state() if isinstance(noise, LegacyBipolar) else self.after_init[init])
        return leaky_sae.initial_row(12, rng)


def _together(sources: Sequence[LegacyBipolar | LegacyStudent], device: str | torch.device) -> Tensor:
    """One step's noise of every seed, [S, 12, 820]."""
    return torch.stack([source() for source in sources]).mT.contiguous().to(device)


def legacy_features(rng: torch.Generator) -> Tensor:
    """The published features, drawn sample by sample and one number at a time; [1024, 8]."""
    active, strength, common = (torch.zeros(data.SAMPLES, len(data.GROUPS)) for _ in range(3))
    own = torch.zeros(data.SAMPLES, data.N_FEATURES)
    for n in range(data.SAMPLES):
        for g in range(len(data.GROUPS)):
            active[n, g] = torch.rand(1, generator=rng).item() > 0.4
        for g in active[n].nonzero().flatten().tolist():
            strength[n, g] = torch.rand(1, generator=rng) * 0.5 + 0.5
            common[n, g] = torch.randn(1, generator=rng)
            for i in data.GROUPS[g]:
                own[n, i] = torch.randn(1, generator=rng)
    mask = torch.rand(data.SAMPLES, data.N_FEATURES, generator=rng) > 0.5
    return data.compose(active.bool(), strength, common, own, mask)


class LegacyBipolar:
    """±.1 as the published loop draws it from torch's stream, [820, 12] a step."""

    def __init__(self, state: Tensor):
        self.rng = torch.Generator()
        self.rng.set_state(state)

    def __call__(self) -> Tensor:
        return torch.where(torch.rand(data.TRAIN, 12, generator=self.rng) > 0.5, 0.1, -0.1)


class LegacyStudent:
    """t(3) * .1 / sqrt(3) as the published loop draws it from NumPy's stream, [820, 12] a step."""

    def __init__(self, seed: int):
        self.rng = np.random.RandomState(seed)

    def __call__(self) -> Tensor:
        return torch.from_numpy(self.rng.standard_t(3, size=(data.TRAIN, 12))).float() * 0.1 / np.sqrt(3)
