"""What trains sparse coders of the library on the study's networks."""
from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lib.sparse_coders import SparseCoder, fit
from lib.studies.incidental_polysemanticity.groups import Networks, Rate, Several
from lib.studies.incidental_polysemanticity.leaky_sae import scaled
from lib.studies.incidental_polysemanticity.network import PUBLISHED, trained
from lib.tensors import as_array, device_named


class Coders(Networks):
    """What the library's coders take."""

    sae_lr: Rate
    coder_seeds: int = Field(ge=2, description="networks on which library coders are trained")
    coder_steps: int = Field(ge=10, description="steps of each coder")
    jump_penalties: Several = Field(description="l0 penalties of JumpReLU")
    relu_penalties: Several = Field(description="l1 penalties of the library's ReLU and ProLU")
    ks: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(min_length=1, description="active latents of TopK")


def states(params: Coders) -> dict:
    """Train the coders on the first networks of `strengths`; states: of each network's coders, in turn, by name."""
    seeds, often, found = params.first(params.coder_seeds), max(1, params.coder_steps // 4), []
    network = trained(params, [PUBLISHED[7]], seeds)
    acts, val = scaled(network.acts)[0], scaled(network.acts, network.val_acts)[0]  # [S, n, 12]
    for seed, x, held in zip(seeds, acts, val, strict=True):
        made = [coder for _, _, coder in coders_of(params, seed)]
        own = {"held_out": held, "steps": params.coder_steps, "batch_size": 512, "lr": params.sae_lr, "seed": seed}
        own |= {"dead_after": 5_000, "progress": False}
        fit(made[:-1], x, **own)
        fit(made[-1], x, resample_every=often, **own)
        found.append([{name: as_array(value) for name, value in coder.state_dict().items()} for coder in made])
    return {"states": found}


def coders_of(params: Coders, seed: int) -> list[tuple[str, float, SparseCoder]]:
    """(arm, setting, coder) of one network before training, that which is resampled last."""
    arms = [("JumpReLU", p, {"rule": "jumprelu", "l0": p}) for p in params.jump_penalties]
    arms += [(arm, p, {"rule": arm.lower(), "l1": p}) for arm in ("ReLU", "ProLU") for p in params.relu_penalties]
    arms += [("TopK", k, {"rule": "topk", "k": k, "aux": 0.0}) for k in params.ks]
    arms += [("TopK + AuxK", k, {"rule": "topk", "k": k}) for k in params.ks]
    arms.append(("ReLU + resampling", strongest := params.relu_penalties[-1], {"rule": "relu", "l1": strongest}))
    own = {"seed": seed, "device": device_named(params.device)}
    return [(arm, float(value), SparseCoder(12, 16, **own, **rule)) for arm, value, rule in arms]
