"""Entropy of the tokens a latent fires on: by hand, by scipy's chances, and not by the rate alone."""
import numpy as np
import pytest
from scipy.stats import hypergeom

from lib.rng import numpy_generator
from lib.studies.transformer_saes.entropy import _hypergeometric, token_entropy

LATENTS = np.array([[3.0, 0, 1, 0], [2, 0, 1, 0], [1, -5, 0, 0], [0, 4, 1, 0], [2, 0, 1, 0]])
TOKENS = np.array([7, 7, 2, 2, 9])


def test_entropy_by_hand():
    half, quarter = 0.5 * np.log(2), 0.25 * np.log(4)  # all four firings of the first and the third
    assert token_entropy(LATENTS, TOKENS, 4) == pytest.approx(
        [half + 2 * quarter, np.nan, half + 2 * quarter, np.nan], nan_ok=True)


def test_entropy_of_two_of_four_firings_by_hand():
    latents, tokens = np.ones((4, 1)), np.array([1, 1, 3, 3])
    # of six pairs four have both tokens, whose entropy is log 2, and two have one, whose entropy is 0
    assert token_entropy(latents, tokens, 2) == pytest.approx([4 / 6 * np.log(2)])
    assert token_entropy(latents, tokens, 4) == pytest.approx([np.log(2)])
    assert np.isnan(token_entropy(latents, tokens, 5)).all()


def test_at_equally_many_firings_a_rate_alone_moves_no_entropy():
    r = numpy_generator(0, "test", "tokens", "blind")
    latents = r.random((4000, 12)) * (r.random((4000, 12)) < np.linspace(0.01, 0.3, 12))
    tokens = np.where(r.random(4000) < 0.25, 0, r.integers(1, 500, 4000))
    assert np.ptp(token_entropy(latents, tokens, 20)) < 0.35


def test_the_chances_of_drawing_are_those_of_scipy():
    draw = numpy_generator(0, "test", "tokens", "chances")
    total = draw.integers(0, 400, (60, 1))
    size, k = (draw.random((60, 1)) * (total + 1)).astype(int), np.arange(1, 21)
    expected = np.nan_to_num(hypergeom.pmf(k, total, size, 20))  # nan where more are drawn than there are
    np.testing.assert_allclose(_hypergeometric(k, total, size, 20), expected, atol=1e-12)
