"""Trained models as tables: the runs of an arm, and the best restarts of a grid."""
from __future__ import annotations

import numpy as np
import pandas as pd
from torch import Tensor

from lib.metrics import superposition as metric
from lib.models.toy_training import Grid, describe
from lib.studies.superposition_phases.common import Arrays, Root, Sparsities, arrays, stream, tensor
from lib.tensors import as_array


def described(params: Root, cells: list, W: Tensor, b: Tensor, importance: np.ndarray) -> dict:
    """The runs table and weights of either arm."""
    density = tensor(params, np.array([1 - sparsity for sparsity, _ in cells]))
    columns = describe(W, b, density, tensor(params, importance).expand(len(cells), -1), stream(params, "heldout"))
    runs = pd.DataFrame(cells, columns=["sparsity", "seed"]).assign(**arrays(**columns))
    return {"runs": runs, "W": as_array(W), "b": as_array(b), "importance": importance}


def best(grid: Grid) -> Arrays:
    """The best restart of each setting and what its features look like; loss [S, R] of all restarts."""
    W, b = grid.best()
    D, interference = metric.feature_dimensionality(W), metric.interference(W)
    return arrays(W=W, b=b, loss=grid.loss, norm=metric.feature_norms(W), D=D, interference=interference)


def stacked(parts: list[Arrays], axis: Sparsities) -> Arrays:
    """Arrays of several kinds of model, which become the first axis, beside the sparsities [S]."""
    return {"sparsity": np.array(axis)} | {name: np.stack([part[name] for part in parts]) for name in parts[0]}
