"""Whether two methods that split one layer find the same directions, against one of them rotated at random."""
from __future__ import annotations

import numpy as np
from scipy.stats import ortho_group

from lib.metrics.recovery import match_features


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Mean signed cosine over one-to-one pairs of directions [n, d] and [m, d], as many as the smaller set has.

    Signs count, so orient both first; nan where a set is empty. Source: Kuhn 1955 (pairs).
    """
    few, many = (first, second) if len(first) <= len(second) else (second, first)
    return float(match_features(few, many).similarity.mean()) if len(few) else np.nan


def rotation_null(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """`agreement` after random rotations (reflections included) of the second method's directions, [n].

    A rotation keeps every angle within the second set, so only the tie between the two is lost.
    """
    turns = ortho_group.rvs(second.shape[1], size=n, random_state=rng).reshape(n, *[second.shape[1]] * 2)
    return np.array([agreement(first, second @ turn) for turn in turns])
