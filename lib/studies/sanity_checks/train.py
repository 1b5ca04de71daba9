"""What trains: one coder of one rule on the samples of one law with one seed. No metric is reached here."""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from lib.params import Count, Positive
from lib.rng import stream_seed
from lib.sparse_coders import SparseCoder, fit
from lib.studies.sanity_checks.worlds import SLUG, Law, World, samples
from lib.tensors import as_array, denormals_flushed, device_named


class Training(World):
    """How a coder is trained."""

    steps: Count = Field(description="steps that train a coder")
    batch: Count = Field(description="samples per step")
    lr: Positive = Field(description="rate of Adam, falling to 0 over the second half")
    l0_weight: Positive = Field(description="weight of JumpReLU's penalty on missing its target, K active latents")


class Arm(NamedTuple):
    """A rule on the samples of a law."""

    rule: str
    normalise: bool = False
    """Whether the coder divides every sample by its own length."""
    law: Law = Law()


def untrained(params: Training, arm: Arm, seed: int) -> SparseCoder:
    """The coder of an arm as training starts it."""
    options: dict[str, Any] = {"k": params.active}
    if arm.rule == "jumprelu":
        options |= {"penalty": "target_l0", "l0": params.l0_weight, "threshold": 0.5, "bandwidth": 0.5}
    if arm.rule == "matryoshka":  # the source's groups: .5, .3, .2 of the latents
        options["groups"] = [params.features * share // 10 for share in (5, 8, 10)]
    own = {"seed": stream_seed(params.seed, SLUG, "coder", seed), "device": device_named(params.device)}
    return SparseCoder(params.width, params.features, arm.rule, per_sample=arm.normalise, **own, **options)


def coder(params: Training, arm: list, seed: int, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train the coder of an arm (its fields as plain lists).

    Args:
        checkpoints: folder in which training continues after a kill; written to at every quarter of it.
    Returns:
        state: the trained coder's tensors by name.
    """
    arm = of_plain(arm)
    train, held = samples(params, arm.law, seed)
    made = untrained(params, arm, seed)
    with denormals_flushed():
        fit(made, train, held_out=held, steps=params.steps, batch_size=params.batch, lr=params.lr, lr_decay=0.5,
            seed=stream_seed(params.seed, SLUG, "order", seed), progress=False,
            checkpoint=checkpoints and checkpoints / "coder.pt", checkpoint_every=max(1, params.steps // 4))
    return {"state": {name: as_array(value) for name, value in made.state_dict().items()}}


def of_plain(arm: list) -> Arm:
    """An arm from lists, as the arguments of a run come."""
    rule, normalise, law = arm
    return Arm(rule, normalise, Law(*law))
