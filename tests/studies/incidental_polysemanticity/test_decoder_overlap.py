"""Cosine metrics of a decoder against literal loops, and what they read on nothing."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.metrics.nulls import NullCannotMove
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry


def decoders(*batch: int) -> torch.Tensor:
    return torch.randn(*batch, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def literal_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b / ((a.norm() + 1e-8) * (b.norm() + 1e-8)))


def test_metrics_equal_the_literal_loops_in_any_batch():
    D = decoders(2, 3)
    for b in range(2):
        for c in range(3):
            columns, absolute, weighted, plain = D[b, c].T, 0.0, 0.0, 0.0
            for i in range(16):
                for j in range(16):
                    cosine = literal_cosine(columns[i], columns[j])
                    absolute += abs(cosine - (i == j))
                    if i < j:
                        weighted += cosine**2 * 0.9 ** (i % 8) * 0.9 ** (j % 8)
                        plain += cosine**2
            assert float(geometry.macs(D)[b, c]) == pytest.approx(absolute / 256)
            assert float(geometry.weighted_overlap(D)[b, c]) == pytest.approx(weighted)
            assert float(geometry.unweighted_overlap(D)[b, c]) == pytest.approx(plain)


def test_metrics_worked_out_by_hand():
    D = torch.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 4.0]])  # cosines 0, .6, .8
    assert float(geometry.macs(D)) == pytest.approx(2 * (0.6 + 0.8) / 9)
    assert float(geometry.weighted_overlap(D)) == pytest.approx(0.36 * 0.81 + 0.64 * 0.9 * 0.81)
    assert float(geometry.unweighted_overlap(D)) == pytest.approx(1.0)


def test_the_weighted_overlap_hangs_on_the_order_of_latents_and_the_unweighted_one_does_not():
    D, order = decoders(), torch.arange(16).flip(0)
    assert abs(float(geometry.weighted_overlap(D) - geometry.weighted_overlap(D[:, order]))) > 0.05
    torch.testing.assert_close(geometry.unweighted_overlap(D), geometry.unweighted_overlap(D[:, order]))


def test_column_permutation_null_cannot_move():
    D = decoders(5).float()
    null = geometry.permuted_macs(D, 200, torch.Generator().manual_seed(0))
    assert null.shape == (200, 5)
    assert null.double().std(0).max() < 1e-7
    with pytest.raises(NullCannotMove):
        geometry.permutation_null(D[0], rng=np.random.default_rng(0))


def test_calibrated_macs_says_nothing_of_macs():
    """Decoders from orthogonal to nearly parallel all read within rounding noise of 1/2: |z| stays of order 1."""
    common = torch.ones(12, 1)
    D = torch.stack([decoders().float() + strength * common for strength in (0.0, 1.0, 10.0)])
    assert geometry.macs(D)[2] > 3 * geometry.macs(D)[0]
    calibrated = geometry.calibrated_macs(D, torch.Generator().manual_seed(0))
    assert calibrated.min() > 0.02 and calibrated.max() < 0.98
    exact = geometry.calibrated_macs(D.double(), torch.Generator().manual_seed(0))
    assert (exact - 0.5).abs().max() < 1e-6


def test_random_directions_move_and_read_what_theory_says():
    """E cos^2 = 1/12 and E|cos| = Γ(6)/(sqrt(pi) Γ(6.5)) for directions in R^12."""
    importance = 0.9 ** (np.arange(16) % 8)
    pairs = (importance.sum() ** 2 - (importance**2).sum()) / 2
    rng = np.random.default_rng(0)
    null = geometry.random_direction_null(draws=2000, rng=rng)
    assert null.mean() == pytest.approx(pairs / 12, abs=0.05)
    assert np.quantile(null, [0.025, 0.975]) == pytest.approx([4.01, 6.41], abs=0.15)
    macs = geometry.random_direction_null(geometry.macs, draws=1000, rng=rng)
    assert macs.mean() == pytest.approx(120 / (np.pi**0.5 * 287.885) * 240 / 256, abs=0.002)
    assert macs.std() == pytest.approx(0.0145, abs=0.002)


def test_feature_directions_recover_a_planted_map():
    rng = torch.Generator().manual_seed(2)
    features = torch.rand(3, 200, 8, generator=rng, dtype=torch.float64)
    planted = torch.randn(2, 3, 8, 12, generator=rng, dtype=torch.float64)
    found = geometry.feature_directions(features, features @ planted + 0.7)
    torch.testing.assert_close(found, planted)


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="columns"):
        geometry.macs(torch.ones(12))
