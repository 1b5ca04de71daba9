"""Models trained on fresh batches: the published sweep's well-trained twin, and small models of parts 1, 2 and 6."""
from __future__ import annotations

from itertools import product

import numpy as np
import torch
from pydantic import Field

from lib.metrics import superposition as metric
from lib.models import toy_superposition as toy
from lib.models.toy_training import PAIRS, Grid
from lib.studies.superposition_phases.common import (
    Arrays,
    Batch,
    Restarts,
    Root,
    Seeds,
    Sparsities,
    Steps,
    Swept,
    arrays,
    model_seeds,
)
from lib.studies.superposition_phases.tables import best, described, stacked
from lib.studies.superposition_phases.train_grids import trained
from lib.tensors import as_array


class Twin(Root):
    """What the well-trained twin takes."""

    sparsities: Swept
    seeds: Seeds
    trained_steps: int = Field(ge=50, le=20000, description="steps of the well-trained twin (batch 128, cosine)")


class Small(Root):
    """What the small models take."""

    restarts: Restarts
    steps: Steps
    batch: Batch


class Zoo(Small):
    """What the zoo takes."""

    zoo_sparsities: Sparsities = Field(description="S of the linear-against-ReLU zoo")


class Plane(Small):
    """What the features drawn in the plane take."""

    plane_sparsities: Sparsities = Field(description="S of the five features drawn in the plane")


def trained_sweep(params: Twin, sparsities: Sparsities | None = None, seeds: range | None = None) -> dict:
    """The same model trained well: usual initial scale, fresh batches of 128, cosine lr from .01.

    Args: as `published_sweep`; a seed only names a restart here.
    Returns:
        as `published_sweep`, but for last_epoch_loss and epoch_loss: step [T] and minibatch loss [runs, T] instead.
    """
    axis, seeds = sparsities or params.sparsities, seeds or model_seeds(params, params.seeds)
    importance = 0.7 ** np.arange(20)
    log_at = np.unique(np.geomspace(1, params.trained_steps, 40).astype(int)).tolist()
    size = 5, len(seeds), params.trained_steps, 128
    grid = trained(params, "trained", 1 - np.array(axis), importance, size, log_at=log_at)
    found = described(params, list(product(axis, seeds)), grid.W.flatten(0, 1), grid.b.flatten(0, 1), importance)
    return found | {"step": np.array(grid.steps), "loss": as_array(grid.history.flatten(1).T)}


def zoo(params: Zoo, sparsities: Sparsities | None = None) -> Arrays:
    """Part 1: linear and ReLU output, n=20, m=5, I_i = .7^i, best of restarts per sparsity.

    Returns:
        sparsity [S]; W [2, S, m, n] and b [2, S, n], first axis (linear, relu); loss [2, S, R], over zero;
        norm, D, interference [2, S, n].
    """
    axis, importance = sparsities or params.zoo_sparsities, 0.7 ** np.arange(20)
    return stacked([best(_grid(params, "zoo", axis, importance, 5, kind)) for kind in ("linear", "relu")], axis)


def plane(params: Plane, sparsities: Sparsities | None = None, n_features: int = 5, n_hidden: int = 2) -> Arrays:
    """Part 2, and the interactive figure with n_hidden 2 or 3: features drawn in hidden space, I_i = .9^i.

    Returns:
        sparsity [S]; W [S, m, n] and b [S, n] of the best restart, turned so that feature 0 lies on the first axis and
        feature 1 in the plane of the first two; loss [S, R], over zero; norm, D, interference [S, n].
    """
    axis, importance = sparsities or params.plane_sparsities, 0.9 ** np.arange(n_features)
    found = best(_grid(params, f"plane {n_features} {n_hidden}", axis, importance, n_hidden))
    return found | {"sparsity": np.array(axis), "W": as_array(toy.aligned(torch.from_numpy(found["W"])))}


def correlated_pairs(params: Small, densities: np.ndarray | None = None) -> Arrays:
    """Part 6: two pairs of features (n=4, m=2) that are independent, active together, or never active together.

    Args:
        densities: p of each feature, at most 1/2; default five in [.02, .5].
    Returns:
        density [A]; kind [3], `PAIRS`; the rest is [3, A, R, ...]: W [3, A, R, m, n], b [3, A, R, n]; loss [3, A, R],
        over zero; cosine_within, mean cosine of the two features of a pair; cosine_between, lowest cosine across
        pairs (both [3, A, R]). Features (0, 1) and (2, 3) are the pairs.
    """
    axis = np.geomspace(0.02, 0.5, 5) if densities is None else np.asarray(densities)
    size = 2, params.restarts, params.steps, params.batch
    grids = [trained(params, kind, axis, np.ones(4), size, pairs=kind) for kind in PAIRS]
    W, b, loss = (torch.stack(parts) for parts in zip(*(grid[:3] for grid in grids), strict=True))
    cosine = metric.gram(metric.unit_columns(W))
    within, between = (cosine[..., 0, 1] + cosine[..., 2, 3]) / 2, cosine[..., :2, 2:].amin((-2, -1))
    found = arrays(W=W, b=b, loss=loss, cosine_within=within, cosine_between=between)
    return found | {"density": axis, "kind": np.array(PAIRS)}


def _grid(params: Small, label: str, axis: Sparsities, importance: np.ndarray, m: int, kind: str = "relu") -> Grid:
    size = m, params.restarts, params.steps, params.batch
    return trained(params, f"{label} {kind}", 1 - np.array(axis), importance, size, kind=kind)
