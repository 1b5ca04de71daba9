"""Training as published: weights and losses alone.

No metric is reached here, so that an edit to one retrains nothing.
"""
from __future__ import annotations

import numpy as np

from lib.models.published_toy import train_published_toy
from lib.studies.superposition_phases.common import Arrays, Device, arrays
from lib.tensors import device_named


def cells(params: Device, asked: list, k: int, importance: np.ndarray, samples: int, epochs: int) -> Arrays:
    """W, b and epoch_loss of one model per (sparsity, seed) asked for; importance is [n] or one row per model."""
    size, device = (importance.shape[-1], k), device_named(params.device)
    return arrays(**train_published_toy(asked, *size, importance, samples, epochs, device)._asdict())
