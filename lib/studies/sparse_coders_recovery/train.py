"""What trains: one arm in one world with one seed, at every setting of its knob.

An arm is an encoder rule with the sparsity knob that is swept. Trained weights are kept, so that what is measured of
them can change without training again.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from lib.rng import stream_seed
from lib.sparse_coders import SparseCoder, fit
from lib.sparse_coders.multi_input import join_sites, shuffled_context
from lib.studies.sparse_coders_recovery.samples import (
    TOYS,
    Bench,
    LargeToys,
    OneWorld,
    Small,
    ground_truth,
    samples,
    size,
)
from lib.studies.sparse_coders_recovery.worlds import SLUG, stream
from lib.tensors import as_array, denormals_flushed, device_named

Numbers = tuple[float, ...]
Counts = tuple[int, ...]


class Training(LargeToys, Bench, Small):
    """Every world, and how coders are trained in it."""

    toy_k: Counts = Field(min_length=2, description="active latents per sample swept in the toy worlds")
    planted_k: Counts = Field(min_length=2, description="active latents per sample swept there")
    small_k: Counts = Field(min_length=2, description="active latents per sample swept there")
    l1: Numbers = Field(min_length=2, description="weights of penalties on magnitudes, in units of sqrt(d)")
    gate_l1: Numbers = Field(min_length=2, description="the same of stochastic coders, on their causal importances")
    l0: Numbers = Field(min_length=2, description="weights of penalties on counts, in units of d")
    toy_coder_steps: int = Field(ge=10, description="steps that train a coder in the toy worlds")
    steps: int = Field(ge=10, description="the same in the small worlds")
    gate_steps: int = Field(ge=10, description="the same for stochastic coders there")
    planted_steps: int = Field(ge=10, description="the same in the planted world")
    batch: int = Field(ge=16, description="samples per step")
    dead_after: int = Field(ge=100, description="silent samples after which a latent is dead")


class Arm(NamedTuple):
    """An encoder rule, the knob that sets its sparsity (k, l1, gate_l1 or l0), fixed options, and what else it sees."""

    rule: str
    knob: str
    options: dict[str, Any]
    context: str = "none"
    """What the encoder reads besides; "target": nothing, but the decoder writes the other site (a transcoder)."""

    @property
    def option(self) -> str:
        """The coder's option that the knob sets."""
        return self.knob.removeprefix("gate_")


ARMS = {rule: Arm(rule, "k", {}) for rule in ("topk", "batch_topk", "matryoshka", "abs_topk", "matching_pursuit")}
ARMS |= {rule: Arm(rule, "l1", {}) for rule in ("relu", "p_anneal", "gated")}
ARMS |= {
    "jumprelu": Arm("jumprelu", "l0", {"bandwidth": 0.5, "threshold": 0.5}),
    "stochastic": Arm("stochastic", "gate_l1", {}),
    "unablated": Arm("stochastic", "gate_l1", {"masked": 1.0}),
    "transcoder": Arm("stochastic", "gate_l1", {}, "target"),
    "unablated_transcoder": Arm("stochastic", "gate_l1", {"masked": 1.0}, "target"),
    "noise": Arm("stochastic", "gate_l1", {"masked": 0.0}),
    "bernoulli": Arm("stochastic", "gate_l1", {"masked": 0.0, "sampling": "bernoulli"}),
    "batch_topk_unit": Arm("batch_topk", "k", {"per_sample": True}),
    "multi_input": Arm("topk", "k", {}, "other site"),
    "shuffled_input": Arm("topk", "k", {}, "shuffled site"),
}


def plan_of(params: Training, world: str, arm: str) -> dict[str, Any]:
    """The settings of an arm's knob in a world, in the parameters' units, and options of `lib.sparse_coders.fit`."""
    spec = ARMS[arm]
    k = params.toy_k if world in TOYS else params.planted_k if world == "planted" else params.small_k
    small = params.gate_steps if spec.rule == "stochastic" else params.steps
    return {
        "settings": list({"k": k, "l1": params.l1, "gate_l1": params.gate_l1, "l0": params.l0}[spec.knob]),
        "steps": params.toy_coder_steps if world in TOYS else params.planted_steps if world == "planted" else small,
        "batch_size": params.batch, "dead_after": params.dead_after,
    }


def coders(
    params: OneWorld, world: str, arm: str, seed: int, plan: dict[str, Any], checkpoints: Path | None = None
) -> dict[str, Any]:
    """Train one arm in one world at every setting of its knob, all settings from one start and on the same batches.

    Args:
        plan: as `plan_of` makes it.
        checkpoints: folder in which training continues after a kill; written to at every quarter of it.
    Returns:
        coders: the state of each, by name.
    """
    train, held = inputs(params, world, arm, seed)
    target, told = None, held
    if ARMS[arm].context == "target":
        target, told = (part[2] for part in samples(params, world, seed))
        told = held, told
    options = dict(plan)
    made = untrained(params, world, arm, seed, options.pop("settings"), train.shape[1])
    order = stream_seed(params.seed, SLUG, "order", seed)
    with denormals_flushed():
        fit(made, train, target=target, **options, seed=order, held_out=told, lr_decay=0.25, progress=False,
            checkpoint=checkpoints and checkpoints / "coders.pt", checkpoint_every=max(1, plan["steps"] // 4))
    return {"coders": [{name: as_array(value) for name, value in coder.state_dict().items()} for coder in made]}


def inputs(params: OneWorld, world: str, arm: str, seed: int) -> list[Tensor]:
    """What an arm's encoder reads in training and held out, [n, d + context] each."""
    rng = stream(params, world, "shuffle", seed)
    return [_encoder_input(part, ARMS[arm].context, rng) for part in samples(params, world, seed)]


def untrained(
    params: OneWorld, world: str, arm: str, seed: int, settings: list[float], width: int
) -> list[SparseCoder]:
    """The coders of an arm before training, one per setting, that read `width` columns; all from one start."""
    truth, spec = ground_truth(params, world, seed), ARMS[arm]
    d, n_latents = truth.dictionary.shape[1], size(params, world, truth)
    own = dict(d_in=d, n_latents=n_latents, rule=spec.rule, context=width - d, **spec.options)
    if spec.rule == "matryoshka":
        own["groups"] = [n_latents // 4, n_latents // 2, n_latents]
    own |= {"seed": stream_seed(params.seed, SLUG, "coder", seed), "device": device_named(params.device)}
    if spec.context == "target":
        own["d_out"] = truth.view.shape[1]
    unit = {"k": 1, "l1": d**0.5, "l0": d}[spec.option]
    return [SparseCoder(**own, **{spec.option: value * unit}) for value in settings]


def _encoder_input(part: tuple[Tensor, Tensor, Tensor], context: str, rng: torch.Generator) -> Tensor:
    x, _, other = part
    if context in ("none", "target"):
        return x
    joined = join_sites(x, other)
    return joined if context == "other site" else shuffled_context(joined.cpu(), x.shape[1], rng).to(x.device)
