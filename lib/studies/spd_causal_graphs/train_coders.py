"""Transcoders of a trained network's first layer, x -> x W1ᵀ + b1, the map that is decomposed."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.sparse_coders import SparseCoder, fit
from lib.studies.spd_causal_graphs.common import SLUG, kept
from lib.studies.spd_causal_graphs.mlp import MLP
from lib.studies.spd_causal_graphs.train import Pool, arrays, data, filled, network, trained
from lib.tensors import denormals_flushed


class Coding(Pool):
    """Of the transcoders."""

    coder_k: tuple[int, ...] = Field(min_length=2, description="active latents of the transcoders")
    coder_sizes: tuple[float, ...] = Field(min_length=2, description="latents per component in the size sweep")
    coder_steps: int = Field(ge=10, description="steps that train a transcoder")


def transcoded(params: Coding, seed: int, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train every transcoder of one network on the same batches.

    Returns:
        coders: arrays by name of each, in the order of `restored_coders`.
    """
    frozen = network(params, reuse(trained, params, seed))
    coders = list(_coders(params, seed, frozen).values())
    x, held = data(params).pixels(frozen.fc1.weight.device)
    target, held_target = frozen.fc1(x), frozen.fc1(held)
    with denormals_flushed():
        fit(coders, x, target=target, steps=params.coder_steps, batch_size=params.batch,
            seed=stream_seed(params.seed, SLUG, "order", seed), held_out=(held, held_target), lr_decay=0.25,
            dead_after=20 * params.batch, progress=False, **kept(checkpoints, "coders"))
    return {"coders": [arrays(coder) for coder in coders]}


def restored_coders(params: Coding, seed: int, frozen: MLP) -> dict[tuple, SparseCoder]:
    """Every trained transcoder by (k, latents per component, whether it is the second seed's)."""
    stored = reuse(transcoded, params, seed)["coders"]
    pairs = zip(_coders(params, seed, frozen).items(), stored, strict=True)
    return {name: filled(coder, values) for (name, coder), values in pairs}


def _coders(params: Coding, seed: int, frozen: MLP) -> dict[tuple, SparseCoder]:
    """The same before training."""
    middle, (d_out, d_in) = params.coder_k[len(params.coder_k) // 2], frozen.fc1.weight.shape
    wanted = [(k, 1.0, False) for k in params.coder_k]
    wanted += [(middle, size, size == 1) for size in sorted({*params.coder_sizes, 1.0})]
    made = {}
    for k, size, again in wanted:
        own = stream_seed(params.seed, SLUG, "transcoder", seed, str(again))
        n = max(int(size * params.components), *params.coder_k)
        made[k, size, again] = SparseCoder(
            d_in, n, "topk", d_out=d_out, seed=own, device=frozen.fc1.weight.device, k=k)
    return made
