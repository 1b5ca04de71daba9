"""Runs whose answer is known: decompose a toy model with some seeds and compare with the truth."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lib.rng import generator
from lib.spd.metrics import identity_error, one_hot_importance, random_recovery, recovery
from lib.spd.options import SPDConfig
from lib.spd.targets import toy_draw, train_toy_model
from lib.spd.trainer import Result, decompose


def recover_toy_model(
    n_features: int, n_hidden: int, seeds: Sequence[int], restarts: int = 64, null_draws: int = 200, **options: Any
) -> dict[str, Any]:
    """Train toy models x' = ReLU(Wᵀ W x + b), decompose the best with every seed, and hold the result to W.

    Args:
        seeds: of the decompositions, trained side by side.
        restarts: target models trained; the one of lowest held-out loss is kept.
        options: of `SPDConfig`.
    Returns:
        W [n_hidden, n_features]; by site importance [S, n_features, C] on one-hot inputs, V [S, d_in, C],
        U [S, C, d_out], mmcs, ml2r, whole and identity_error [S]; null_mmcs and null_whole [null_draws], of random
        components at linear1; loss [S], over the last tenth.
    """
    target = train_toy_model(n_features, n_hidden, 0, restarts)
    results = decompose(target, toy_draw(n_features), SPDConfig(**options), list(seeds), log_every=10, progress=False)
    W, rng = target.linear1.weight.detach().cpu(), generator(0, "spd null")
    C = results[0].decomposition.parts["linear1"].V.shape[1]
    nulls = [random_recovery(C, W, rng) for _ in range(null_draws)]
    each = [one_hot_importance(r.decomposition, n_features) for r in results]
    maps = {name: np.stack([one[name] for one in each]) for name in each[0]}  # [S, n_features, C]
    arrays = [r.decomposition.arrays() for r in results]
    found = {name: [_toy_recovery(r, name) for r in results] for name in maps}
    scores = {key: {name: np.array([getattr(f, key) for f in rows]) for name, rows in found.items()}
              for key in ("mmcs", "ml2r", "whole")}
    last = np.array([r.history.loss.tail(max(1, len(r.history) // 10)).mean() for r in results])  # [S]
    return {
        "W": W.numpy(), **scores, "importance": maps,
        **{part: {name: np.stack([own[f"{name}.{part}"] for own in arrays]) for name in maps} for part in ("V", "U")},
        "identity_error": {name: np.array([identity_error(one) for one in own]) for name, own in maps.items()},
        "null_mmcs": np.array([null.mmcs for null in nulls]),
        "null_whole": np.array([null.whole for null in nulls]), "loss": last,
    }


def _toy_recovery(result: Result, name: str):
    parts, site = result.decomposition.parts[name], result.decomposition.sites[name]
    if name == "linear1":
        return recovery(parts.V, parts.U, site.weight)
    return recovery(parts.U.T, parts.V.T, site.weight.T)  # this layer writes the features
