"""What trains the language model."""
from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field

from lib.models.causal_lm import CausalLM, cross_entropy
from lib.params import Count, Positive
from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.studies.transformer_saes.world import OWN, SLUG, Size, randomised, stream, tokenised, untrained
from lib.tensors import as_array, device_named
from lib.training import Recipe
from lib.training.language import train_language


class Language(Size):
    """How the own model is trained."""

    lm_steps: Count = Field(description="steps that train the own model")
    lm_batch: Count = Field(description="windows per step")
    lm_lr: Positive = Field(description="largest rate of AdamW, after a twentieth of the steps; cosine to 0")


def language_model(params: Language, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train the own model; one from a file is measured as it is.

    Args:
        checkpoints: folder in which training continues after a kill; written to at every eighth of it.
    Returns:
        state: the own model's tensors by name; loss: held out, nats a token; unigram: of token frequencies alone.
    """
    tokens, model = reuse(tokenised, params), untrained(params.view(Size))
    untrained.cache_clear()  # it is trained in place
    if params.model == OWN:
        recipe = Recipe(steps=params.lm_steps, batch=params.lm_batch, lr=params.lm_lr, warmup=params.lm_steps // 20)
        train_language(
            model, tokens["train"], recipe, stream_seed(params.seed, SLUG, "order of windows"), device=params.device,
            progress=False, checkpoint=checkpoints and checkpoints / "model.pt",
            checkpoint_every=max(1, params.lm_steps // 8), log_every=max(1, params.lm_steps // 40))
    held = torch.as_tensor(tokens["held"][::8]).long()
    counts = np.bincount(tokens["train"][:, 1:].ravel(), minlength=model.unembed.out_features) + 1
    state = model.state_dict() if params.model == OWN else {}
    return {"state": {name: as_array(value) for name, value in state.items()},
            "loss": float(cross_entropy(model.eval().to(device_named(params.device)), held).mean()),
            "unigram": float(-np.log(counts / counts.sum())[held[:, 1:].numpy()].mean())}


@functools.lru_cache(maxsize=2)
def model_of(params: Language, random: bool) -> CausalLM:
    """The trained model on its device, ready to be read; random: with matrices drawn anew (`world.randomised`)."""
    model = untrained(params.view(Size))
    untrained.cache_clear()
    if params.model == OWN:
        state = reuse(language_model, params)["state"]
        model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    if random:
        randomised(model, stream(params, "random model"))
    return model.to(device_named(params.device)).eval().requires_grad_(False)
