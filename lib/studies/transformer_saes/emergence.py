"""When latents become what they end as, when they die, and what goes with an early birth.

Checkpoints stand in the order of training, the last one being the end; steps are theirs, [n_checkpoints].
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr
from sklearn.preprocessing import normalize

from lib.metrics.nulls import null_distribution
from lib.metrics.recovery import match_features
from lib.tensors import finite, matrix

CLOSE = 0.9
"""Cosine from which a latent counts as its final self."""


def matched_cosines(decoders: Sequence[ArrayLike]) -> np.ndarray:
    """Cosine of each final latent with its partner in each checkpoint, [n_checkpoints, n_latents].

    Partners are matched one to one for the largest total cosine (Hungarian algorithm), so that latents which trade
    places are followed. decoders: of each checkpoint, [n_latents, d].
    """
    return np.stack([match_features(decoders[-1], decoder).similarity for decoder in decoders])


def births(cosines: ArrayLike, rates: ArrayLike, steps: Sequence[int], close: float = CLOSE) -> np.ndarray:
    """First step from which a latent stays within cosine `close` of its final self, [n_latents].

    nan for a latent that is silent in the end: its direction is not learned but left. rates: of firing, as cosines.
    """
    C, R = _checked(cosines, steps, "cosines"), _checked(rates, steps, "rates")
    return np.where(R[-1] > 0, _first_of_the_last(C >= close, steps), np.nan)


def learned(start: ArrayLike, end: ArrayLike, firings: ArrayLike, least: int = 20, close: float = CLOSE) -> np.ndarray:
    """Latents whose direction training has made, bool [n_latents]: further from their start than `close`, and in use.

    start, end: decoders, [n_latents, d], rows not 0; firings: how often each fires in the end.
    """
    A, B = (normalize(matrix(W, name)) for W, name in ((start, "start"), (end, "end")))
    return ((A * B).sum(1) < close) & (np.asarray(firings) >= least)


def deaths(rates: ArrayLike, steps: Sequence[int]) -> np.ndarray:
    """First step from which a latent never fires again, [n_latents]; nan for one that fires in the end."""
    return _first_of_the_last(_checked(rates, steps, "rates") == 0, steps)


def variance_shares(x: ArrayLike, recons: ArrayLike, latents: ArrayLike, decoder: ArrayLike) -> np.ndarray:
    """By how much the fraction of variance unexplained rises without a latent, the others as they are; [n_latents].

    (|r + f_j w_j|^2 - |r|^2) / Σ|x - x̄|^2 = (2 Σ f_j r·w_j + |w_j|^2 Σ f_j^2) / Σ|x - x̄|^2 with r = x - x̂; it is
    negative for a latent that makes reconstructions worse.

    Args:
        x, recons: [n_samples, d]; latents: [n_samples, n_latents]; decoder: [n_latents, d].
    """
    x, recons, f, W = (matrix(v, n) for v, n in ((x, "x"), (recons, "recons"), (latents, "latents"), (decoder, "W")))
    own, total = ((x - recons).T @ f).T, np.square(x - x.mean(0)).sum()  # [n_latents, d]
    return (2 * (own * W).sum(1) + np.square(W).sum(1) * np.square(f).sum(0)) / total


def driver(births: ArrayLike, value: ArrayLike) -> float:
    """Rank correlation of latents' births with a value of theirs, [n_latents] each, over those that were born."""
    return float(spearmanr(*_born(births, value)).statistic)


def driver_null(births: ArrayLike, value: ArrayLike, n: int, rng: np.random.Generator) -> np.ndarray:
    """`driver` with the births permuted over latents, [n]."""
    steps, value = _born(births, value)
    return null_distribution(lambda own: spearmanr(own, value).statistic, lambda r: r.permutation(steps), n, rng)


def _first_of_the_last(holds: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Step of the first checkpoint of the unbroken run of `holds` [n_checkpoints, n_latents] that reaches the end."""
    length = np.logical_and.accumulate(holds[::-1]).sum(0)
    return np.where(length > 0, np.asarray(steps, float)[np.minimum(len(holds) - length, len(holds) - 1)], np.nan)


def _born(births: ArrayLike, value: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    steps, value = np.asarray(births, float), finite(value, "value")
    born = ~np.isnan(steps)
    if steps.shape != value.shape or len(np.unique(steps[born])) < 2 or len(np.unique(value[born])) < 2:
        raise ValueError(f"births {steps.shape} and value {value.shape} must belong to the same latents, and differ "
                         f"among the {born.sum()} that were born; more checkpoints tell births apart")
    return steps[born], value[born]


def _checked(values: ArrayLike, steps: Sequence[int], name: str) -> np.ndarray:
    values = matrix(values, name)
    if len(values) != len(steps) or list(steps) != sorted(set(steps)):
        raise ValueError(f"{name} [n_checkpoints, n_latents] and rising steps must fit, got {values.shape} and "
                         f"{list(steps)}")
    return values
