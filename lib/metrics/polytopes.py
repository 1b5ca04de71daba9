"""The polytopes features form in superposition: which features share dimensions, and in what shape."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components

from lib.metrics.superposition import feature_dimensionality, is_represented, unit_columns


class Polytope(NamedTuple):
    """One group of features that interfere with each other, in one model."""

    name: str
    """`solo`, `digon`, `triangle`, `tetrahedron`, `pentagon`, `square antiprism`, or `(count,rank)` for any other."""
    count: int
    rank: int
    members: tuple[int, ...]
    dimensionality: float
    """Mean D_i of the members; rank / count when the polytope is regular and alone in its subspace."""


def polytopes(W: ArrayLike, threshold: float = 0.5) -> list[Polytope]:
    """Name the polytope of each group of features that share dimensions, in the order of their first members.

    Groups are the connected components of the graph that joins represented features with |Ŵ_i · Ŵ_j| > .15. A group
    gets a polytope's name when it has its count and rank (singular values of the unit directions below a tenth of the
    largest count as 0) and, one by one in sorted order, its pairwise angles within ten degrees.

    Args:
        W: one model, [n_hidden, n_features]; threshold: as in `is_represented`.
    Source: Elhage et al. 2022, "Uniform Superposition".
    """
    W = torch.as_tensor(W)
    if W.ndim != 2:
        raise ValueError(f"polytopes takes one model, W [n_hidden, n_features], got shape {tuple(W.shape)}")
    W = W.detach().double().cpu()
    stored = is_represented(W, threshold).nonzero()[:, 0].numpy()
    directions = unit_columns(W)[:, stored].numpy()  # [n_hidden, n_stored]
    n_groups, labels = connected_components(np.abs(directions.T @ directions) > 0.15, directed=False)
    D = feature_dimensionality(W).numpy()
    found = []
    for group in range(n_groups):
        inside = labels == group
        members = stored[inside]
        name, rank = _name(directions[:, inside])
        found.append(Polytope(name, len(members), rank, tuple(members.tolist()), float(D[members].mean())))
    return sorted(found, key=lambda p: p.members[0])


def _name(directions: np.ndarray) -> tuple[str, int]:
    """Name and rank of one group of unit columns."""
    rank = int(np.linalg.matrix_rank(directions, rtol=0.1))
    angles = _sorted_angles(directions)
    for name, ideal in _IDEAL.items():
        if directions.shape[1] == ideal.shape[1] and rank == len(ideal):
            if np.all(np.abs(angles - _sorted_angles(ideal)) <= 10):
                return name, rank
    return f"({directions.shape[1]},{rank})", rank


def _sorted_angles(directions: np.ndarray) -> np.ndarray:
    """All pairwise angles between unit columns, in degrees, sorted."""
    cosines = (directions.T @ directions)[np.triu_indices(directions.shape[1], k=1)]
    return np.sort(np.degrees(np.arccos(np.clip(cosines, -1, 1))))


def _ring(n: int, start: float = 0.0) -> np.ndarray:
    """The n corners of a regular polygon, [2, n], the first at `start` turns of its step."""
    turns = 2 * np.pi * (np.arange(n) + start) / n
    return np.stack([np.cos(turns), np.sin(turns)])


def _square_antiprism() -> np.ndarray:
    """Two squares, one turned by 45 degrees, at heights ±1/sqrt(3): the proportions that give every D_i = 3/8."""
    rings = np.concatenate([_ring(4), _ring(4, start=0.5)], axis=1) * np.sqrt(2 / 3)
    return np.concatenate([rings, np.repeat([[1, -1]], 4, axis=1).reshape(1, 8) / np.sqrt(3)])


_TETRAHEDRON = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / np.sqrt(3)
_IDEAL = {
    "solo": np.ones((1, 1)),
    "digon": np.array([[1.0, -1.0]]),
    "triangle": _ring(3),
    "tetrahedron": _TETRAHEDRON,
    "pentagon": _ring(5),
    "square antiprism": _square_antiprism(),
}
"""Corners of each named polytope as unit columns, [rank, count]; rank / count is its D."""
