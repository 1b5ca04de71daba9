"""Which ground-truth features a sparse coder recovered, and how far above random directions.

dictionary [n_features, d] holds the true directions, decoder [n_latents, d] the learned ones, one per row and of any
length. Similarity is the signed cosine: a feature and its antipode are two features, which |cosine| cannot tell apart.
NumPy or torch in, float64 NumPy out.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from lib.metrics.nulls import NullComparison, against_null, null_distribution
from lib.tensors import as_array, finite, matrix

Metric = Callable[[np.ndarray, np.ndarray], float]
_CHUNK = 2**24
"""Entries of a temporary matrix held at once."""


class Matching(NamedTuple):
    """One latent for each feature, no latent twice."""

    latent: np.ndarray
    """Index of the feature's latent, int64 [n_features]; -1 where there are too few latents."""
    similarity: np.ndarray
    """Their cosine (|cosine| where matched unsigned), [n_features]; 0 without a latent."""
    sign: np.ndarray
    """Sign of that cosine, [n_features]; 0 without a latent."""


class Detection(NamedTuple):
    """How well scores tell when each feature is active; all [n_features]."""

    precision: np.ndarray
    """TP / (TP + FP); nan where the score never fires, so averages without F1 flatter a silent coder."""
    recall: np.ndarray
    """TP / (TP + FN); nan where the feature is never active."""
    f1: np.ndarray
    """2 TP / (2 TP + FP + FN); 0 where the score never fires, nan where the feature is never active either."""
    auc: np.ndarray
    """P(score of an active sample > score of an inactive one), ties half; nan where the feature does not vary."""


class Absorption(NamedTuple):
    """Silence of a parent's latent, with and without a child's latent firing; all [n_features], nan off parents."""

    score: np.ndarray
    """Share of the parent's active samples on which its latent is silent while the latent of an active child fires."""
    with_child: np.ndarray
    """Silent share among the active samples on which the latent of an active child fires."""
    alone: np.ndarray
    """Silent share among the other active samples: a latent that simply misses its feature is as silent there."""


def cosines(dictionary: ArrayLike, decoder: ArrayLike) -> np.ndarray:
    """Signed cosines of all features with all latents, [n_features, n_latents]; 0 for a latent of length 0."""
    D, W = _checked_pair(dictionary, decoder)
    return _unit_rows(D) @ _unit_rows(W).T


def match_features(dictionary: ArrayLike, decoder: ArrayLike, signed: bool = True) -> Matching:
    """The one-to-one matching of features with latents of largest total cosine (Hungarian algorithm).

    Unsigned it matches on |cosine|, which calls two antipodal features recovered by one direction found twice; the mean
    |cosine| over its pairs is the "mean correlation coefficient" of others.

    Source: Kuhn 1955.
    """
    cosine = cosines(dictionary, decoder)
    feature, column = linear_sum_assignment(cosine if signed else np.abs(cosine), maximize=True)
    latent = np.full(len(cosine), -1)
    found = np.zeros(len(cosine))
    latent[feature], found[feature] = column, cosine[feature, column]
    return Matching(latent, found if signed else np.abs(found), np.sign(found))


def recovery_at(similarity: ArrayLike, tau: float = 0.9) -> float:
    """Share of features whose matched latent lies within cosine tau, mean_i [similarity_i >= tau], of a `Matching`."""
    return float((finite(similarity, "similarity") >= tau).mean())


def mmcs(dictionary: ArrayLike, decoder: ArrayLike) -> float:
    """Mean max cosine similarity, mean_i max_j cos(D_i, W_j): how near the nearest latent is to each feature.

    `mmcs(decoder, dictionary)` is the other direction, how near each latent is to some feature; latents may share one.
    High for random directions too (.76 for 20 in 5 dimensions): report `against_random_dictionary`.

    Source: Sharkey et al. 2022, "Taking features out of superposition with sparse autoencoders".
    """
    return float(_nearest(dictionary, decoder)[1].mean())


def uniqueness(dictionary: ArrayLike, decoder: ArrayLike) -> float:
    """Distinct nearest latents per feature, #{argmax_j cos(D_i, W_j)} / n_features.

    1 when every feature has a nearest latent of its own, 1/2 when features share them in pairs.
    """
    nearest, _ = _nearest(dictionary, decoder)
    return len(np.unique(nearest)) / len(nearest)


def random_dictionary_null(
    dictionary: ArrayLike, n_latents: int, rng: np.random.Generator, n: int = 100, metric: Metric = mmcs
) -> np.ndarray:
    """What a metric of (dictionary, decoder) reads for decoders of n_latents directions uniform on the sphere, [n].

    NullCannotMove where every draw reads the same, as recovery@.9 does (always 0) in many dimensions; the mean matched
    cosine moves.
    """
    D = _unit_rows(matrix(dictionary, "dictionary"))
    return null_distribution(lambda W: metric(D, W), lambda r: r.normal(size=(n_latents, D.shape[1])), n, rng)


def against_random_dictionary(
    dictionary: ArrayLike, decoder: ArrayLike, rng: np.random.Generator, n: int = 100, metric: Metric = mmcs
) -> NullComparison:
    """A metric of (dictionary, decoder) less its `random_dictionary_null` of as many latents."""
    D, W = _checked_pair(dictionary, decoder)
    return against_null(metric(D, W), random_dictionary_null(D, len(W), rng, n, metric))


def matched_scores(latents: ArrayLike, matching: Matching) -> np.ndarray:
    """Each feature's latent of [n_samples, n_latents] times their cosine's sign, 0 if none; [n_samples, n_features]."""
    latents = np.asarray(as_array(latents))
    return latents[:, matching.latent] * matching.sign.astype(np.result_type(latents, np.int8))  # which has signs


def _known(values: ArrayLike, name: str) -> np.ndarray:
    """As `finite`, in the type they have: only their signs are asked for."""
    values = np.asarray(as_array(values))
    return values if np.isfinite(values).all() else finite(values, name)


def detection(scores: ArrayLike, active: ArrayLike) -> Detection:
    """Precision, recall, F1 and AUC of "score > 0" against "feature active", feature by feature.

    Args:
        scores: `matched_scores`, or other decisions, [n_samples, n_features].
        active: features > 0, bool, [n_samples, n_features].
    """
    scores, active = _known(scores, "scores"), np.asarray(as_array(active)).astype(bool)
    if scores.ndim != 2 or scores.shape != active.shape or not len(scores):
        raise ValueError(f"detection: scores and active need one shape and samples, got {scores.shape}, {active.shape}")
    fires, n = scores > 0, len(scores)
    hits, fired, positives = (fires & active).sum(0), fires.sum(0), active.sum(0)
    step = max(1, _CHUNK // n)
    auc = [_auc(scores[:, c : c + step], active[:, c : c + step]) for c in range(0, scores.shape[1], step)]
    with np.errstate(invalid="ignore", divide="ignore"):
        varies = np.where((positives > 0) & (positives < n), 1.0, np.nan)
        return Detection(hits / fired, hits / positives, 2 * hits / (fired + positives), np.concatenate(auc) * varies)


def absorption(scores: ArrayLike, features: ArrayLike, parent: ArrayLike) -> Absorption:
    """Feature absorption in a known hierarchy: children's latents speaking for the parent while its own is silent.

    Absorbed are samples with the parent active, its latent silent, and an active child whose latent fires. The excess
    `with_child - alone` is the part of the silence that goes with the child; a weak latent has none.

    Args:
        scores: `matched_scores`, [n_samples, n_features]; a latent fires where its score is > 0.
        features: [n_samples, n_features], active where > 0.
        parent: of each feature, int [n_features], -1 for a root.
    Source: Chanin et al. 2024, "A is for Absorption" (there with probes for unknown features, here with the known
        ones).
    """
    fires, active = _known(scores, "scores") > 0, _known(features, "features") > 0
    parent = np.asarray(as_array(parent))
    if fires.shape != active.shape or parent.shape != active.shape[1:]:
        raise ValueError(
            f"absorption: scores {fires.shape}, features {active.shape} and parent {parent.shape} do not fit together"
        )
    if not (parent >= 0).any() or parent.max() >= len(parent) or parent.dtype.kind not in "iu":
        raise ValueError("absorption needs a hierarchy: no feature has a parent among the features, by its number")
    result = np.full((3, len(parent)), np.nan)
    speaks = fires & active
    for p in np.unique(parent[parent >= 0]):
        child = speaks[:, parent == p].any(1)[active[:, p]]
        silent = ~fires[active[:, p], p]
        result[:, p] = _mean(silent & child), _mean(silent[child]), _mean(silent[~child])
    return Absorption(*result)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _auc(scores: np.ndarray, active: np.ndarray) -> np.ndarray:
    """Mann-Whitney's U over its maximum, column by column; 0 where that maximum is 0."""
    positives = active.sum(0)
    u = (rankdata(scores, axis=0) * active).sum(0) - positives * (positives + 1) / 2
    return u / np.maximum(positives * (len(active) - positives), 1)


def _nearest(dictionary: ArrayLike, decoder: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Index and cosine of each row's nearest row of decoder, both [n_features]."""
    D, W = (_unit_rows(A) for A in _checked_pair(dictionary, decoder))
    rows = max(1, _CHUNK // len(W))
    parts = [D[start : start + rows] @ W.T for start in range(0, len(D), rows)]
    return np.concatenate([c.argmax(1) for c in parts]), np.concatenate([c.max(1) for c in parts])


def _unit_rows(A: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(A, axis=1, keepdims=True)
    return np.divide(A, norms, out=np.zeros_like(A), where=norms > 0)


def _checked_pair(dictionary: ArrayLike, decoder: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    D, W = matrix(dictionary, "dictionary"), matrix(decoder, "decoder")
    if D.shape[1] != W.shape[1]:
        raise ValueError(f"dictionary and decoder must have rows of one width, got {D.shape} and {W.shape}")
    return D, W
