"""Circuits drawn by hand, nulls, and an attack whose answer is known."""
from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lib.models import motifs
from lib.rng import generator, numpy_generator


def test_concentration_is_one_on_units_and_half_between_two():
    W = torch.tensor([[1.0, 0.0, 0.01], [0.0, 1.0, 0.01]])  # the third feature is not represented
    assert motifs.basis_concentration(W).item() == pytest.approx(1)
    between = torch.tensor([[0.8, 1.0], [0.8, 0.0]])
    assert motifs.basis_concentration(between).item() == pytest.approx(0.75)


def test_concentration_of_random_directions_varies_below_one():
    W = torch.randn(50, 5, 10, generator=generator(0, "null"))
    null = motifs.basis_concentration(W)
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


def test_attack_on_one_dimension_moves_the_answer_by_the_norm():
    """W = 1: x' = ReLU(x + delta), so the worst |delta| = .1 costs .01 wherever x > .1."""
    W, b, x = torch.ones(1, 1, 1), torch.zeros(1, 1), torch.full((1, 8, 1), 0.5)
    assert_close(motifs.strongest_attack(W, b, x, 0.1, generator(0, "attack")), torch.full((1, 8), 0.01))


def test_attack_on_an_antipodal_pair_finds_the_doubled_direction():
    """W = (1, -1), x = (.5, 0): delta along (1, -1) moves feature 0 by sqrt(2) norm, so the error is 2 norm^2."""
    W, b, x = torch.tensor([[[1.0, -1.0]]]), torch.zeros(1, 2), torch.tensor([[[0.5, 0.0]]])
    assert_close(motifs.strongest_attack(W, b, x, 0.1, generator(0, "attack")), torch.tensor([[0.02]]))


def test_attacked_losses_start_from_the_clean_ones_and_keep_the_grid():
    """The identity errs nowhere; attacked by .1 where x > .1, it errs by .01; a zero model cannot be moved."""
    W = torch.stack([torch.eye(3), torch.zeros(3, 3)]).expand(2, 2, 3, 3)
    density = torch.tensor([1.0, 0.5])
    clean, attacked = motifs.attacked_losses(W, torch.zeros(2, 2, 3), density, 0.1, 400, generator(0, "losses"))
    assert clean.shape == attacked.shape == (2, 2)
    assert clean[:, 0].abs().max() < 1e-12
    assert_close(attacked[:, 0], torch.full((2,), 0.01))
    assert_close(attacked[:, 1], clean[:, 1])


def test_random_rotations_keep_overlaps_and_differ():
    W = torch.randn(3, 5, generator=generator(0, "rotated"), dtype=torch.float64)
    turned = motifs.random_rotations(W, 20, numpy_generator(0, "turns"))
    assert_close(turned.mT @ turned, (W.T @ W).expand(20, 5, 5))
    assert motifs.basis_concentration(turned).std() > 0.01
