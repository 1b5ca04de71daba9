"""Order the two sides of a bipartite graph so that few edges cross."""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def crossings(left: ArrayLike, right: ArrayLike) -> int:
    """Pairs of straight edges that cross: l < l' and r > r' (or the reverse), counted as inversions in O(E log E).

    Args:
        left, right: rank of each edge's ends on its side, [E]; edges that share an end do not cross.
    Source: Barth, Juenger & Mutzel 2002.
    """
    left, right = np.asarray(left), np.asarray(right)
    order = np.lexsort((right, left))  # by left end, then by right end
    return _inversions(right[order].tolist())[0]


def _inversions(values: list) -> tuple[int, list]:
    """Pairs out of order, and the values sorted, by merging."""
    if len(values) < 2:
        return 0, values
    middle = len(values) // 2
    (before, a), (after, b) = _inversions(values[:middle]), _inversions(values[middle:])
    count, merged, i = before + after, [], 0
    for value in b:
        while i < len(a) and a[i] <= value:
            merged.append(a[i])
            i += 1
        count += len(a) - i  # what is left of a is larger and stands before
        merged.append(value)
    return count, merged + a[i:]


def order_sides(weights: np.ndarray, sweeps: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Orders of both sides with few crossings: sort each side by the mean or median rank of its neighbours, in turn.

    The best order seen is kept; the start is the order given, so the result never crosses more than that.

    Args:
        weights: [I, J], non-zero where there is an edge; |weight| weighs the mean.
        sweeps: passes over both sides, by means and by medians in turn.
    Returns:
        Components from top to bottom, int [I] and [J].
    Source: Sugiyama, Tagawa & Toda 1981 (means); Eades & Wormald 1994 (medians).
    """
    weights = np.abs(weights)
    left, right = np.arange(weights.shape[0]), np.arange(weights.shape[1])
    best = (_count(weights, left, right), left, right)
    for sweep in range(sweeps):
        centre = _median if sweep % 2 else _mean
        right = _sorted(weights.T, left, right, centre)
        left = _sorted(weights, right, left, centre)
        found = _count(weights, left, right)
        if found < best[0]:
            best = (found, left, right)
    return best[1], best[2]


def _count(weights: np.ndarray, left: np.ndarray, right: np.ndarray) -> int:
    i, j = np.nonzero(weights)
    return crossings(np.argsort(left)[i], np.argsort(right)[j])


def _sorted(weights: np.ndarray, other: np.ndarray, own: np.ndarray, centre) -> np.ndarray:
    """`own` [A], sorted by the centre of the ranks of its neighbours in `other` [B]; lonely ones keep their rank."""
    ranks, before = np.argsort(other), np.argsort(own)
    scale = len(other) / max(1, len(own))
    key = [centre(ranks[row > 0], row[row > 0]) if row.any() else scale * before[a] for a, row in enumerate(weights)]
    return np.lexsort((before, key))


def _mean(ranks: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(ranks, weights=weights))


def _median(ranks: np.ndarray, weights: np.ndarray) -> float:
    return float(np.median(ranks))
