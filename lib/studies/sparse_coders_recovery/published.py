"""The activation comparison as it was published; it trains and measures in one, in seconds."""
from __future__ import annotations

from typing import Any

import pandas as pd
from pydantic import Field

from lib.models.published_sae import train_published_sae
from lib.studies.sparse_coders_recovery.worlds import Law, planted_law, stream

PUBLISHED = ("relu", "shifted", "topk 5", "topk 2", "topk 16", "topk 64")
"""Activations of the published arm; the first three are the source's."""


class Published(Law):
    """What the published arm reads."""

    published_samples: int = Field(ge=64, description="samples of the published arm (theirs 1000)")
    published_width: int = Field(ge=4, description="dimensions per position, of 20 positions side by side (theirs 768)")
    published_epochs: int = Field(ge=1, le=100, description="passes over them (theirs 100)")


def published_arm(params: Published, seed: int, n_latents: int = 256) -> dict[str, Any]:
    """The published autoencoders on samples of the planted law, twenty positions side by side, standardised.

    Returns:
        rows: DataFrame, one row per activation: activation, loss, train_loss, inactive, inactive_before.
    """
    rng, n = stream(params, "published", seed), 2 * params.published_samples
    law = planted_law(params, params.published_width, stream(params, "published directions", seed))
    x = law.sample(20 * n, rng)[0].reshape(n, -1)  # [n, 20 d]
    train, held = x.split(params.published_samples)
    mean, std = train.mean(0), train.std(0)
    train, held = (train - mean) / std, (held - mean) / std
    done = train_published_sae(train, held, PUBLISHED, n_latents, params.published_epochs, rng)
    columns = {name: values.numpy() for name, values in done._asdict().items() if name != "weights"}
    return {"rows": pd.DataFrame({"activation": PUBLISHED, **columns})}
