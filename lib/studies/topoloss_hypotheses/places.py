"""What the units of a sheet prefer, and whether those of a class lie together."""
from __future__ import annotations

import numpy as np

from lib.activations.patching import top_sets
from lib.metrics.topography import Sheet, colocation, morans_i, morans_i_null

PERMUTED = 20
"""Orders of the places in which Moran's I is read as its null."""


def placed(contrast: np.ndarray, k: int, sheet: Sheet, draws: int, *, rng: np.random.Generator) -> dict[str, float]:
    """How a sheet's preferences lie, means over classes, and how many classes its units prefer.

    Args:
        contrast: of every unit for every class, [n_classes, h w].
        k: units per class.
        sheet: (h, w).
        draws: random sets that distances are compared with.
    Returns:
        z of the mean pairwise distance of each class's k units; morans_i of its map and morans_i_null, the same with
        the places permuted; preferred, the effective number of preferred classes: exp of the entropy of the shares of
        units whose highest contrast is for each class.
    """
    share = np.bincount(contrast.argmax(0)) / contrast.shape[1]
    share = share[share > 0]
    return {
        "z": float(colocation(top_sets(contrast, k), sheet, draws, rng=rng).z.mean()),
        "morans_i": float(np.nanmean(morans_i(contrast, sheet))),
        "morans_i_null": float(np.nanmean(morans_i_null(contrast, sheet, PERMUTED, rng))),
        "preferred": float(np.exp(-(share * np.log(share)).sum())),
    }
