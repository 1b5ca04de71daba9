"""The eight published combinations with the published draws: one torch stream and one NumPy stream per seed.

Per seed both are seeded once; torch then gives data, five Linear layers, orthogonal weights where asked, bipolar noise
step by step, and last the autoencoder; NumPy gives the heavy-tailed noise. GELU rows reproduce the published code to
four digits; ReLU rows drift, because float32 trajectories with kinks amplify rounding.
Chapter: studies/incidental_polysemanticity.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.data.correlated_groups import GROUPS, N_FEATURES, SAMPLES, TRAIN, Samples, compose, weighted_targets
from lib.models import incidental_mlp, leaky_sae
from lib.models.incidental_mlp import PUBLISHED, Cell, Trained


class Replica(NamedTuple):
    """Networks of C cells x S seeds, and the starts of their autoencoders as the published draws give them.

    Attributes:
        networks: as `incidental_mlp.train` returns them.
        sae_start: [C, S, P], rows as in `leaky_sae.layout`.
    """

    networks: Trained
    sae_start: Tensor

    def autoencoders(self, tied: Literal["storage", "none"], steps: int = 1000) -> leaky_sae.LeakySAE:
        """The published autoencoder of every network, rows in the order of cells, then seeds."""
        acts = self.networks.acts.flatten(0, 1)  # [C*S, n, 12]
        return leaky_sae.train_sae(acts, start=self.sae_start.flatten(0, 1), tied=tied, steps=steps)


def train_published(
    cells: Sequence[Cell] = PUBLISHED, seeds: Sequence[int] = range(10), steps: int = 2000,
    device: str | torch.device = "cpu",
) -> Replica:  # fmt: skip
    """Train cells as published, every draw in the published order; draws are made on the CPU whatever the device.

    Args:
        cells: of hidden_dim 12; noise `bipolar` or `none` shifts the draws of what follows as it does there.
        seeds: theirs are 0 to 9.
    Source: ngugi_taming, main.py, models.py, utils.py.
    """
    parts = [_one_seed(cells, seed, steps, device) for seed in seeds]
    networks, starts = zip(*parts, strict=True)
    return Replica(incidental_mlp.joined(networks), torch.stack(starts, 1))


def _one_seed(cells: Sequence[Cell], seed: int, steps: int, device: str | torch.device) -> tuple[Trained, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = legacy_data(rng)[None]  # [1, n, 8]
    after_data, starts, streams = rng.get_state(), {}, {}
    for kind in {cell.init for cell in cells}:
        rng.set_state(after_data)
        starts[kind] = incidental_mlp.initial_row(kind, cells[0].hidden_dim, rng)
        streams[kind] = rng.get_state()
    noise = {f"bipolar {kind}": LegacyBipolar(state, device) for kind, state in streams.items()}
    noise["positive_kurtosis"] = LegacyStudent(seed, device)
    sources = [f"bipolar {cell.init}" if cell.noise == "bipolar" else cell.noise for cell in cells]
    data = Samples(x.to(device), weighted_targets(x).to(device), torch.zeros(1, SAMPLES, len(GROUPS), dtype=torch.bool))
    start = torch.stack([starts[cell.init] for cell in cells])[:, None].to(device)  # [C, 1, P]
    used = {name: noise[name] for name in set(sources) - {"none"}}
    networks = incidental_mlp.train_rows(cells, start, data, used, steps, sources=sources)
    after = {name: source.rng.get_state() for name, source in used.items() if name.startswith("bipolar")}
    sae = [_sae_start(after.get(name, streams[cell.init])) for cell, name in zip(cells, sources, strict=True)]
    return networks, torch.stack(sae)


def _sae_start(state: Tensor) -> Tensor:
    rng = torch.Generator()
    rng.set_state(state)
    return leaky_sae.initial_row(12, rng)


def legacy_data(rng: torch.Generator) -> Tensor:
    """The published features, drawn sample by sample and one number at a time; [1024, 8]."""
    active, strength, common = (torch.zeros(SAMPLES, len(GROUPS)) for _ in range(3))
    own = torch.zeros(SAMPLES, N_FEATURES)
    for n in range(SAMPLES):
        for g in range(len(GROUPS)):
            active[n, g] = torch.rand(1, generator=rng).item() > 0.4
        for g in active[n].nonzero().flatten().tolist():
            strength[n, g] = torch.rand(1, generator=rng) * 0.5 + 0.5
            common[n, g] = torch.randn(1, generator=rng)
            for i in GROUPS[g]:
                own[n, i] = torch.randn(1, generator=rng)
    mask = torch.rand(SAMPLES, N_FEATURES, generator=rng) > 0.5
    return compose(active.bool(), strength, common, own, mask)


class LegacyBipolar:
    """±.1 as the published loop draws it from torch's stream, [1, 12, 820] a step."""

    def __init__(self, state: Tensor, device: str | torch.device = "cpu"):
        self.rng, self.device = torch.Generator(), device
        self.rng.set_state(state)

    def __call__(self) -> Tensor:
        high = torch.rand(TRAIN, 12, generator=self.rng) > 0.5
        return torch.where(high, 0.1, -0.1).T[None].to(self.device)


class LegacyStudent:
    """t(3) * .1 / sqrt(3) as the published loop draws it from NumPy's stream, [1, 12, 820] a step."""

    def __init__(self, seed: int, device: str | torch.device = "cpu"):
        self.rng, self.device = np.random.RandomState(seed), device

    def __call__(self) -> Tensor:
        drawn = torch.from_numpy(self.rng.standard_t(3, size=(TRAIN, 12))).float()
        return (drawn * 0.1 / np.sqrt(3)).T[None].to(self.device)
