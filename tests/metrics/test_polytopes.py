from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.metrics.polytopes import polytopes
from lib.metrics.superposition import feature_dimensionality
from lib.rng import generator


def ring(n: int, start: float = 0.0) -> np.ndarray:
    turns = 2 * np.pi * (np.arange(n) + start) / n
    return np.stack([np.cos(turns), np.sin(turns)])


def antiprism() -> np.ndarray:
    height = np.repeat([1.0, -1.0], 4)[None] / np.sqrt(3)
    return np.concatenate([np.concatenate([ring(4), ring(4, 0.5)], axis=1) * np.sqrt(2 / 3), height])


CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]).T / np.sqrt(3)
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]).T / np.sqrt(3)
SHAPES = {
    "solo": (np.ones((1, 1)), 1),
    "digon": (np.array([[1.0, -1.0]]), 1 / 2),
    "triangle": (ring(3), 2 / 3),
    "tetrahedron": (TETRAHEDRON, 3 / 4),
    "pentagon": (ring(5), 2 / 5),
    "square antiprism": (antiprism(), 3 / 8),
}


def tensor(W: np.ndarray) -> torch.Tensor:
    return torch.tensor(W, dtype=torch.float64)


def turned(corners: np.ndarray, n_hidden: int, seed: int) -> torch.Tensor:
    """The corners inside n_hidden dimensions, rotated at random, each a little off its place."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(n_hidden, n_hidden)))[0][:, : len(corners)]
    return tensor(rotation @ (corners + 0.01 * rng.normal(size=corners.shape)))


@pytest.mark.parametrize("name", SHAPES)
def test_each_shape_is_named_in_any_orientation_and_owns_its_dimensions(name):
    corners, dimensionality = SHAPES[name]
    exact = polytopes(tensor(corners))
    assert len(exact) == 1 and exact[0].name == name and exact[0].dimensionality == pytest.approx(dimensionality)
    assert exact[0].dimensionality == pytest.approx(exact[0].rank / exact[0].count)
    (found,) = polytopes(turned(corners, n_hidden=6, seed=3))
    assert (found.name, found.count, found.rank) == (name, corners.shape[1], len(corners))
    assert found.members == tuple(range(found.count))


@pytest.mark.parametrize("corners, name", [
    (np.array([[1.0, 1.0]]), "(2,1)"),                                    # parallel, not antipodal
    (ring(6)[:, [0, 1, 2]], "(3,2)"),                                     # 0, 60, 120 degrees: no triangle
    (ring(8)[:, [0, 1, 2, 3, 5]], "(5,2)"),                               # five in a plane, no pentagon
    (CUBE, "(8,3)"),                                                      # eight in space, no antiprism
    (np.array([[1, 0, 0], [0.6, 0.8, 0], [0.6, 0, 0.8], [0, 0.6, 0.8]]).T, "(4,3)"),
    (ring(7), "(7,2)"),
])
def test_the_right_count_in_the_wrong_shape_keeps_its_numbers(corners, name):
    (found,) = polytopes(tensor(corners))
    assert found.name == name


def test_orthogonal_groups_are_told_apart_and_absent_features_left_out():
    W = torch.zeros(5, 9, dtype=torch.float64)
    W[:2, :5] = tensor(ring(5))
    W[2, 5], W[2, 6] = 1.0, -0.9  # a digon of unequal lengths is a digon by its angles
    W[3, 7] = 1.1
    W[4, 8] = 0.3  # below the threshold
    assert [(p.name, p.members) for p in polytopes(W)] == [
        ("pentagon", (0, 1, 2, 3, 4)), ("digon", (5, 6)), ("solo", (7,)),
    ]
    assert polytopes(W)[0].dimensionality == pytest.approx(feature_dimensionality(W)[:5].mean().item())
    assert polytopes(W, threshold=0.2)[-1].members == (8,)


def test_random_directions_hold_no_named_polytope_of_many_corners():
    W = torch.randn(50, 3, 8, generator=generator(0, "test"))
    names = {group.name for one in W for group in polytopes(one)}
    assert not {"square antiprism", "pentagon", "tetrahedron"} & names


def test_an_empty_model_has_no_polytopes_and_a_batch_is_refused():
    assert polytopes(torch.zeros(3, 4)) == []
    with pytest.raises(ValueError, match=r"takes one model, W \[n_hidden, n_features\], got shape \(2, 3, 4\)"):
        polytopes(torch.zeros(2, 3, 4))
