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
import torch
from torch import Tensor

from lib.studies.incidental_polysemanticity import data, leaky_sae
from lib.studies.incidental_polysemanticity.network import PUBLISHED, Cell, Trained, initial_row, train_rows
from lib.tensors import as_array, device_named


def programme(combinations: tuple[int, ...], seeds: range, steps: int, sae_steps: int, device: str) -> dict:
    """Train combinations (1 to 8) on every seed: theta [C, S, P], untied and tied as `LeakySAE.plain` gives."""
    cells = [PUBLISHED[number - 1] for number in combinations]
    replica = train_published_networks(cells, seeds, steps, device_named(device))
    saes = {"untied": replica.autoencoders("none", sae_steps), "tied": replica.autoencoders("storage", sae_steps)}
    return {"theta": as_array(replica.networks.theta)} | {name: sae.plain() for name, sae in saes.items()}


class Replica(NamedTuple):
    """Networks of C cells x S seeds, and the starts of their autoencoders by the published draws, [C, S, P]."""

    networks: Trained
    sae_start: Tensor

    def autoencoders(self, tied: Literal["storage", "none"], steps: int = 1000) -> leaky_sae.LeakySAE:
        """The published autoencoder of every network, rows in the order of cells, then seeds."""
        return leaky_sae.train_sae(self.networks.acts.flatten(0, 1), self.sae_start.flatten(0, 1), steps, tied)


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
    start = torch.stack([torch.stack([drawn.starts[cell.init] for drawn in draws]) for cell in cells])  # [C, S, P]
    networks = train_rows(cells, start.to(device), samples(seeds, device), noise, steps, sources=sources)
    sae = [[drawn.sae_start(cell.init, name) for drawn in draws] for cell, name in zip(cells, sources, strict=True)]
    return Replica(networks, torch.stack([torch.stack(row) for row in sae]))


def samples(seeds: Sequence[int], device: str | torch.device = "cpu") -> data.Samples:
    """The published data of each seed, the first that its torch stream gives."""
    x = torch.stack([legacy_features(torch.Generator().manual_seed(seed)) for seed in seeds])  # [S, n, 8]
    return data.Samples(*(part.to(device) for part in (x, data.weighted_targets(x))))


class _Draws:
    """What one seed gives after its features: a start per kind, and noise; the autoencoder is drawn after training."""

    def __init__(self, inits: set[str], hidden_dim: int, seed: int):
        rng = torch.Generator().manual_seed(seed)
        legacy_features(rng)  # which come first
        self.starts, self.after_init = {}, {}
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
