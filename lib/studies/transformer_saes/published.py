"""The source's recipe on activations of this model, and its way to resume; it trains and measures in one.

Several positions of a sequence flattened to one sample, standardised; no sparsity term; each activation trained once.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lib.activations.hooks import capture
from lib.models.published_sae import train_published_sae
from lib.params import Count
from lib.press.runs import reuse
from lib.studies.transformer_saes.train_lm import Language, model_of
from lib.studies.transformer_saes.world import stream, tokenised

ACTIVATIONS = ("relu", "shifted", "topk 5")
"""The source's three; "shifted" is what it calls JumpReLU."""
LENGTH, HELD = 20, 200


class Recipe(Language):
    """The source's recipe."""

    published_samples: int = Field(ge=2, description="sequences, standardised (theirs 1000)")
    published_epochs: Count = Field(description="epochs (theirs 100)")
    published_latents: Count = Field(description="latents (theirs 256)")


def flattened(params: Recipe, text: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Training and held-out samples: what the first block's MLP puts out over 20 tokens, one after the other.

    text: windows of held-in speeches; else random token ids, as the source takes. Both standardised per dimension by
    the training samples.
    """
    n, rng = params.published_samples + HELD, stream(params, "published", seed)
    model = model_of(params.view(Language), False)
    if text:
        stored = reuse(tokenised, params)["train"]
        ids = torch.as_tensor(stored[torch.randperm(len(stored), generator=rng)[:n].numpy(), :LENGTH]).long()
    else:
        ids = torch.randint(0, model.unembed.out_features, (n, LENGTH), generator=rng)
    with torch.no_grad(), capture(model, "blocks.0.mlp") as found:
        model(ids.to(model.unembed.weight.device))
    x = found["blocks.0.mlp"].flatten(1).cpu()
    train, held = x[:-HELD], x[-HELD:]
    mean, sd = train.mean(0), train.std(0).clamp_min(1e-6)
    return (train - mean) / sd, (held - mean) / sd


def comparison(params: Recipe, text: bool, seed: int) -> dict[str, Any]:
    """The three activations as the source trains them.

    Returns:
        loss, train_loss: per dimension, held out and on the training samples, [3]; inactive: share of latents at 0.
    """
    train, held = flattened(params, text, seed)
    done = train_published_sae(train, held, ACTIVATIONS, min(params.published_latents, train.shape[1]),
                               params.published_epochs, stream(params, "published coder", seed))
    return {name: getattr(done, name).numpy() for name in ("loss", "train_loss", "inactive")}


def interrupted(params: Recipe, seed: int) -> dict[str, Any]:
    """The source's program killed while it trains each activation, and resumed by its own rule.

    It writes a checkpoint when an activation is done, reads on resuming only that activation's name, trains it again
    from new weights, and so on to the last. It sets no seed; here every process has the same one, the case that suits
    it best.

    Returns:
        same: whether all three autoencoders end with the weights of a run that was not killed, [3 kill points];
        trainings: how many were taken in all, where 3 were needed.
    """
    train, held = flattened(params, False, seed)

    def process(first: int, last: int) -> dict[int, Tensor]:
        rng = stream(params, "process", seed)
        return {number: train_published_sae(train, held, ACTIVATIONS[number : number + 1], 16, 1, rng).weights
                for number in range(first, last)}

    whole, same, trainings = process(0, 3), [], []
    for killed in range(3):
        before, current = process(0, killed), max(0, killed - 1)
        resumed = before | process(current, 3)
        same.append(all(torch.equal(resumed[number], whole[number]) for number in range(3)))
        trainings.append(killed + 1 + 3 - current)
    return {"same": np.array(same), "trainings": np.array(trainings)}
