"""TopK coders of what the fully connected layers read, which the components of those layers are compared with."""
from __future__ import annotations

from itertools import product
from typing import Any

import torch
from pydantic import Field

from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.sparse_coders import SparseCoder, fit
from lib.studies.shapes_and_colours.common import HEADS, SLUG, images, pixels, place
from lib.studies.shapes_and_colours.net import BEHIND
from lib.studies.shapes_and_colours.train import Networks, restored, trained
from lib.tensors import denormals_flushed


class Coding(Networks):
    """Of the coders."""

    coder_k: tuple[int, ...] = Field(min_length=1, description="active latents of the coders")
    coder_latents: tuple[int, ...] = Field(min_length=1, description="latents of the coders")
    coder_steps: int = Field(ge=10, description="steps that train a coder, batches of 256")


def coded(params: Coding, seed: int) -> dict[str, Any]:
    """Train every coder of one network with heads on the inputs of both layers.

    Returns:
        coders, by layer: arrays by name of each, in the order of `coders`.
    """
    frozen = restored(params, HEADS, reuse(trained, params, HEADS, seed))
    found, x = {}, pixels(images(params, "train")[0], place(params))
    for site in BEHIND:
        _, inputs = frozen.behind(site, x)
        made = list(coders(params, site, seed, inputs.shape[1]).values())
        with denormals_flushed():
            fit(made, inputs, steps=params.coder_steps, batch_size=256, progress=False,
                seed=stream_seed(params.seed, SLUG, "coder order", site, seed))
        found[site] = [{name: value.detach().cpu().numpy() for name, value in one.state_dict().items()} for one in made]
    return {"coders": found}


def coders(params: Coding, site: str, seed: int, d_in: int) -> dict[tuple[int, int], SparseCoder]:
    """Every coder of a layer by (k, latents), before training."""
    return {(k, n): SparseCoder(d_in, n, "topk", k=k, seed=stream_seed(params.seed, SLUG, "coder", site, seed, k, n),
                                device=place(params))
            for k, n in product(params.coder_k, params.coder_latents)}


def restored_coders(params: Coding, site: str, seed: int, d_in: int) -> dict[tuple[int, int], SparseCoder]:
    """Every trained coder of a layer by (k, latents)."""
    made = coders(params, site, seed, d_in)
    for coder, arrays in zip(made.values(), reuse(coded, params, seed)["coders"][site], strict=True):
        coder.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    return made
