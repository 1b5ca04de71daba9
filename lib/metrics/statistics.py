"""Intervals, tests and effect sizes. The model seed is the unit: one value per seed, or values grouped by seed.

Everything random takes an explicit NumPy generator (`lib.rng.numpy_generator(seed, label)`).
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lib.rng import checked_generator
from lib.tensors import as_array, finite

_CHUNK = 2**21
"""Values resampled at a time: 16 MiB."""


class Interval(NamedTuple):
    """An estimate with its interval, [low, high] at the level it was asked for; numbers, or arrays of one shape."""

    estimate: float
    low: float
    high: float

    def above(self, x: float) -> bool:
        """Whether the whole interval lies above x."""
        return self.low > x

    def below(self, x: float) -> bool:
        """Whether the whole interval lies below x."""
        return self.high < x

    def holds(self, x: float) -> bool:
        """Whether x lies in the interval, ends included."""
        return (self.low <= x) & (x <= self.high)

    def inside(self, low: float, high: float) -> bool:
        """Whether the whole interval lies in [low, high]."""
        return (self.low >= low) & (self.high <= high)

    def overlaps(self, low: float, high: float) -> bool:
        """Whether the interval and [low, high] share a point."""
        return (self.low <= high) & (low <= self.high)

    def __neg__(self) -> Interval:
        return Interval(-self.estimate, -self.high, -self.low)

    def shifted(self, x: float) -> Interval:
        """The interval of the same estimate plus a constant x."""
        return Interval(self.estimate + x, self.low + x, self.high + x)


class PermutationTest(NamedTuple):
    """A difference of means with its two-sided permutation p-value."""

    difference: float
    p_value: float
    exact: bool
    """Whether every rearrangement was counted; otherwise p has the resolution 2 / (n_resamples + 1)."""


def bootstrap_interval(
    values: ArrayLike, statistic: Callable[..., Any] = np.mean, level: float = 0.95, n_resamples: int = 5_000,
    *, rng: np.random.Generator, method: str = "BCa",
) -> Interval:
    """Bootstrap interval of a statistic over independent values, one per seed.

    BCa (bias-corrected and accelerated) unless told otherwise. Resampling few values understates their spread: for
    normal values the 95 % interval of a mean covers 92 % at n = 20, 90 % at 10, 84 % at 5 and 73 % at 3. With fewer
    than ten seeds prefer `t_interval`.

    Args:
        values: [n], independent; where all are equal the interval has width 0.
        statistic: maps values (and `axis`, if it has it) to a number.
        level: coverage aimed at; method: "BCa" or "percentile".
    Source: Efron 1987, through scipy.stats.bootstrap.
    """
    values, rng = sample(values, "values"), checked_generator(rng)
    estimate = float(statistic(values))
    if np.ptp(values) == 0:
        return Interval(estimate, estimate, estimate)
    found = stats.bootstrap((values,), statistic, confidence_level=level, n_resamples=n_resamples, method=method,
                            batch=max(1, _CHUNK // len(values)), rng=rng)
    low, high = map(float, found.confidence_interval)
    if not np.isfinite([low, high]).all():
        raise ValueError(f"bootstrap_interval: {method} limits are undefined here; try method='percentile'")
    return Interval(estimate, low, high)


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of the mean of a few roughly normal values [n], one per seed, mean ± t_{n-1} s / sqrt(n)."""
    values = sample(values, "values")
    if not 0 < level < 1:
        raise ValueError(f"level is a share, such as 0.95, got {level}")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's interval of a mean over seeds, where some may lack a value: what a table or a sentence shows.

    No seed is left out silently: nan throughout where one has no value, or where there is none. Where a mean over the
    others is meant, leave them out beforehand and say how many are left. One seed has an estimate without ends.
    """
    values = np.asarray(as_array(values), dtype=float)
    if values.ndim != 1 or len(values) > 1 and np.isfinite(values).all():
        return t_interval(values, level)
    return Interval(float(values.mean()) if len(values) else math.nan, math.nan, math.nan)


def paired_difference(a: ArrayLike, b: ArrayLike, *, rng: np.random.Generator) -> Interval:
    """`bootstrap_interval` of a - b, [n] each, where entry i of both comes from the same seed."""
    a, b = _pairs(a, b)
    return bootstrap_interval(a - b, rng=rng)


def hierarchical_bootstrap(
    values: ArrayLike, groups: ArrayLike, statistic: Callable[..., Any] = np.mean, level: float = 0.95,
    n_resamples: int = 5_000, *, rng: np.random.Generator,
) -> Interval:
    """Percentile interval of the mean over seeds of `statistic` within a seed: resample seeds, then items in each.

    For nested items only (other seeds' classes, images or latents). For paired conditions pass per-item differences.
    The interval treats few seeds as `bootstrap_interval` does: with three it is too narrow, if far less so than a
    pooled one; `t_interval` over the seeds' means is the honest choice there.

    Args:
        values: [n], one per item.
        groups: [n], the seed each item belongs to; seeds may differ in their number of items and count equally.
        statistic: maps items [..., n_items] and `axis` to numbers [...].
    Source: Davison & Hinkley 1997, section 3.8.
    """
    values, groups, rng = sample(values, "values"), np.asarray(as_array(groups)), checked_generator(rng)
    if groups.shape != values.shape:
        raise ValueError(f"groups must name the seed of every value: {len(values)} values, groups {groups.shape}")
    if (groups != groups).any():
        raise ValueError(f"groups must name the seed of every value: {(groups != groups).sum()} are NaN")
    items = [values[groups == group] for group in np.unique(groups)]
    if len(items) < 2:
        raise ValueError("hierarchical_bootstrap needs at least two seeds: one seed says nothing about others")
    picks = rng.integers(len(items), size=(n_resamples, len(items)))  # which seeds each resample holds
    drawn = np.empty(picks.shape)
    for group, own in enumerate(items):
        chosen = picks == group
        drawn[chosen] = _resampled(own, int(chosen.sum()), statistic, rng)
    low, high = np.quantile(finite(drawn.mean(axis=1), "the resampled statistic"), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean([statistic(own, axis=-1) for own in items])), float(low), float(high))


def paired_permutation_test(
    a: ArrayLike, b: ArrayLike, n_resamples: int = 10_000, *, rng: np.random.Generator
) -> PermutationTest:
    """Sign-flip test that a - b, [n] each, is symmetric about 0, pairs sharing a seed.

    Exact over all 2^n sign patterns while 2^n <= n_resamples, else over that many random ones. The smallest p that n
    pairs can show is 2 / 2^n: .25 with three seeds, .0625 with five, .03 with six.
    """
    a, b = _pairs(a, b)
    return _permutation_test(a, b, "samples", 2 ** len(a), n_resamples, rng)


def permutation_test(
    a: ArrayLike, b: ArrayLike, n_resamples: int = 10_000, *, rng: np.random.Generator
) -> PermutationTest:
    """Two-sample test that a [n_a] and b [n_b], of independent seeds, are exchangeable, by their means' difference.

    Exact over all divisions into two groups while there are at most n_resamples of them.
    """
    a, b = sample(a, "a"), sample(b, "b")
    return _permutation_test(a, b, "independent", math.comb(len(a) + len(b), len(a)), n_resamples, rng)


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval of a proportion, successes / n; sensible at 0 and at n.

    Source: Wilson 1927, through scipy.
    """
    if n < 1 or not 0 <= successes <= n or successes % 1 or n % 1:
        raise ValueError(f"proportion_interval needs counts, 0 <= successes <= n and n >= 1, got {successes} of {n}")
    low, high = stats.binomtest(int(successes), int(n)).proportion_ci(level, method="wilson")
    return Interval(successes / n, float(low), float(high))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values: reject those <= α and the chance of any false rejection in the family is <= α.

    The i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_(j)).
    p_values are [..., m], the whole family declared before the runs, or a batch of families; so is what is returned.

    Source: Holm 1979.
    """
    p = np.asarray(as_array(p_values), dtype=float)
    if p.ndim < 1 or not p.size or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"holm needs a list of p-values in [0, 1], got {p_values!r}")
    order = np.argsort(p, axis=-1)
    scaled = np.take_along_axis(p, order, axis=-1) * np.arange(p.shape[-1], 0, -1)  # [..., m], ascending p
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(scaled, axis=-1).clip(max=1), axis=-1)
    return adjusted


def paired_dz(a: ArrayLike, b: ArrayLike) -> float:
    """d_z of paired values, mean(a - b) / sd(a - b); not comparable with Cohen's d, since pairing shrinks the sd."""
    a, b = _pairs(a, b)
    return standardised((a - b).mean(), (a - b).std(ddof=1), np.abs([a, b]).max(), "paired_dz")


def sample(values: ArrayLike, name: str) -> np.ndarray:
    """A float vector of at least two finite values, or a ValueError that says what is wrong."""
    values = finite(values, name)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{name} must be a list of at least two numbers, got shape {values.shape}")
    return values


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = sample(a, "a"), sample(b, "b")
    if len(a) != len(b):
        raise ValueError(f"a and b must be paired by seed, got {len(a)} and {len(b)} values")
    return a, b


def standardised(difference: float, spread: float, size: float, name: str) -> float:
    """difference / spread, or a ValueError where there is none but the rounding of values of that size."""
    if not spread > 1e-12 * size:
        raise ValueError(f"{name} is undefined: there is no spread to divide the difference {difference:.6g} by")
    return float(difference / spread)


def _resampled(values: np.ndarray, n: int, statistic: Callable[..., Any], rng: np.random.Generator) -> np.ndarray:
    """The statistic of n resamples with replacement, [n], a bounded number of values at a time."""
    rows = max(1, _CHUNK // len(values))
    sizes = [min(rows, n - start) for start in range(0, n, rows)]
    parts = [statistic(values[rng.integers(len(values), size=(k, len(values)))], axis=-1) for k in sizes]
    return np.concatenate(parts) if parts else np.empty(0)


def _permutation_test(a, b, kind: str, n_patterns: int, n_resamples: int, rng: np.random.Generator) -> PermutationTest:
    exact, rng = n_patterns <= n_resamples, checked_generator(rng)
    found = stats.permutation_test((a, b), lambda a, b, axis: a.mean(axis) - b.mean(axis), permutation_type=kind,
                                   batch=1_000, n_resamples=np.inf if exact else n_resamples, rng=rng)
    drawn, edge = found.null_distribution, 1e-14 * max(np.abs(a).max(), np.abs(b).max())  # so that ties count as ties
    tail, own = min((drawn <= found.statistic + edge).sum(), (drawn >= found.statistic - edge).sum()), not exact
    return PermutationTest(float(found.statistic), min(1.0, 2 * float(tail + own) / (len(drawn) + own)), exact)
