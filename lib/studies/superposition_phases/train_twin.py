"""Training on fresh batches: weights and minibatch losses alone.

No metric is reached here, so that an edit to one retrains nothing.
"""
from __future__ import annotations

import numpy as np

from lib.models.toy_training import train_grid
from lib.studies.superposition_phases.common import Root, arrays, stream, tensor


def models(params: Root, density: np.ndarray, importance: np.ndarray, size: tuple[int, ...], log_at: list) -> dict:
    """W, b, history and steps of the `Grid` trained with one density p per setting, [S]; importance is [n].

    Args:
        size: hidden dimensions, models per setting, steps, samples per step.
        log_at: steps whose minibatch loss is kept.
    """
    settings = tensor(params, density), tensor(params, importance)
    done = train_grid(*settings, *size, stream(params, "trained"), log_at=log_at)
    return arrays(W=done.W, b=done.b, history=done.history) | {"steps": done.steps}
