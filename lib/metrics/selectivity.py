"""How much a unit prefers one class: scores on class means, AUROC, and what each reads with the labels permuted.

codes are [n_samples, n_units]; labels ints in 0..n_classes-1. A score that only grows with sharper preference cannot
be read alone: class means of finitely many samples always differ, so every score stands beside permuted labels; where
those cannot move it, as under a floor or with constant codes, NullCannotMove is raised.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from lib.metrics.nulls import NullCannotMove, against_null
from lib.rng import checked_generator
from lib.tensors import as_array, finite

PUBLISHED_FLOOR = 0.2
"""The published score reports no value below this one."""
_CHUNK = 2**24
"""Entries of a temporary held at once."""

Score = Callable[[np.ndarray], np.ndarray]
"""Maps class means [..., n_classes, n_units] to scores [..., n_units]."""


def class_means(codes: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Mean code of each unit on each class, µ_cu; [n_classes, n_units]."""
    codes, labels, n_classes = _checked(codes, labels)
    return _means(codes, labels[None], n_classes)[0]


def entropy_selectivity(means: ArrayLike, published: bool = False) -> np.ndarray:
    """One less the normalised entropy of a unit's class means, M_u = 1 + Σ_c p_c log p_c / log C, p_c = µ_c / Σ µ.

    0 for a unit equally active on all classes, 1 for a unit active on one. The published score takes ReLU of the class
    means first and reports nothing below .2, which hides any effect under that floor.

    Args:
        means: non-negative class means, [..., n_classes, n_units]; of any sign if published.
        published: ReLU and floor.
    Returns:
        [..., n_units]; nan for a unit silent on all classes.
    Source: TopoSAE, H1.
    """
    means = _checked_means(means)
    means = np.maximum(means, 0) if published else _non_negative(means)
    share = _over(means, means.sum(-2, keepdims=True))  # [..., n_classes, n_units]
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    score = 1 + (share * logs).sum(-2) / np.log(means.shape[-2])
    return np.maximum(score, PUBLISHED_FLOOR) if published else score


def class_selectivity_index(means: ArrayLike) -> np.ndarray:
    """(µ_max - µ_rest) / (µ_max + µ_rest), µ_rest the mean of the other classes' means; 0 to 1, nan where silent.

    [..., n_units] of non-negative class means [..., n_classes, n_units].

    Source: Morcos et al. 2018, "On the importance of single directions for generalization".
    """
    means = _non_negative(_checked_means(means))
    top = means.max(-2)
    rest = (means.sum(-2) - top) / (means.shape[-2] - 1)
    return _over(top - rest, top + rest)


def peak_share(means: ArrayLike) -> np.ndarray:
    """Share of the largest class mean in their sum, max_c µ_c / Σ_c µ_c; 1/C to 1, nan where silent.

    [..., n_units] of non-negative class means [..., n_classes, n_units].

    Source: TopoSAE, EXP_012b.
    """
    means = _non_negative(_checked_means(means))
    return _over(means.max(-2), means.sum(-2))


def class_auroc(codes: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """P(code of a sample of class c > code of a sample of another), ties half, [n_classes, n_units]; .5 tells nothing.

    The largest over classes exceeds .5 by chance alone: permute the labels, of whole groups where samples share them.
    """
    codes, labels, n_classes = _checked(codes, labels)
    if n_classes < 2:
        raise ValueError("class_auroc needs two classes: one has no other to be told from")
    return _auroc(_means(rankdata(codes, axis=0), labels[None], n_classes)[0], np.bincount(labels))


def silent_units(codes: ArrayLike) -> np.ndarray:
    """Which units are 0 on every sample; bool [n_units]. Count them: scores leave them out."""
    return ~(np.asarray(as_array(codes)) != 0).any(0)


def label_permutation_null(
    codes: ArrayLike, labels: ArrayLike, score: Score, n: int, rng: np.random.Generator
) -> np.ndarray:
    """A score of class means with the labels permuted over samples; one matrix product per batch of permutations.

    Args:
        score: such as `entropy_selectivity`.
        n: permutations, 200 or more for a verdict.
    Returns:
        [n, n_units]; its mean over units is the null of a mean over units.
    """
    codes, labels, n_classes = _checked(codes, labels)
    if n < 2:
        raise ValueError(f"label_permutation_null needs at least 2 permutations, got {n}")
    rng, rows = checked_generator(rng), max(1, _CHUNK // (n_classes * max(codes.shape)))
    sizes = [min(rows, n - start) for start in range(0, n, rows)]
    parts = [score(_means(codes, rng.permuted(np.tile(labels, (size, 1)), axis=1), n_classes)) for size in sizes]
    null = np.concatenate(parts)  # [n, n_units]
    return _moving(null, "label_permutation_null")


def random_means_null(
    n_classes: int, n_units: int, n: int, rng: np.random.Generator, published: bool = True
) -> np.ndarray:
    """Mean `entropy_selectivity` of units whose class means are independent N(0, 1) after ReLU; [n].

    Without a floor and for many classes it tends to ((log 2 - γ)/2 + log(2π)/2) / log C = .977 / log C: .212 for 100
    classes, which already exceeds the published floor.
    """
    rng = checked_generator(rng)
    draws = [np.maximum(rng.normal(size=(n_classes, n_units)), 0) for _ in range(n)]
    scores = np.stack([entropy_selectivity(m, published) for m in draws])  # [n, n_units]
    return np.nanmean(_moving(scores, "random_means_null"), axis=1)


def selectivity_report(
    codes: ArrayLike, labels: ArrayLike, n: int = 200, *, rng: np.random.Generator
) -> dict[str, float]:
    """Every score of non-negative codes, averaged over units in use, beside its label-permutation null.

    Args:
        n: permutations; all scores see the same.
    Returns:
        For each of entropy, index, peak, auroc: the mean over units (`entropy`), its null's mean (`entropy_null`) and
        standing (`entropy_z`); and `silent`, `n_units`.
    """
    codes, labels, _ = _checked(codes, labels)
    if (codes < 0).any():
        raise ValueError("selectivity_report: codes are negative, so their means are no shares; give latents")
    silent, counts = silent_units(codes), np.bincount(labels)
    if silent.all():
        raise ValueError("selectivity_report: every unit is silent, so there is nothing to score")
    used, seed = codes[:, ~silent], int(checked_generator(rng).integers(2**63))
    ranks = rankdata(used, axis=0)
    scores = {"entropy": (used, entropy_selectivity), "index": (used, class_selectivity_index),
              "peak": (used, peak_share), "auroc": (ranks, lambda means: _auroc(means, counts).max(-2))}
    found: dict[str, float] = {"silent": int(silent.sum()), "n_units": codes.shape[1]}
    for name, (values, score) in scores.items():
        observed = float(score(class_means(values, labels)).mean())
        draws = label_permutation_null(values, labels, score, n, np.random.default_rng(seed)).mean(1)
        found |= {name: observed, f"{name}_null": float(draws.mean()), f"{name}_z": against_null(observed, draws).z}
    return found


def _means(codes: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Class means under several labellings at once, labels [B, n_samples] -> [B, n_classes, n_units]."""
    member = (labels[:, None] == np.arange(n_classes)[:, None]).astype(codes.dtype)  # [B, n_classes, n_samples]
    counts = member.sum(-1, keepdims=True)
    sums = member.reshape(-1, codes.shape[0]) @ codes  # [B n_classes, n_units]
    return sums.reshape(*counts.shape[:2], -1) / counts


def _auroc(mean_ranks: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """P(code of a sample of class c > code of another sample), ties half: (r̄_c - (n_c + 1)/2) / (n - n_c).

    Args:
        mean_ranks: r̄_c, mean rank of each class, [..., n_classes, n_units]; counts: n_c, [n_classes].
    Returns:
        As mean_ranks; .5 for a unit that never varies. The largest over classes exceeds .5 by chance alone.
    """
    own = counts[:, None]
    return (mean_ranks - (own + 1) / 2) / (counts.sum() - own)


def _over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, nan where bottom is 0."""
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    return np.divide(top, bottom, out=np.full(shape, np.nan), where=np.broadcast_to(bottom > 0, shape))


def _moving(null: np.ndarray, name: str) -> np.ndarray:
    heard = ~np.isnan(null).all(0)
    if not heard.any():
        raise ValueError(f"{name}: every unit is silent, so there is nothing to score")
    reads = np.nanmean(null[:, heard], axis=1)
    if np.ptp(reads) <= 1e-9 * max(1e-300, np.abs(reads).max()):
        raise NullCannotMove(f"{name}: all draws read {reads[0]:.6g}; a floor or constant codes leave nothing to move")
    return null


def _checked(codes: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray, int]:
    """Finite codes, labels, and the number of classes: the largest label + 1."""
    codes, labels = finite(codes, "codes"), np.asarray(as_array(labels))
    if codes.ndim != 2 or labels.shape != codes.shape[:1] or not codes.size:
        raise ValueError(f"codes [n_samples, n_units] and labels [n_samples] do not fit: {codes.shape}, {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"labels must be ints from 0 on, got {labels.dtype} from {labels.min()} on")
    if not (counts := np.bincount(labels)).all():
        raise ValueError(f"every class of 0..{len(counts) - 1} needs samples, got {counts}")
    return codes, labels, len(counts)


def _checked_means(means: ArrayLike) -> np.ndarray:
    means = np.asarray(as_array(means), dtype=np.float64)
    if means.ndim < 2 or means.shape[-2] < 2:
        raise ValueError(f"class means must be [..., n_classes >= 2, n_units], got {means.shape}")
    return finite(means, "class means")


def _non_negative(means: np.ndarray) -> np.ndarray:
    if (means < 0).any():
        raise ValueError("class means are negative, so they are no shares: score non-negative codes, such as latents")
    return means
