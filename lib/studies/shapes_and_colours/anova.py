"""Atoms or combinations: what a component's mean importance over the combinations says, as pure functions.

All take means [n_cells, C], one row per combination in the order of its label, and counts, the levels of each attribute
(n_cells is their product, the last attribute runs fastest). Combinations are as frequent as each other, so that
variances of the attributes add up.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lib.metrics.nulls import null_distribution

ATOMIC, LEVEL, CELL = 0.9, 0.95, 0.9
"""Share of variance in one attribute from which a component is atomic; correlation from which a level, or a cell, is
found."""
ALIVE, ALWAYS = 1e-3, 0.9
"""A component is alive if on in a larger share of images, and always on if every cell's mean is at least so much."""


def cell_means(values: np.ndarray, labels: np.ndarray, n_cells: int) -> np.ndarray:
    """Mean of values [N, C] over the images of each combination, [n_cells, C]; every one must have an image."""
    counts = np.bincount(labels, minlength=n_cells)
    if len(counts) > n_cells or not counts.all():
        raise ValueError(f"{n_cells} combinations, each with an image, expected; counts are {counts.tolist()}")
    onto = np.zeros((n_cells, len(labels)))
    onto[labels, np.arange(len(labels))] = 1 / counts[labels]
    return onto @ np.asarray(values, float)


def shares(means: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Share of each component's variance over the cells that lies between the levels of one attribute, [C, 3].

    They sum to 1 at most, what is missing lies in combinations; 0 where nothing varies.
    """
    table = _table(means, counts)
    axes = range(len(counts))
    total = table.var(axis=tuple(axes))  # [C]
    between = [table.mean(axis=tuple(a for a in axes if a != axis)).var(axis=0) for axis in axes]
    moves = total > 1e-12
    return np.where(moves[:, None], np.stack(between, -1) / np.where(moves, total, 1)[:, None], 0.0)


def is_atomic(means: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Whether at least `ATOMIC` of a component's variance lies in one attribute, bool [C]."""
    return shares(means, counts).max(-1, initial=0) >= ATOMIC


def levels_found(means: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """Whether some component follows each level up to sign (|correlation| >= `LEVEL`), bool [sum of counts]."""
    return (np.abs(_correlations(level_indicators(counts), means)) >= LEVEL).any(1)


def cells_found(means: np.ndarray) -> np.ndarray:
    """Whether some component follows each combination (correlation >= `CELL`), bool [n_cells]."""
    return (_correlations(np.eye(len(means)), means) >= CELL).any(1)


def level_indicators(counts: Sequence[int]) -> np.ndarray:
    """1 where a combination has a level, [n_cells, sum of counts], attribute after attribute."""
    levels = np.stack(np.unravel_index(np.arange(math.prod(counts)), counts), -1)  # [n_cells, 3]
    return np.concatenate([np.eye(n)[levels[:, axis]] for axis, n in enumerate(counts)], 1)


def judged(means: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Components that are alive and not always on, bool [C].

    Args:
        frequency: share of images where each is on, [C].
    """
    return (frequency > ALIVE) & (means.min(0) < ALWAYS)


def reading(means: np.ndarray, frequency: np.ndarray, counts: Sequence[int]) -> dict[str, float]:
    """What one decomposition or coder comes to.

    Returns:
        alive, a count; of those not always on: atomic, the share of them (0 where there are none); levels and cells,
        how many are found.
    """
    own = means[:, judged(means, frequency)]
    share = float(is_atomic(own, counts).mean()) if own.shape[1] else 0.0
    return {"alive": float((frequency > ALIVE).sum()), "atomic": share,
            "levels": float(levels_found(own, counts).sum()), "cells": float(cells_found(own).sum())}


def on_as_often(along: np.ndarray, frequency: np.ndarray, labels: np.ndarray, n_cells: int) -> np.ndarray:
    """The null: cell means of directions that are on (1) where the input lies furthest along them, else off (0).

    Args:
        along: an input's largest projection on each random direction, [N, C]; frequency: share of images on which each
            is to be on, that of one component, [C].
    Returns:
        Means, [n_cells, C].
    """
    rank = along.argsort(0).argsort(0)
    return cell_means(rank >= len(along) * (1 - frequency), labels, n_cells)


def permuted_cells(means: np.ndarray, counts: Sequence[int], n: int, rng: np.random.Generator) -> np.ndarray:
    """A weak null: the share of atomic components where each one's cells are in a random order, [n]."""
    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.permuted(means, axis=0)

    return null_distribution(lambda m: float(shares(m, counts).max(-1).mean()), draw, n, rng)


def additive(means: np.ndarray, shown: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """What shape + colour + size, fitted to the shown cells by least squares, say of every cell, [n_cells, C].

    Args:
        shown: bool [n_cells].
    """
    design = level_indicators(counts)
    weights, *_ = np.linalg.lstsq(design[shown], means[shown], rcond=None)
    return design @ weights


def _table(means: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    if len(means) != math.prod(counts):
        raise ValueError(f"{len(means)} cells cannot be {' x '.join(map(str, counts))}")
    return np.asarray(means, float).reshape(*counts, -1)


def _correlations(patterns: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Correlation over the cells of every pattern [n_cells, P] with every component, [P, C]; 0 where nothing varies."""
    a, b = (m - m.mean(0) for m in (patterns, np.asarray(means, float)))
    lengths = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
    return np.where(lengths > 1e-9, a.T @ b / np.where(lengths > 1e-9, lengths, 1), 0.0)
