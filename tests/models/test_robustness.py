"""An attack whose answer is known."""
from __future__ import annotations

import torch
from torch.testing import assert_close

from lib.models import robustness
from lib.rng import generator


def test_attack_on_one_dimension_moves_the_answer_by_the_norm():
    """W = 1: x' = ReLU(x + delta), so the worst |delta| = .1 costs .01 wherever x > .1."""
    W, b, x = torch.ones(1, 1, 1), torch.zeros(1, 1), torch.full((1, 8, 1), 0.5)
    assert_close(robustness.strongest_attack(W, b, x, 0.1, generator(0, "attack")), torch.full((1, 8), 0.01))


def test_attack_on_an_antipodal_pair_finds_the_doubled_direction():
    """W = (1, -1), x = (.5, 0): delta along (1, -1) moves feature 0 by sqrt(2) norm, so the error is 2 norm^2."""
    W, b, x = torch.tensor([[[1.0, -1.0]]]), torch.zeros(1, 2), torch.tensor([[[0.5, 0.0]]])
    assert_close(robustness.strongest_attack(W, b, x, 0.1, generator(0, "attack")), torch.tensor([[0.02]]))


def test_attacked_losses_start_from_the_clean_ones_and_keep_the_grid():
    """The identity errs nowhere; attacked by .1 where x > .1, it errs by .01; a zero model cannot be moved."""
    W = torch.stack([torch.eye(3), torch.zeros(3, 3)]).expand(2, 2, 3, 3)
    density = torch.tensor([1.0, 0.5])
    clean, attacked = robustness.attacked_losses(W, torch.zeros(2, 2, 3), density, 0.1, 400, generator(0, "losses"))
    assert clean.shape == attacked.shape == (2, 2)
    assert clean[:, 0].abs().max() < 1e-12
    assert_close(attacked[:, 0], torch.full((2,), 0.01))
    assert_close(attacked[:, 1], clean[:, 1])
