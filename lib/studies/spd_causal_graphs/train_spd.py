"""Decompositions of a trained network: one run for every network and arm."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.spd import SPDConfig, decompose
from lib.studies.spd_causal_graphs.common import SLUG, kept
from lib.studies.spd_causal_graphs.train import Pool, data, network, trained
from lib.tensors import device_named

ARMS = ("noise", "again", "bernoulli", "published", "unimportant", "joint noise", "joint bernoulli")
"""Decompositions of one network: the main one; another seed; Bernoulli masks; with a penalty on the size of V and U, to
be read by the published rules; without the importance loss; two of networks trained with their decomposition."""


class Decomposing(Pool):
    """Of the decompositions."""

    importance: float = Field(gt=0, description="weight of the importance loss")
    faithfulness: float = Field(ge=0, description="weight of the faithfulness loss")
    size_penalty: float = Field(ge=0, description="L1 on V and U in the published arm")


def decomposed(params: Decomposing, seed: int, arm: str, checkpoints: Path | None = None) -> dict[str, Any]:
    """Decompose one trained network.

    Returns:
        network and decomposition, arrays by name.
    """
    weights, x = reuse(trained, params, seed), data(params).pixels(device_named(params.device))[0]
    start = stream_seed(params.seed, SLUG, "decomposition", seed, "again" if arm == "again" else "first")
    found = decompose(network(params, weights), x, config(params, arm), start, **kept(checkpoints, "decomposition"))
    return {"network": weights, "decomposition": found.decomposition.arrays()}


def config(params: Decomposing, arm: str, mask: str | None = None) -> SPDConfig:
    """Options of an arm, with its kind of mask or another."""
    mask, penalty = mask or ("bernoulli" if "bernoulli" in arm else "uniform"), params.size_penalty
    return SPDConfig(params.components, steps=params.steps, batch_size=params.batch, divergence="kl", mask=mask,
                     faithfulness=params.faithfulness, importance=0.0 if arm == "unimportant" else params.importance,
                     l1=penalty if arm == "published" else 0.0)
