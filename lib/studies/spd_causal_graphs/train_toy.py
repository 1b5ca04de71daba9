"""The toy model of five features in two dimensions, whose answer is known, and decompositions of it."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.spd import Decomposition, SPDConfig, decompose
from lib.spd.targets import ToyModel, train_toy_model
from lib.studies.spd_causal_graphs.common import SLUG, Common, kept
from lib.tensors import device_named

FEATURES, HIDDEN, WIDTH = 5, 2, 8
"""Of the model, and hidden units of a gate."""


class Toy(Common):
    """Of the toy model."""

    toy_steps: int = Field(ge=10, description="steps that decompose the toy model with a known answer")
    toy_components: int = Field(ge=5, description="C of each of its layers")
    toy_rate: float = Field(gt=0, description="largest learning rate there")
    toy_seeds: int = Field(ge=2, le=100, description="decompositions of it per kind of mask")


def toy_model(params: Common) -> dict[str, np.ndarray]:
    """Train the toy model: W [2, 5] and b [5]."""
    model = train_toy_model(FEATURES, HIDDEN, params.seed, 32, 1500, 256, device=device_named(params.device))
    return {"W": model.linear1.weight.detach().cpu().numpy(), "b": model.linear2.bias.detach().cpu().numpy()}


def decomposed_toy(params: Toy, mask: str, checkpoints: Path | None = None) -> dict[str, Any]:
    """Decompose the toy model with one kind of mask.

    Returns:
        decompositions: arrays by name, of every seed.
    """
    seeds = [stream_seed(params.seed, SLUG, "toy", seed) for seed in range(params.toy_seeds)]
    config = SPDConfig(params.toy_components, width=WIDTH, steps=params.toy_steps, batch_size=256, warmup_steps=50,
                       lr=params.toy_rate, faithfulness=1.0, importance=1e-2, mask=mask)
    found = decompose(_model(params), one_feature, config, seeds, log_every=params.toy_steps, progress=False,
                      **kept(checkpoints, "decompositions"))
    return {"decompositions": [result.decomposition.arrays() for result in found]}


def restored_toys(params: Toy, mask: str) -> list[Decomposition]:
    """The toy model's decompositions, one per seed."""
    model = _model(params)
    example = torch.zeros(2, FEATURES, device=device_named(params.device))
    return [Decomposition(model, example, params.toy_components, width=WIDTH).load(values)
            for values in reuse(decomposed_toy, params, mask)["decompositions"]]


def one_feature(rng: torch.Generator, samples: int) -> Tensor:
    """One active feature of five per sample, U(0, 1), [samples, 5]: no batch is spent on empty samples."""
    which = torch.randint(FEATURES, (samples,), generator=rng, device=rng.device)
    return F.one_hot(which, FEATURES) * torch.rand(samples, 1, generator=rng, device=rng.device)


def _model(params: Common) -> ToyModel:
    found = {name: torch.from_numpy(value) for name, value in reuse(toy_model, params).items()}
    return ToyModel(**found).to(device_named(params.device))
