"""How often latents fire: quartiles, the share above a rate, how stable rates are over parts of a text.

rates are [n_parts, n_latents], those of the text's parts in order (`lib.metrics.tokens.firing_rates` of each).
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr

from lib.metrics.nulls import null_distribution
from lib.tensors import matrix

HIGH = 0.1
"""The source counts latents that fire more often."""


class Frequency(NamedTuple):
    """What firing rates come to."""

    quartiles: np.ndarray
    """Of the latents' mean rates, [3]."""
    above: float
    """Share of latents with a mean rate above `HIGH`."""
    silent: float
    """Share of latents that never fire."""
    stability: float
    """Mean rank correlation, over latents that fire, of the rates of neighbouring parts: -1 to 1."""
    trend: np.ndarray
    """Change of the mean rate from part to part, [n_parts - 1]."""


def report(rates: ArrayLike) -> Frequency:
    """Quartiles, shares, stability and trend."""
    rates = _parts(rates)
    mean = rates.mean(0)
    return Frequency(np.quantile(mean, [0.25, 0.5, 0.75]), float((mean > HIGH).mean()), float((mean == 0).mean()),
                     _stability(rates[:, mean > 0]), np.diff(rates.mean(1)))


def stability_null(rates: ArrayLike, n: int, rng: np.random.Generator) -> np.ndarray:
    """Stability of rates whose latents are permuted within each part, [n]."""
    rates = _parts(rates)
    firing = rates[:, rates.any(0)]
    return null_distribution(_stability, lambda r: r.permuted(firing, axis=1), n, rng)


def published_report(history: ArrayLike) -> dict[str, object]:
    """The source's report of the rates of each training batch, [n_batches, n_latents].

    Its program asks a new analyser that has seen no batch, so that what it prints is always that of an empty history.
    Its stability is the correlation over batches of latents 0 and 1, whatever the others do.
    """
    if len(history) < 2:
        return {"high_freq_neurons": 0, "percentiles": [0, 0, 0], "stability": 0, "trends": []}
    rates = _parts(history)
    mean = rates.mean(0)
    return {"high_freq_neurons": int((mean > HIGH).sum()), "percentiles": np.quantile(mean, [0.25, 0.5, 0.75]).tolist(),
            "stability": float(np.corrcoef(rates.T)[0, 1]), "trends": np.diff(rates.mean(1)).tolist()}


def _stability(rates: np.ndarray) -> float:
    return float(np.mean([spearmanr(*pair).statistic for pair in zip(rates, rates[1:], strict=False)]))


def _parts(rates: ArrayLike) -> np.ndarray:
    rates = matrix(rates, "rates")
    if min(rates.shape) < 2 or not (rates.any(0).sum() > 1):
        raise ValueError(f"rates [n_parts, n_latents] need two parts and two latents that fire, got {rates.shape}")
    return rates
