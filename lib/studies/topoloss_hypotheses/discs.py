"""Is it the neighbourhood? Contiguous discs of a sheet beside scattered units that are as selective.

Matching, for one class with a score per unit (its contrast on the selection split):

1. Each place is the centre of one disc, the k places nearest to it. Discs are tried from the highest mean score down.
2. A scattered set takes one unit from outside the disc for each unit in it, at the least total difference of scores
   (an assignment). Many sets come of adding noise to the differences, of up to one standard deviation.
3. Kept are sets whose mean score is within `tolerance` standard deviations of the disc's and whose mean pairwise
   distance is at least the median of random sets. The first disc with `n` different such sets is taken (`rank` says
   which), its sets those nearest in mean score.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from lib.metrics.topography import Sheet, disc, mean_pairwise_distance, random_sets
from lib.rng import checked_generator
from lib.tensors import as_array


class MatchedDisc(NamedTuple):
    """A disc and its scattered equals."""

    disc: np.ndarray
    """Places of the disc, centre first, ints [k]."""
    scattered: np.ndarray
    """Places of each scattered set, ints [n, k]; none in the disc."""
    rank: int
    """How many discs with a higher mean score had too few equals."""
    gaps: np.ndarray
    """Mean score of each scattered set less the disc's, in standard deviations of the score over units, [n]."""


class NoMatch(ValueError):
    """No disc of the sheet has enough scattered sets of equal scores."""


def matched_disc(
    scores: ArrayLike, k: int, sheet: Sheet, n: int = 20, *, rng: np.random.Generator, tolerance: float = 0.1,
    tries: int = 200, n_discs: int | None = None,
) -> MatchedDisc:
    """The most selective disc of k places that has n scattered sets as selective, and those sets.

    Args:
        scores: selectivity of the unit at each place for one class, [h w].
        k: units in the disc, at most half the sheet (h, w); n: scattered sets, drawn from rng.
        tolerance: largest difference of mean scores, in standard deviations of the scores over units.
        tries: assignments per disc; n_discs: discs tried, all by default.
    Raises:
        NoMatch: no disc tried has n scattered sets; the message says what to loosen.
    """
    scores, rng = _checked_scores(scores, k, sheet), checked_generator(rng)
    spread = np.median(mean_pairwise_distance(random_sets(len(scores), k, 500, rng), sheet))
    discs = disc(np.arange(len(scores)), k, sheet)  # [h w, k]
    order = np.argsort(-scores[discs].mean(1), kind="stable")[:n_discs]
    for rank, own in enumerate(discs[order]):
        sets = _equals(scores, own, np.linspace(0, 1, tries), rng)
        gaps, spreads = scores[sets].mean(1) - scores[own].mean(), mean_pairwise_distance(sets, sheet)
        kept = np.flatnonzero((np.abs(gaps) <= tolerance) & (spreads >= spread))
        if len(kept) >= n:
            kept = kept[np.argsort(np.abs(gaps[kept]), kind="stable")][:n]
            return MatchedDisc(own, sets[kept], rank, gaps[kept])
    raise NoMatch(
        f"matched_disc: none of {len(order)} discs of {k} places has {n} scattered sets within {tolerance} sd of its "
        "mean score; take a smaller k or a larger tolerance"
    )


def _equals(scores: np.ndarray, own: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Different sets outside the disc, one per level of noise before repeats are dropped, [<= tries, k], sorted."""
    outside = np.setdiff1d(np.arange(len(scores)), own)
    apart = np.abs(scores[own][:, None] - scores[outside])  # [k, h w - k]
    draws = [linear_sum_assignment(apart + level * rng.random(apart.shape))[1] for level in noise]
    return np.unique(np.sort(outside[np.stack(draws)], axis=1), axis=0)


def _checked_scores(scores: ArrayLike, k: int, sheet: Sheet) -> np.ndarray:
    """Scores in standard deviations over units."""
    scores = np.asarray(as_array(scores), dtype=float)
    if scores.shape != (sheet[0] * sheet[1],) or not np.isfinite(scores).all() or not scores.std() > 0:
        raise ValueError(f"scores must be finite, vary and fit the {sheet[0]} x {sheet[1]} sheet, got {scores.shape}")
    if not 2 <= k <= len(scores) // 2:
        raise ValueError(f"a disc of {k} places leaves no equals on a sheet of {len(scores)}: take 2 to half of it")
    return scores / scores.std()
