"""Trained models as tables: the runs of an arm, one row per model; and what the published code reads off a model."""
from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.data.sparse_features import sparse_features
from lib.metrics import superposition as metric
from lib.models import toy_superposition as toy
from lib.studies.superposition_phases.common import Root, arrays, stream, tensor
from lib.tensors import as_array


def described(params: Root, cells: list, W: Tensor, b: Tensor, importance: np.ndarray) -> dict:
    """The runs table and weights of either arm; W [runs, m, n], b [runs, n]."""
    density = tensor(params, np.array([1 - sparsity for sparsity, _ in cells]))
    columns = describe(W, b, density, tensor(params, importance).expand(len(cells), -1), stream(params, "heldout"))
    runs = pd.DataFrame(cells, columns=["sparsity", "seed"]).assign(**arrays(**columns))
    return {"runs": runs, "W": as_array(W), "b": as_array(b), "importance": importance}


def describe(W: Tensor, b: Tensor, density: Tensor, importance: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    """What a table of runs says about each model, held-out loss on 8 x 1024 fresh samples.

    Args:
        W: [I, n_hidden, n_features]; b, importance: [I, n_features]; density: [I].
    Returns:
        heldout_loss and zero_loss (the zero predictor's), not divided; n_learned, features with |W_i| > .5; n_missed,
        those of the n_hidden most important features that are not learned; all [I].
    """
    p = density[:, None, None]
    batches = (sparse_features((len(W), 1024, W.shape[2]), p, rng) for _ in range(8))
    loss = torch.stack([toy.feature_losses(W, b, x, importance).sum(-1) for x in batches]).mean(0)
    learned = metric.is_represented(W)
    top = importance.argsort(dim=-1, descending=True, stable=True)[:, : W.shape[1]]
    return {
        "heldout_loss": loss,
        "zero_loss": toy.zero_predictor_loss(importance, p[:, 0]),
        "n_learned": learned.sum(1),
        "n_missed": (~learned.gather(1, top)).sum(1),
    }


def published_weight_norms(W: Tensor) -> Tensor:
    """The published code's "weight norms": |row i of WᵀW|. A documented defect; the true ones are `feature_norms`.

    It equals |Wᵀ W_i|, so an antipodal pair of unit features reads sqrt(2) where each has norm 1. W [m, n] -> [n].
    """
    return torch.linalg.vector_norm(metric.gram(W), dim=-1)


def published_gram(W: Tensor) -> Tensor:
    """The published code's "WᵀW" heat map: (WᵀW)^2. A documented defect; the true one is `gram`.

    It adds up overlaps over all paths i - k - j: an antipodal pair of unit features reads ±2 where WᵀW reads ±1.
    """
    return metric.gram(W) @ metric.gram(W)
