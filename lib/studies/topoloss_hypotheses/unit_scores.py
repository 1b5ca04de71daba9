"""Class selectivity of a model's units, the published way and on codes that are not negative."""
from __future__ import annotations

import numpy as np

from lib.metrics.monosemanticity import monosemanticity, monosemanticity_null
from lib.metrics.selectivity import class_means, entropy_selectivity, selectivity_report

PERMUTED = 20
"""Permutations of the labels under which the published score and monosemanticity are read."""


def unit_scores(
    final: np.ndarray, codes: np.ndarray, labels: np.ndarray, draws: int, *, rng: np.random.Generator
) -> dict[str, float]:
    """H1: the published floored score beside permuted labels, and every score of non-negative codes beside theirs.

    Args:
        final: activations of both signs at the end of the model, [n, d]; codes: non-negative codes, [n, d'].
        labels: ints [n]; draws: permutations of them for the scores of codes, drawn from rng.
    Returns:
        Means over units: those of `selectivity_report` of the codes; monosemanticity with the labels as embeddings, and
        monosemanticity_null; published and published_null.
    Source: TopoSAE, H1.
    """
    permuted = [class_means(final, rng.permutation(labels)) for _ in range(PERMUTED)]
    means = class_means(final, labels)
    report = selectivity_report(codes, labels, draws, rng=rng)
    one_hot = np.eye(means.shape[0])[labels]
    return {name: float(value) for name, value in report.items()} | {
        "published": float(np.nanmean(entropy_selectivity(means, published=True))),
        "published_null": float(np.nanmean([entropy_selectivity(m, published=True) for m in permuted])),
        "monosemanticity": float(np.nanmean(monosemanticity(codes, one_hot))),
        "monosemanticity_null": float(monosemanticity_null(codes, one_hot, PERMUTED, rng).mean()),
    }
