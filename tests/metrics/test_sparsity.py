"""Metrics of sparse coding by hand, and the known-wrong versions of them beside ours."""
import numpy as np
import pytest
import torch

from lib.metrics.sparsity import dead_fraction, fvu, l0, l1, samples_since_fired, shrinkage
from lib.rng import generator

LATENTS = torch.tensor([[1.0, 0, -2, 0], [0, 0, 3, 0], [0.5, 0, 0, 0]])


def wrong_explained_variance(x, recons):
    """Var as E[x^2] - E[x^2]^2 where it should be E[x^2] - E[x]^2."""
    second = x.square().mean()
    return float(1 - (x - recons).square().mean() / (second - second**2))


def wrong_r_squared(x, recons):
    """Total variance around one number for all dimensions."""
    return float(1 - (x - recons).square().sum() / (x - x.mean()).square().sum())


def wrong_l1(latents):
    """Summed over the batch."""
    return float(latents.abs().sum())


def test_fvu_by_hand():
    x = torch.tensor([[0.0, 10], [2, 14]])  # means 1, 12; squares 1 + 1 + 4 + 4 = 10
    recons = torch.tensor([[1.0, 10], [2, 12]])  # errors 1 + 4
    assert fvu(x, recons) == 0.5
    assert fvu(x, x) == 0 and fvu(x, x.mean(0).expand(2, 2)) == 1
    assert fvu(x.numpy(), recons.numpy()) == 0.5


def test_explained_variance_from_the_squared_second_moment_is_wrong():
    s = (1 + 0.25 / 6.09) ** 0.5
    x = torch.tensor([[s], [-s]], dtype=torch.float64)  # mean 0, variance s^2; half of x leaves a quarter of it
    assert wrong_explained_variance(x, x / 2) == pytest.approx(7.09)
    assert 1 - fvu(x, x / 2) == pytest.approx(0.75)


def test_r_squared_around_a_scalar_mean_is_wrong():
    x = torch.tensor([[4.0, -4], [2, -2]])  # dimension means 3 and -3, variance 1 each
    mean = x.mean(0).expand_as(x)
    assert wrong_r_squared(x, mean) == pytest.approx(0.90)
    assert 1 - fvu(x, mean) == 0


def test_l1_summed_over_the_batch_is_wrong():
    twice = torch.cat([LATENTS, LATENTS])
    assert wrong_l1(twice) == 2 * wrong_l1(LATENTS) == 13
    assert l1(twice) == l1(LATENTS) == pytest.approx(6.5 / 3)


def test_active_latents_by_hand():
    assert l0(LATENTS) == pytest.approx(4 / 3)
    assert l0(np.array([[1e-30, 0.0]])) == 1


def test_dead_latents_belong_to_a_window():
    since = samples_since_fired(LATENTS)
    assert since.tolist() == [0, 3, 1, 3]
    assert [dead_fraction(since, w) for w in (1, 2, 3, 4)] == [0.75, 0.5, 0.5, 0]
    assert dead_fraction(since, len(LATENTS)) == float((LATENTS == 0).all(0).double().mean())


def test_shrinkage_by_hand():
    x = torch.tensor([[3.0, 4], [0, 5]])
    assert shrinkage(x, 0.8 * x) == pytest.approx(0.8)
    assert shrinkage(x, torch.tensor([[3.0, 0], [0, 10]])) == pytest.approx((9 + 100) / (9 + 50))


def test_a_projection_is_short_but_not_shrunk():
    x = torch.randn(500, 8, generator=generator(0, "test", "projection"))
    kept = x * (torch.arange(8) < 4)
    assert kept.norm() < 0.75 * x.norm() and shrinkage(x, kept) == pytest.approx(1)
    assert shrinkage(x, 0.7 * kept) == pytest.approx(0.7)


def test_large_offset_loses_no_digits():
    x = 1000 + torch.randn(2000, 3, generator=generator(1, "test", "offset"))
    assert fvu(x, x.double().mean(0).float().expand_as(x)) == pytest.approx(1, rel=1e-6)


def test_l1_of_small_types_does_not_overflow():
    assert l1(torch.tensor([[-128, 1]], dtype=torch.int8)) == 129 and l1(torch.tensor([[True, False]])) == 1


@pytest.mark.parametrize(("call", "message"), [
    (lambda: fvu(torch.ones(2, 3), torch.ones(3, 2)), r"one shape, got \(2, 3\) and \(3, 2\)"),
    (lambda: fvu(torch.ones(2, 3), torch.ones(2, 3)), "x is the same for every sample"),
    (lambda: fvu(torch.full((2, 1), 0.1), torch.ones(2, 1)), "x is the same for every sample"),
    (lambda: fvu(torch.ones(2, 3), torch.full((2, 3), torch.nan)), "recons has 6 non-finite values"),
    (lambda: l0(torch.zeros(0, 3)), r"latents must be \[n_samples, width\] and not empty, got shape \(0, 3\)"),
    (lambda: l0(torch.tensor([[torch.nan]])), "latents has 1 non-finite"),
    (lambda: dead_fraction(torch.tensor([1]), 0), "window must be at least 1 sample, got 0"),
    (lambda: dead_fraction(torch.tensor([0.5]), 3), "densities have no window"),
    (lambda: shrinkage(torch.eye(2), -torch.eye(2)), "no rescaling helps"),
])
def test_what_has_no_answer_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
