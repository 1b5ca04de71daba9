"""Circuits drawn by hand, and nulls."""
from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lib.models import motifs
from lib.rng import generator, numpy_generator


def test_largest_share_is_one_on_units_and_half_between_two():
    W = torch.tensor([[1.0, 0.0, 0.01], [0.0, 1.0, 0.01]])  # the third feature is not represented
    assert motifs.largest_unit_share(W).item() == pytest.approx(1)
    between = torch.tensor([[0.8, 1.0], [0.8, 0.0]])
    assert motifs.largest_unit_share(between).item() == pytest.approx(0.75)


def test_largest_share_of_random_directions_varies_below_one():
    W = torch.randn(50, 5, 10, generator=generator(0, "null"))
    null = motifs.largest_unit_share(W)
    assert null.max() < 0.9 and null.std() > 0.01


def test_asymmetric_motif_by_hand():
    """Unit 0 is strong in, weak out for feature 0 (2, .5) and the reverse for feature 1; unit 1 serves one only."""
    W1 = torch.tensor([[2.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    W2 = torch.tensor([[0.5, 0.0], [2.0, -1.0], [0.0, 1.0]])
    assert motifs.served_features(W1, W2).sum(-1).tolist() == [2, 1]
    assert_close(motifs.circuit_asymmetry(W1, W2), torch.tensor([2 * torch.log(torch.tensor(4.0)).item(), 0.0]))


def test_rescaling_a_unit_does_not_change_its_asymmetry():
    rng = generator(0, "scale")
    W1, W2 = torch.rand(4, 6, generator=rng), torch.rand(6, 4, generator=rng)
    scale = torch.tensor([0.1, 1.0, 3.0, 10.0])
    rescaled = motifs.circuit_asymmetry(W1 * scale[:, None], W2 / scale)
    assert_close(rescaled, motifs.circuit_asymmetry(W1, W2))
    assert rescaled.min() > 0


def test_random_rotations_keep_overlaps_and_differ():
    W = torch.randn(3, 5, generator=generator(0, "rotated"), dtype=torch.float64)
    turned = motifs.random_rotations(W, 20, numpy_generator(0, "turns"))
    assert_close(turned.mT @ turned, (W.T @ W).expand(20, 5, 5))
    assert motifs.largest_unit_share(turned).std() > 0.01
