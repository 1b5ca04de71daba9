"""What the units of a sheet prefer, and whether those of a class lie together."""
from __future__ import annotations

import numpy as np

from lib.activations.patching import top_sets
from lib.metrics.topography import Sheet, colocation, morans_i


def placed(contrast: np.ndarray, k: int, sheet: Sheet, draws: int, *, rng: np.random.Generator) -> dict[str, float]:
    """How a sheet's preferences lie, means over classes, and how many classes its units prefer.

    Args:
        contrast: of every unit for every class, [n_classes, h w].
        k: units per class.
        sheet: (h, w).
        draws: random sets that distances are compared with.
    Returns:
        z of the mean pairwise distance of each class's k units, Moran's I of its map, and the effective number of
        preferred classes, exp of the entropy of the shares of units whose highest contrast is for each class.
    """
    contrast = np.stack(contrast)
    share = np.bincount(contrast.argmax(0)) / contrast.shape[1]
    share = share[share > 0]
    return {
        "z": float(colocation(top_sets(contrast, k), sheet, draws, rng=rng).z.mean()),
        "Moran's I": float(np.nanmean(morans_i(contrast, sheet))),
        "preferred classes": float(np.exp(-(share * np.log(share)).sum())),
    }
