"""Entropy of the tokens a latent fires on, at equally many firings of each."""
from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from lib.metrics.tokens import TOP, firings


def token_entropy(latents: ArrayLike, tokens: ArrayLike, drawn: int = TOP) -> np.ndarray:
    """Entropy of the tokens a latent fires on, H = -Σ_t p_t log p_t in nats, p_t the share of its firings on t.

    Of all firings it would be at most the log of their number and so rise with the rate alone: two latents that fire on
    random tokens would differ by their rates.

    Args:
        drawn: H is what so many of a latent's firings, drawn without replacement, have on average (exact, no draws).
    Returns:
        [n_latents]; nan for a latent that fires more rarely.
    """
    counts = [np.bincount(ids) for _, ids in firings(latents, tokens, drawn)]
    total = np.array([own.sum() for own in counts])
    latent, size = np.repeat(np.arange(len(counts)), [len(own) for own in counts]), np.concatenate(counts)
    (latent, size), times = np.unique(np.stack((latent, size))[:, size > 0], axis=1, return_counts=True)
    k = np.arange(1, drawn + 1)
    chance = _hypergeometric(k, total[latent, None], size[:, None], drawn)  # of k of them on one such token
    each = times * (chance @ (-k / drawn * np.log(k / drawn)))
    return np.where(total < drawn, np.nan, np.bincount(latent, each, len(counts)))


def _hypergeometric(k: np.ndarray, total: np.ndarray, size: np.ndarray, drawn: int) -> np.ndarray:
    """`scipy.stats.hypergeom.pmf(k, total, size, drawn)`, from a table of log factorials 70 times as fast."""
    log_factorial = gammaln(np.arange(1.0, total.max(initial=0) + 2))

    def ways(n: np.ndarray, r: np.ndarray) -> np.ndarray:
        return log_factorial[n] - log_factorial[r] - log_factorial[n - r]

    possible = (k <= size) & (drawn - k <= total - size) & (drawn <= total)
    k, rest = np.where(possible, k, 0), np.where(possible, drawn - k, 0)
    logs = ways(size, k) + ways(total - size, rest) - ways(total, np.minimum(drawn, total))
    return np.where(possible, np.exp(logs), 0.0)
