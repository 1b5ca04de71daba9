"""Whether what a unit fires on most falls into clusters, and whether those are the labels' own."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

from lib.metrics.nulls import null_distribution
from lib.rng import checked_generator
from lib.tensors import as_array, matrix

COUNTS = (2, 3, 4, 5, 6)
"""Numbers of clusters tried."""


class Clusters(NamedTuple):
    """The number of clusters with the largest silhouette."""

    labels: np.ndarray
    """Of each point, from 0 on, [n]."""
    n_clusters: int
    silhouette: float
    """Mean over points of (b - a) / max(a, b): a to its own cluster, b to the nearest other one; -1 to 1."""


class Polysemanticity(NamedTuple):
    """The index and its two factors, [n_units] each."""

    index: np.ndarray
    """geometry · alignment; 0 for one cluster, or clusters that labels do not tell apart; nan for a constant unit."""
    geometry: np.ndarray
    alignment: np.ndarray
    n_clusters: np.ndarray
    """With the largest silhouette; two where there are none, since fewer have no silhouette."""


def best_clusters(points: ArrayLike, counts: Sequence[int] = COUNTS) -> Clusters:
    """Ward's clusters of points [n, d], as many of `counts` as have the largest silhouette (Rousseeuw 1987).

    Some number is always best: compare the silhouette with that of `one_cloud`.
    """
    points = matrix(points, "points")
    if not counts or min(counts) < 2 or max(counts) >= len(points):
        raise ValueError(f"numbers of clusters must lie in 2 to {len(points) - 1} for {len(points)} points, got "
                         f"{list(counts)}")
    tree, square = linkage(points, "ward"), squareform(pdist(points))
    found = [np.unique(fcluster(tree, k, "maxclust"), return_inverse=True)[1] for k in counts]
    tried = [Clusters(own, int(own.max()) + 1, float(silhouette_score(square, own, metric="precomputed")))
             for own in found if own.max() > 0]  # several merges at one height leave fewer
    if not tried:
        raise ValueError("all points are equal, or equally far apart: they have no clusters")
    return max(tried, key=lambda clusters: clusters.silhouette)


def one_cloud(points: ArrayLike, rng: np.random.Generator) -> np.ndarray:
    """As many draws of one Gaussian with the points' mean and covariance, [n, d]: a cloud that has no clusters."""
    points = matrix(points, "points")
    mean = points.mean(0)
    return mean + checked_generator(rng).normal(size=(len(points),) * 2) @ (points - mean) / (len(points) - 1) ** 0.5


def silhouette_null(
    points: ArrayLike, n: int, rng: np.random.Generator, counts: Sequence[int] = COUNTS
) -> np.ndarray:
    """The largest silhouette of `best_clusters` in clouds without clusters (`one_cloud`), [n]."""
    return null_distribution(lambda p: best_clusters(p, counts).silhouette, lambda r: one_cloud(points, r), n, rng)


def polysemanticity_index(
    activations: ArrayLike, embeddings: ArrayLike, labels: ArrayLike, top: int = 50, n: int = 10, *,
    rng: np.random.Generator,
) -> Polysemanticity:
    """Whether a unit's top samples split into clusters (S) that carry different labels (Q): PSI = S · Q.

    S = max(0, (s - s̄) / (1 - s̄)), s the silhouette of the best clusters of the embeddings of the `top` samples, s̄ its
    mean in `n` clouds without clusters. Q = max(0, adjusted mutual information of clusters and labels): 0 in the mean
    over permuted labels, 1 where each tells the other. The source names a third factor, how different the clusters'
    names are to an image-text encoder; it is left out. Of the source we know the factors, that each is calibrated by a
    null, and that they are multiplied; these clusters, nulls and scales are ours.

    Args:
        activations: [n_samples, n_units]; embeddings: of the samples, [n_samples, d]; labels: ints, [n_samples].
    Source: Gupta & Kumar 2025, "Disentangling polysemantic neurons with a null-calibrated polysemanticity index".
    """
    A, E, labels = matrix(activations, "activations"), matrix(embeddings, "embeddings"), np.asarray(as_array(labels))
    if not len(A) == len(E) == len(labels) or labels.ndim != 1 or not max(COUNTS) < top <= len(A):
        raise ValueError(f"activations {A.shape}, embeddings {E.shape} and labels {labels.shape} must describe the "
                         f"same samples, and top {top} lie in {max(COUNTS) + 1} to their number")
    rows = []
    for unit in A.T:
        if not np.ptp(unit):
            rows.append((np.nan, np.nan, np.nan, 0))
            continue
        strongest = np.argsort(-unit, kind="stable")[:top]
        found, chance = best_clusters(E[strongest]), silhouette_null(E[strongest], n, rng).mean()
        alignment = max(0.0, float(adjusted_mutual_info_score(labels[strongest], found.labels)))
        geometry = max(0.0, (found.silhouette - chance) / (1 - chance))
        rows.append((geometry * alignment, geometry, alignment, found.n_clusters))
    return Polysemanticity(*map(np.array, zip(*rows, strict=True)))
