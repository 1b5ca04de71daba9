"""What a latent of a language model fires on: how often, on which tokens, and how alike the strongest ones are.

latents are [n_tokens, n_latents], an array, a tensor or a SciPy sparse matrix; tokens their ids, [n_tokens]. A latent
fires where it is `!= 0`, and more strongly the larger its size, so a signed latent's two sides count as one.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csc_array, issparse

from lib.metrics.nulls import null_distribution
from lib.tensors import as_array, finite

TOP = 20


def firing_rates(latents: ArrayLike) -> np.ndarray:
    """Share of tokens on which each latent fires, mean_t [f_tj != 0]; [n_latents]."""
    by_latent = _by_latent(latents)
    return np.diff(by_latent.indptr) / by_latent.shape[0]


def top_purity(latents: ArrayLike, tokens: ArrayLike, top: int = TOP) -> np.ndarray:
    """Share of the commonest token among the `top` tokens a latent fires on most strongly; 1 / top to 1.

    [n_latents]; nan for a latent with fewer firings, whose few would look pure by being few. Of equal strengths the
    earlier token counts.
    """
    def purity(sizes: np.ndarray, ids: np.ndarray) -> float:
        strongest = ids[np.argsort(-sizes, kind="stable")[:top]]
        return np.bincount(strongest).max() / top if len(strongest) == top else np.nan

    return np.array([purity(*own) for own in firings(latents, tokens, top)])


def permuted_tokens_null(
    measure: Callable[[ArrayLike, ArrayLike], np.ndarray], latents: ArrayLike, tokens: ArrayLike, n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Mean over latents of a measure of (latents, tokens), such as `top_purity`, with the tokens permuted; [n].

    Permuting keeps how often each latent fires and how common each token is: frequent tokens alone make latents pure.
    """
    kept = _by_latent(latents)
    if np.isnan(measure(kept, tokens)).all():
        raise ValueError("permuted_tokens_null: no latent fires often enough to be measured; give more tokens")
    return null_distribution(lambda ids: np.nanmean(measure(kept, ids)), lambda r: r.permutation(_ids(tokens)), n, rng)


def firings(latents: ArrayLike, tokens: ArrayLike, least: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each latent's sizes and tokens where it fires, in the order of the text."""
    by_latent, ids = _by_latent(latents), _ids(tokens)
    if ids.shape != by_latent.shape[:1]:
        raise ValueError(f"latents [n_tokens, n_latents] and tokens [n_tokens] do not fit: {by_latent.shape}, "
                         f"{ids.shape}")
    if least < 1:
        raise ValueError(f"at least one firing of a latent must count, got {least}")
    for low, high in zip(by_latent.indptr[:-1], by_latent.indptr[1:], strict=True):
        yield np.abs(by_latent.data[low:high]), ids[by_latent.indices[low:high]]


def _by_latent(latents: ArrayLike) -> csc_array:
    latents = latents if issparse(latents) else np.asarray(as_array(latents))
    if latents.ndim != 2 or not all(latents.shape):
        raise ValueError(f"latents must be [n_tokens, n_latents] and not empty, got shape {latents.shape}")
    by_latent = csc_array(latents, copy=True)
    finite(by_latent.data, "latents")
    by_latent.sum_duplicates()  # and sort
    by_latent.eliminate_zeros()
    return by_latent


def _ids(tokens: ArrayLike) -> np.ndarray:
    ids = np.asarray(as_array(tokens))
    if not np.issubdtype(ids.dtype, np.integer) or ids.size and ids.min() < 0:
        raise ValueError(f"tokens must be ids, integers from 0 on, got {ids.dtype}")
    return ids
