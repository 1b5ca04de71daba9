"""Training on exact expected losses: weights and losses alone.

No metric is reached here, so that an edit to one retrains nothing.
"""
from __future__ import annotations

import numpy as np

from lib.models.toy_exact import follow_minima, learning_curves, phase_grid
from lib.studies.superposition_phases.common import Arrays, Device, Root, arrays, stream, tensor


def phases(
    params: Root, density: np.ndarray, extra: np.ndarray, n_features: int, restarts: int, steps: int
) -> Arrays:
    """The fields of `phase_grid`'s result by name; density [G], importance of the last feature extra [G]."""
    asked = tensor(params, density), tensor(params, extra), n_features, restarts, steps
    return arrays(**phase_grid(*asked, stream(params, f"phase {n_features}"))._asdict())


def minima(params: Device, density: np.ndarray, importance: np.ndarray, steps: int) -> Arrays:
    """W, b and loss of the two minima `follow_minima` follows; density and importance of each feature, [F, 5]."""
    W, b, loss = follow_minima(tensor(params, density), tensor(params, importance), steps)
    return arrays(W=W, b=b, loss=loss)


def curves(params: Root, restarts: int, steps: int) -> Arrays:
    """The logged step [T], W and loss of `learning_curves`."""
    logged, W, loss = learning_curves(restarts, steps, stream(params, "dynamics"))
    return {"step": np.array(logged)} | arrays(W=W, loss=loss)
