"""Whether two methods that split one layer find the same directions, against one of them rotated at random."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import ortho_group

from lib.metrics.recovery import cosines, match_features, mmcs


class Agreement(NamedTuple):
    """Cosines between the directions of two methods."""

    matched: float
    """Mean signed cosine over one-to-one pairs (Hungarian), as many as the smaller set has directions."""
    forward: float
    """Mean over the first method's directions of the cosine with the nearest of the second."""
    backward: float
    """The same from the second to the first."""
    signed: float
    """Share of the pairs whose cosine is positive."""


def agreement(first: np.ndarray, second: np.ndarray) -> Agreement:
    """Compare directions [n, d] and [m, d]; signs count, so orient both first.

    Source: Sharkey et al. 2022 (nearest, both ways); Kuhn 1955 (pairs).
    """
    few, many = (first, second) if len(first) <= len(second) else (second, first)
    cosine = match_features(few, many)
    values = cosine.similarity
    return Agreement(float(values.mean()), mmcs(first, second), mmcs(second, first), float((values > 0).mean()))


def rotation_null(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """`agreement(...).matched` after random rotations (reflections included) of the second method's directions, [n].

    A rotation keeps every angle within the second set, so only the tie between the two is lost.

    """
    turns = ortho_group.rvs(second.shape[1], size=n, random_state=rng).reshape(n, *[second.shape[1]] * 2)
    return np.array([agreement(first, second @ turn).matched for turn in turns])


def best_pairs(
    reads: np.ndarray, writes: np.ndarray, other_reads: np.ndarray, other_writes: np.ndarray, most: int = 9
) -> dict[str, np.ndarray]:
    """The components whose written direction another method comes closest to, and what both read.

    Args:
        reads, writes: of the components, [n, d_in] and [n, d]; other_reads, other_writes: of the latents.
    Returns:
        component_reads, latent_reads [most, d_in] and cosines [most], best first.
    """
    cosine = cosines(writes, other_writes)
    order = np.argsort(-cosine.max(1), kind="stable")[:most]
    return {"component_reads": reads[order], "latent_reads": other_reads[cosine[order].argmax(1)],
            "cosines": cosine[order].max(1)}
