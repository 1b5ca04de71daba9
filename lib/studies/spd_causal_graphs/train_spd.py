"""Decompositions of a trained network: one run for every network and arm."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.spd import SPDConfig, decompose
from lib.studies.spd_causal_graphs.common import SLUG, kept
from lib.studies.spd_causal_graphs.mlp import train_mlp
from lib.studies.spd_causal_graphs.train import Pool, Training, arrays, data, network, task, trained
from lib.tensors import device_named

AFTER = ("noise", "again", "sized", "unimportant")
"""Post-hoc decompositions of one network: the main one; another seed; with a penalty on the size of V and U; without
the importance loss."""
JOINT, WHOLE = "joint", "pre-decomposed"
"""A network trained with a decomposition beside it; a network that is its components."""
ARMS = (*AFTER, JOINT, WHOLE)
EPOCHS, BATCH, DECAY = 50, 64, 5e-4
"""Of the report's network."""


class Decomposing(Pool):
    """Of the decompositions."""

    importance: float = Field(gt=0, description="weight of the importance loss")
    faithfulness: float = Field(ge=0, description="weight of the faithfulness loss")
    size_penalty: float = Field(ge=0, description="L1 on V and U in the arm that is read as the report reads its own")


class ByRecipe(Training):
    """Of the report's own recipe."""

    recipe_components: int = Field(ge=10, description="C of each layer by the report's recipe")
    recipe_steps: int = Field(ge=10, description="steps of the report's recipe (the report: 200,000)")
    recipe_batch: int = Field(ge=16, description="images per step of it (the report: 1,024)")


def decomposed(params: Decomposing, seed: int, arm: str, checkpoints: Path | None = None) -> dict[str, Any]:
    """Decompose one trained network.

    Returns:
        network and decomposition, arrays by name.
    """
    weights, x = reuse(trained, params, seed), data(params).pixels(device_named(params.device))[0]
    start = stream_seed(params.seed, SLUG, "decomposition", seed, "again" if arm == "again" else "first")
    found = decompose(network(params, weights), x, config(params, arm), start, progress=False,
                      **kept(checkpoints, "decomposition"))
    return {"network": weights, "decomposition": found.decomposition.arrays()}


def config(params: Decomposing, arm: str, mask: str = "uniform") -> SPDConfig:
    """Options of an arm, with a kind of mask."""
    return SPDConfig(params.components, steps=params.steps, batch_size=params.batch, divergence="kl", mask=mask,
                     faithfulness=params.faithfulness, importance=0.0 if arm == "unimportant" else params.importance,
                     l1=params.size_penalty if arm == "sized" else 0.0)


def by_recipe(params: ByRecipe, seed: int, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train and decompose one network as the report does, but for what params/spd_causal_graphs/long.yaml says.

    Returns:
        network and decomposition, arrays by name.
    Source: report_components, my_experiments/mnist_experiment.py.
    """
    own = task(params, seed) | {"batch": BATCH}
    own["steps"] = EPOCHS * (len(own["images"]) // BATCH)
    frozen, _ = train_mlp(**own, extra_loss=_decay, **kept(checkpoints, "network"))
    recipe = SPDConfig(
        params.recipe_components, gate="linear", steps=params.recipe_steps, batch_size=params.recipe_batch,
        divergence="kl", recon=0.0, layerwise=1.0, subset=1.0, adversarial_subset=1.0, attack_steps=1, attack_size=1.0,
        faithfulness=1.0, importance=5e-3, p=2.0, p_final=0.5, p_to=0.5, eps=1e-8, l1=3.0)
    x, start = data(params).pixels(device_named(params.device))[0], stream_seed(params.seed, SLUG, "recipe", seed)
    found = decompose(frozen, x, recipe, start, progress=False, **kept(checkpoints, "decomposition"))
    return {"network": arrays(frozen), "decomposition": found.decomposition.arrays()}


def _decay(model, step):
    """Adam's own weight decay, which adds DECAY w to the gradient (AdamW's does not go through the moments)."""
    return DECAY / 2 * sum(p.square().sum() for p in model.parameters())
