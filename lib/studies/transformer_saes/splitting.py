"""Whether a latent of a small dictionary becomes several in a larger one.

small and large are decoders, [n_latents, d] each, of living latents.
"""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from lib.metrics.recovery import cosines
from lib.tensors import as_array, matrix

NEAR = 0.7
"""Cosine from which a latent counts as a child of its nearest."""


def parents(small: ArrayLike, large: ArrayLike, near: float = NEAR) -> np.ndarray:
    """The nearest latent of the small dictionary to each of the large, [n_large]; -1 where none is within `near`."""
    cosine = cosines(large, small)  # [n_large, n_small]
    return np.where(cosine.max(1) >= near, cosine.argmax(1), -1)


def split_share(small: ArrayLike, large: ArrayLike, near: float = NEAR) -> float:
    """Share of the small dictionary's latents with two children or more."""
    found = parents(small, large, near)
    return float((np.bincount(found[found >= 0], minlength=len(small)) >= 2).mean())


def split_null(small: ArrayLike, large: ArrayLike, n: int, rng: np.random.Generator, near: float = NEAR) -> np.ndarray:
    """`split_share` among as many latents of the large dictionary as the small one has, drawn anew each time, [n].

    All of the large one's where it has fewer. It may be 0 throughout, where no latent has two children.
    """
    large = matrix(large, "large")
    parts = [rng.choice(len(large), min(len(small), len(large)), replace=False) for _ in range(n)]
    return np.array([split_share(small, large[part], near) for part in parts])


def inherited(small_latents: ArrayLike, large_latents: ArrayLike, parent: ArrayLike) -> np.ndarray:
    """Share of a small latent's firings on which a child of it fires, [n_small]; nan without firings or children.

    Children are found by direction; this tells whether they take over the firings too.

    Args:
        small_latents, large_latents: on the same tokens, [n_tokens, n_small] and [n_tokens, n_large].
        parent: of each latent of the large one, as `parents` gives it.
    """
    own, theirs = (np.asarray(as_array(latents)) != 0 for latents in (small_latents, large_latents))
    parent = np.asarray(parent)
    member = parent[:, None] == np.arange(own.shape[1])  # [n_large, n_small]
    carried = theirs.astype(np.float32) @ member.astype(np.float32) > 0  # [n_tokens, n_small]
    with np.errstate(invalid="ignore"):
        return np.where(member.any(0), (own & carried).sum(0) / own.sum(0), np.nan)
