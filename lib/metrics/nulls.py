"""What a metric reads on nothing: draws of a null, a check that they move, and where an observation stands in them."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lib.metrics.statistics import sample, standardised
from lib.rng import checked_generator
from lib.tensors import finite


class NullComparison(NamedTuple):
    """An observed value against draws of its null."""

    excess: float
    """observed - mean of the null."""
    z: float
    """excess in standard deviations of the null."""
    p_value: float
    """Two-sided, 2 min(P(null <= observed), P(null >= observed)), observed counted as one draw."""


class NullCannotMove(ValueError):
    """The draws of a null all give the same value, so comparing anything with it only measures rounding error."""


def null_distribution(
    metric: Callable[[Any], float], draw: Callable[[np.random.Generator], Any], n: int, rng: np.random.Generator,
    rounding: float = 1e-6,
) -> np.ndarray:
    """What a metric reads on structureless input: metric(draw(rng)), n times.

    Args:
        draw: makes one structureless input (random directions, permuted labels, a permuted sheet).
        rounding: relative spread at or below which the draws count as one value (float32 sums reach 1e-7).
    Raises:
        NullCannotMove: all draws give the same value up to rounding, as when columns are permuted under a metric
            that does not depend on their order.
    """
    if n < 2:
        raise ValueError(f"null_distribution needs at least 2 draws, got {n}")
    rng = checked_generator(rng)
    null = sample([float(metric(draw(rng))) for _ in range(n)], "the null")
    if np.ptp(null) <= rounding * np.abs(null).max():
        raise NullCannotMove(
            f"the null cannot move: {n} draws all read {null[0]:.6g} (spread {np.ptp(null):.1g}). "
            "The metric does not depend on what the draw randomises; randomise something it measures"
        )
    return null


def against_null(observed: float, null: ArrayLike) -> NullComparison:
    """Where a metric on the real input stands in a null [n] that moves, as of `null_distribution`.

    Source: Phipson & Smyth 2010 (why p is never 0).
    """
    null, observed = sample(null, "the null"), float(finite(observed, "the observed value"))
    tail = 1 + min((null >= observed).sum(), (null <= observed).sum())
    excess = float(observed - null.mean())
    z = standardised(excess, null.std(ddof=1), np.abs(null).max(), "against_null")
    return NullComparison(excess, z, min(1.0, 2 * float(tail) / (len(null) + 1)))
