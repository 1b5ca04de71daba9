"""Dimensions of matrices and clouds whose spectra are known."""
import numpy as np
import pytest
import torch

from lib.metrics import spectrum
from lib.metrics.nulls import null_distribution
from lib.rng import numpy_generator
from lib.topoloss import interpolated_loss, operator


def rng(*labels):
    return numpy_generator(0, "test", "spectrum", *labels)


def cloud(*variances):
    """Two samples along each axis, ± sqrt(v): variances in these proportions, no correlation."""
    axes = np.diag(np.sqrt(variances))
    return np.concatenate([axes, -axes])


def test_effective_rank_by_hand():
    assert spectrum.effective_rank(np.eye(5)) == pytest.approx(5)
    assert spectrum.effective_rank(np.outer([1, 2, 3], [1, 1])) == pytest.approx(1)
    shares = np.array([3, 1]) / 4
    assert spectrum.effective_rank(np.diag([3.0, 1])) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert spectrum.effective_rank(torch.stack([torch.eye(3), 7 * torch.eye(3)])) == pytest.approx([3, 3])


def test_what_the_topographic_map_leaves_has_at_most_its_rank():
    D, U = operator(8, 16, 8)
    W = torch.tensor(rng("W").normal(size=(128, 64)))
    assert spectrum.effective_rank(W) > 40 and spectrum.effective_rank(U.double() @ D.double() @ W) <= 2 + 1e-9
    assert float(interpolated_loss(W, 8, 16, 8)) > 0.5


def test_participation_ratio_and_d95_by_hand():
    assert spectrum.participation_ratio(cloud(1, 1, 1, 1)) == pytest.approx(4)
    assert spectrum.participation_ratio(cloud(3, 1) + 100) == pytest.approx(16 / 10)
    assert spectrum.variances(cloud(3, 1)) == pytest.approx([3 * 2 / 3, 1 * 2 / 3])  # sum of squares over n - 1 = 3
    held = cloud(70, 20, 5, 5)  # shares .7, .9, .95, 1
    shares = (0.7, 0.71, 0.9, 0.95, 0.96, 1)
    assert [spectrum.principal_dimension(held, share) for share in shares] == [1, 2, 2, 3, 4, 4]


def test_the_variances_are_those_of_the_covariance():
    x = rng("x").normal(size=(50, 6)) @ rng("A").normal(size=(6, 6)) + 3
    assert spectrum.variances(x) == pytest.approx(np.linalg.eigvalsh(np.cov(x.T))[::-1])


def test_permuting_within_dimensions_undoes_a_low_dimension_and_moves():
    x = rng("low").normal(size=(200, 2)) @ rng("map").normal(size=(2, 10))
    null = null_distribution(spectrum.participation_ratio, lambda r: spectrum.unrelated(x, r), 20, rng("null"))
    assert spectrum.participation_ratio(x) <= 2 < null.min() - 1 and null.std() > 0
    assert np.array_equal(np.sort(spectrum.unrelated(x, rng()), axis=0), np.sort(x, axis=0))


@pytest.mark.parametrize("what, message", [
    (lambda: spectrum.effective_rank(np.zeros((2, 2))), "matrix of zeros"),
    (lambda: spectrum.effective_rank([1.0, 2]), "rows and columns"),
    (lambda: spectrum.effective_rank([[1.0, np.nan]]), "1 non-finite"),
    (lambda: spectrum.variances(np.ones((1, 2))), "n_samples >= 2"),
    (lambda: spectrum.participation_ratio(np.ones((5, 2))), "same for every sample"),
    (lambda: spectrum.principal_dimension(np.eye(3), 0.0), r"share must be in \(0, 1\]"),
])
def test_what_has_no_spectrum_is_refused(what, message):
    with pytest.raises(ValueError, match=message):
        what()
