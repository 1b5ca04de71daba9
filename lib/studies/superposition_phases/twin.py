"""The published sweep's well-trained twin: fresh batches, a falling rate, the usual initial scale."""
from __future__ import annotations

from itertools import product

import numpy as np
from pydantic import Field

from lib.press.runs import reuse
from lib.studies.superposition_phases import train_twin
from lib.studies.superposition_phases.common import Sparsities, Sweep, falling_importance, model_seeds, tensor
from lib.studies.superposition_phases.tables import described


class Twin(Sweep):
    """What the well-trained twin takes."""

    trained_steps: int = Field(ge=50, le=20000, description="steps of the well-trained twin (batch 128, cosine)")


def trained_sweep(params: Twin, sparsities: Sparsities | None = None, seeds: range | None = None) -> dict:
    """The same model trained well: usual initial scale, fresh batches of 128, cosine lr from .01.

    Args: as `published_sweep`; a seed only names a restart here.
    Returns:
        as `published_sweep`, but for last_epoch_loss and epoch_loss: step [T] and minibatch loss [runs, T] instead.
    """
    axis, seeds = sparsities or params.sparsities, seeds or model_seeds(params, params.seeds)
    importance = falling_importance(params)
    log_at = np.unique(np.geomspace(1, params.trained_steps, 40).astype(int)).tolist()
    size = params.n_hidden, len(seeds), params.trained_steps, 128
    done = reuse(train_twin.models, params, 1 - np.array(axis), importance, size, log_at)
    W, b = (tensor(params, done[name]).flatten(0, 1) for name in ("W", "b"))
    found = described(params, list(product(axis, seeds)), W, b, importance)
    return found | {"step": np.array(done["steps"]), "loss": done["history"].reshape(len(done["steps"]), -1).T}
