"""Whether the samples a latent fires on look alike: the monosemanticity score and its null."""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lib.metrics.nulls import null_distribution
from lib.tensors import matrix

_ROUNDING = 1e-12


def monosemanticity(activations: ArrayLike, embeddings: ArrayLike) -> np.ndarray:
    """Mean cosine of pairs of samples, weighted by how strongly a latent fires on both.

    MS_k = sum_{n<m} a_n a_m cos(e_n, e_m) / sum_{n<m} a_n a_m = (|AᵀE|^2 - Σa^2) / ((Σa)^2 - Σa^2), at cost N d in
    place of N^2 d. a is the latent's activation less its smallest; scale does not matter, so the published division
    by the range is left out. One-hot labels as embeddings give the share of pairs within one class.

    Args:
        activations: of each latent on each sample, [n_samples, n_latents].
        embeddings: of the samples by a model that is not the one under study, [n_samples, d]; rows of any length.
    Returns:
        [n_latents], in [-1, 1]; nan for a latent that stands out on fewer than two samples. Embeddings point into a
        cone, so a latent firing at random does not read 0: see `monosemanticity_null`.
    Source: Pach et al. 2025, "Sparse Autoencoders Learn Monosemantic Features in Vision-Language Models".
    """
    return _scores(*_checked_pair(activations, embeddings))


def monosemanticity_null(
    activations: ArrayLike, embeddings: ArrayLike, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Mean monosemanticity over latents with the samples' embeddings (or labels) permuted, [n].

    Permuting keeps every latent's activations and the cone of embeddings, and breaks only which sample is which.
    NullCannotMove where all embeddings are equal or every latent fires on every sample alike.
    """
    A, E = _checked_pair(activations, embeddings)
    return null_distribution(
        lambda order: _mean_score(A, E[order]), lambda r: r.permutation(len(E)), n, rng, rounding=1e-9
    )


def _scores(A: np.ndarray, E: np.ndarray) -> np.ndarray:
    squares = np.square(A).sum(0)  # [n_latents]
    pairs = np.square(A.sum(0)) - squares
    alike = np.square(A.T @ E).sum(1) - squares
    seen = ((A > 0).sum(0) >= 2) & (pairs > _ROUNDING * squares)
    return np.divide(alike, pairs, out=np.full(len(pairs), np.nan), where=seen)


def _mean_score(A: np.ndarray, E: np.ndarray) -> float:
    scores = _scores(A, E)
    if np.isnan(scores).all():
        raise ValueError("monosemanticity_null: no latent fires on two samples, so there is no pair to compare")
    return float(np.nanmean(scores))


def _checked_pair(activations: ArrayLike, embeddings: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Activations less their smallest, and embeddings of unit length, both float64."""
    A, E = matrix(activations, "activations"), matrix(embeddings, "embeddings")
    if len(A) != len(E) or len(A) < 2:
        raise ValueError(
            f"activations [n_samples, n_latents] and embeddings [n_samples, d] must describe the same samples, "
            f"at least two, got {A.shape} and {E.shape}"
        )
    lengths = np.linalg.norm(E, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError(f"{(lengths == 0).sum()} embeddings have length 0 and so no cosine")
    return A - A.min(0), E / lengths
