"""Whether latents form clusters, how many, and whether two seeds of a coder agree on them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from lib.metrics.nulls import null_distribution
from lib.metrics.polysemanticity import best_clusters
from lib.metrics.recovery import match_features
from lib.tensors import matrix

COUNTS = tuple(range(2, 31))


class Agreement(NamedTuple):
    """What two seeds of a coder make of the same latents."""

    rand: float
    """Adjusted Rand index of the two cluster assignments: 1 the same, 0 as many agree as by chance."""
    n_clusters: tuple[int, int]
    silhouettes: tuple[float, float]
    """Of the chosen numbers; `lib.metrics.polysemanticity.silhouette_null` says what a cloud reads."""
    cosine: float
    """Mean over matched pairs."""
    labels: tuple[np.ndarray, np.ndarray]
    """Clusters of the first coder's latents, and of their partners."""


def agreement(decoder: ArrayLike, other: ArrayLike, counts: Sequence[int] = COUNTS) -> Agreement:
    """Clusters of each coder's latents by direction, their number by silhouette, compared over matched latents.

    Args:
        decoder, other: of two coders on the same activations, [n_latents, d], of living latents.
    """
    own, second = (best_clusters(normalize(matrix(W, "decoder")), counts) for W in (decoder, other))
    pairs = match_features(decoder, other)
    matched = pairs.latent >= 0
    labels = own.labels[matched], second.labels[pairs.latent[matched]]
    return Agreement(float(adjusted_rand_score(*labels)), (own.n_clusters, second.n_clusters),
                     (own.silhouette, second.silhouette), float(pairs.similarity[matched].mean()), labels)


def permuted_null(found: Agreement, n: int, rng: np.random.Generator) -> np.ndarray:
    """The index with the second coder's assignments permuted, [n]."""
    first, second = found.labels
    return null_distribution(lambda own: adjusted_rand_score(first, own), lambda r: r.permutation(second), n, rng)


def published_clusters(W_enc: ArrayLike, seed: int = 0) -> dict[str, Any]:
    """What the source calls its clusters: k-means with k = 5 on three principal components of the encoder's rows.

    It prints the length of this dictionary as the number of clusters: 3, whatever the rows are.
    """
    pca = PCA(3, random_state=seed)
    projected = pca.fit_transform(matrix(W_enc, "W_enc"))
    return {"principal_components": pca.components_, "explained_variance": pca.explained_variance_ratio_,
            "feature_clusters": KMeans(5, n_init=1, random_state=seed).fit_predict(projected)}
