"""Training of grids of toy models and of |x| models: weights and losses alone.

No metric is reached here, so that an edit to one retrains nothing.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from lib.models.toy_training import Grid, pair_law, train_absolute, train_grid
from lib.press.runs import reuse
from lib.studies.superposition_phases.common import Arrays, Root, arrays, stream, tensor

Size = tuple[int, int, int, int]
"""Hidden dimensions, restarts, steps, samples per step."""


def grid(
    params: Root, label: str, density: np.ndarray, importance: np.ndarray, size: Size, pairs: str = "independent",
    **options: Any,
) -> dict:
    """A `Grid` trained on the study's stream of that label.

    Args:
        density: p of every feature, one per setting, [S]; importance: [n].
        pairs: how pairs of features are drawn, one of `lib.models.toy_training.PAIRS`.
        options: of `train_grid`: kind, lr, log_at.
    """
    settings = tensor(params, density), tensor(params, importance)
    done = train_grid(*settings, *size, stream(params, label), law=pair_law(pairs), **options)
    return arrays(W=done.W, b=done.b, loss=done.loss, history=done.history) | {"steps": done.steps}


def trained(params: Root, *asked: Any, **options: Any) -> Grid:
    """The `grid` asked for, on the device; trains it if it is not there yet."""
    found = reuse(grid, params, *asked, **options)
    return Grid(steps=found.pop("steps"), **{name: tensor(params, values) for name, values in found.items()})


def absolute(params: Root, density: np.ndarray, importance: np.ndarray, size: tuple[int, int, int]) -> Arrays:
    """Absolute-value models, one per density; size is hidden units, steps, samples per step.

    Returns:
        W1, W2, b by name and error, (|x_i| - y'_i)^2 of each feature, as `train_absolute` gives them.
    """
    settings = tensor(params, density), tensor(params, importance)
    at, error = train_absolute(*settings, *size, stream(params, "abs"))
    return arrays(**at, error=error)
