"""Decompositions: of both fully connected layers, seeds side by side, and of all five layers of a network."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.spd import SPDConfig, decompose
from lib.studies.shapes_and_colours.common import HELD_OUT, SLUG, held_out, images, kept, pixels, place
from lib.studies.shapes_and_colours.net import BEHIND, SITES
from lib.studies.shapes_and_colours.train import Networks, restored, trained

WIDTH, RATE, FAITHFULNESS, CI_MASKED, WARM_UP = 8, 3e-3, 100.0, 0.5, 100
"""Of every decomposition; ci_masked because what is read are importances as they are, not masks drawn between."""
COMPONENTS = dict(zip(SITES, (16, 24, 32, 40, 20), strict=True))
"""C of each layer where all five are decomposed."""


class Behind(Networks):
    """Of decompositions of the two fully connected layers."""

    importance: float = Field(gt=0, description="weight of the importance loss")
    fc_components: int = Field(ge=2, le=1000, description="C of each of the fully connected layers, decomposed alone")
    decompositions: int = Field(ge=1, le=20, description="of the fully connected layers of a network")
    fc_steps: int = Field(ge=10, description="steps of each, on cached inputs of fc1")
    fc_batch: int = Field(ge=8, description="images per step of them")


class Whole(Networks):
    """Of decompositions of all five layers."""

    importance: float = Field(gt=0, description="weight of the importance loss")
    all_steps: int = Field(ge=10, description="steps of a decomposition of all five layers")
    all_batch: int = Field(ge=8, description="images per step of it")


def behind(
    params: Behind, task: str, seed: int, importance: float | None = None, every_cell: bool = True
) -> dict[str, Any]:
    """Decompose fc1 and fc2 of one network from several starts, side by side, on cached inputs.

    Args:
        importance: weight of the importance loss in place of the study's; every_cell: whether the network that was not
            shown some combinations is decomposed on them too.
    Returns:
        decompositions, arrays by name of each.
    """
    frozen = restored(params, task, reuse(trained, params, task, seed))
    without = () if every_cell or task != HELD_OUT else held_out(params)
    tail, inputs = frozen.behind("fc1", pixels(images(params, "train", without)[0], place(params)))
    starts = [stream_seed(params.seed, SLUG, "behind", task, seed, i) for i in range(params.decompositions)]
    C = dict.fromkeys(BEHIND, params.fc_components)
    config = _config(C, params.fc_steps, params.fc_batch, importance or params.importance)
    found = decompose(tail, inputs, config, starts, progress=False)
    return {"decompositions": [one.decomposition.arrays() for one in found]}


def whole(
    params: Whole, task: str, seed: int, positions: str = "own", checkpoints: Path | None = None
) -> dict[str, Any]:
    """Decompose all five layers of one network.

    Args:
        positions: by which importances are averaged in training, see `SPDConfig`.
    Returns:
        decomposition, arrays by name.
    """
    frozen = restored(params, task, reuse(trained, params, task, seed))
    shown = torch.from_numpy(images(params, "train")[0])

    def draw(rng: torch.Generator, n: int) -> torch.Tensor:
        rows = torch.randint(len(shown), (n,), generator=rng, device=rng.device).cpu()
        return pixels(shown[rows].numpy(), rng.device)

    config = _config(COMPONENTS, params.all_steps, params.all_batch, params.importance, positions)
    start = stream_seed(params.seed, SLUG, "whole", task, seed)
    found = decompose(frozen, draw, config, start, progress=False, **kept(checkpoints, "decomposition"))
    return {"decomposition": found.decomposition.arrays()}


def _config(C: dict[str, int], steps: int, batch: int, importance: float, positions: str = "own") -> SPDConfig:
    return SPDConfig(C, width=WIDTH, steps=steps, batch_size=batch, lr=RATE,
                     warmup_steps=WARM_UP, divergence="kl", faithfulness=FAITHFULNESS, ci_masked=CI_MASKED,
                     importance=importance, positions=positions)
