"""Sparse coders of the library on the study's networks, beside which the published autoencoder is read."""
from __future__ import annotations

from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from lib.metrics.sparsity import fvu
from lib.sparse_coders import SparseCoder, fit
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry
from lib.studies.incidental_polysemanticity.groups import Networks, Pair, Rate
from lib.studies.incidental_polysemanticity.network import PUBLISHED, train
from lib.studies.incidental_polysemanticity.report import matched_cosine, scaled
from lib.tensors import device_named


class Coders(Networks):
    """What the library's coders take."""

    sae_lr: Rate
    coder_seeds: int = Field(ge=2, description="networks on which library coders are trained")
    coder_steps: int = Field(ge=10, description="steps of each coder")
    jump_penalties: Pair = Field(description="l0 penalties of JumpReLU")
    relu_penalties: Pair = Field(description="l1 penalties of the library's ReLU")
    ks: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(min_length=1, description="active latents of TopK")


def coders(params: Coders) -> dict:
    """Library coders on the first networks of `strengths`: JumpReLU, ReLU, ReLU + resampling, TopK, TopK + AuxK.

    runs: DataFrame, one row per (arm, setting, seed): l0, fvu, dead, recovery, interference.
    """
    seeds, rows = params.first(params.coder_seeds), []
    network = train([PUBLISHED[7]], seeds, params.steps, device_named(params.device), params.lr)
    acts, val = scaled(network.acts), scaled(network.acts, network.val_acts)
    for s, seed in enumerate(seeds):
        dictionary = geometry.feature_directions(network.features[s], acts[0, s]).cpu().numpy()
        for arm, setting, coder in _trained_coders(params, acts[0, s], val[0, s], seed):
            rows.append({"arm": arm, "setting": setting, "seed": seed} | _coder_report(coder, val[0, s], dictionary))
    return {"runs": pd.DataFrame(rows)}


def _trained_coders(params: Coders, acts: Tensor, val: Tensor, seed: int) -> list[tuple[str, float, SparseCoder]]:
    options = {"held_out": val, "steps": params.coder_steps, "batch_size": 512, "lr": params.sae_lr, "seed": seed,
               "dead_after": 5_000, "progress": False}
    arms = [("JumpReLU", p, {"rule": "jumprelu", "l0": p}) for p in params.jump_penalties]
    arms += [("ReLU", p, {"rule": "relu", "l1": p}) for p in params.relu_penalties]
    arms += [("TopK", k, {"rule": "topk", "k": k, "aux": 0.0}) for k in params.ks]
    arms += [("TopK + AuxK", k, {"rule": "topk", "k": k}) for k in params.ks]
    made = [(arm, float(value), SparseCoder(12, 16, seed=seed, device=acts.device, **own)) for arm, value, own in arms]
    fit([coder for _, _, coder in made], acts, **options)
    strongest, often = params.relu_penalties[-1], max(1, params.coder_steps // 4)
    coder = SparseCoder(12, 16, rule="relu", l1=strongest, seed=seed, device=acts.device)
    fit(coder, acts, resample_every=often, **options)
    return [*made, ("ReLU + resampling", float(strongest), coder)]


@torch.no_grad()
def _coder_report(coder: SparseCoder, val: Tensor, dictionary: np.ndarray) -> dict[str, float]:
    latents, decoder = coder.encode(val), coder.W_dec.detach()
    return {
        "l0": float((latents > 0).sum(1).float().mean()), "fvu": fvu(val.cpu(), coder(val).cpu()),
        "dead": float((~(latents > 0).any(0)).float().mean()),
        "recovery": matched_cosine(dictionary, decoder.cpu().numpy()),
        "interference": float(geometry.weighted_overlap(decoder.T)),
    }
