"""Rates and purity by hand, and that rates or common tokens alone are told from what a latent reads."""
import numpy as np
import pytest
import torch
from scipy.sparse import csc_array, csr_array

from lib.metrics import tokens as measure
from lib.metrics.nulls import NullCannotMove
from lib.rng import numpy_generator

LATENTS = np.array([[3.0, 0, 1, 0], [2, 0, 1, 0], [1, -5, 0, 0], [0, 4, 1, 0], [2, 0, 1, 0]])
TOKENS = np.array([7, 7, 2, 2, 9])


def rng(*labels):
    return numpy_generator(0, "test", "tokens", *labels)


@pytest.mark.parametrize("given", [np.array, torch.tensor, csr_array], ids=["array", "tensor", "sparse"])
def test_by_hand(given):
    latents = given(LATENTS)
    assert measure.firing_rates(latents) == pytest.approx([0.8, 0.4, 0.8, 0])
    # the strongest three: 7 7 9 (the 2 at the first of two equals), fewer than three, 7 7 2, none
    assert measure.top_purity(latents, TOKENS, 3) == pytest.approx([2 / 3, np.nan, 2 / 3, np.nan], nan_ok=True)
    assert measure.top_purity(latents, TOKENS, 1) == pytest.approx([1, 1, 1, np.nan], nan_ok=True)


def blind():
    """Latents that fire at random, the first ones rarely, and tokens of which a quarter are one."""
    r = rng("blind")
    latents = r.random((4000, 12)) * (r.random((4000, 12)) < np.linspace(0.01, 0.3, 12))
    return latents, np.where(r.random(4000) < 0.25, 0, r.integers(1, 500, 4000))


def test_permuted_tokens_read_what_common_tokens_give_and_a_latent_of_one_token_stands_out():
    latents, tokens = blind()
    null = measure.permuted_tokens_null(measure.top_purity, latents, tokens, 30, rng("null"))
    assert null.std() > 0.005 and 0.2 < null.mean() < 0.3
    assert abs(measure.top_purity(latents, tokens).mean() - null.mean()) < 4 * null.std()
    seeing = latents * (tokens == 0)[:, None]
    assert (measure.top_purity(seeing[:, 3:], tokens) == 1).all()
    with pytest.raises(NullCannotMove):
        measure.permuted_tokens_null(measure.top_purity, latents, tokens * 0, 5, rng())
    with pytest.raises(ValueError, match="no latent fires often enough"):
        measure.permuted_tokens_null(measure.top_purity, latents[:9], tokens[:9], 5, rng())


def test_parts_of_one_entry_are_one_firing():
    for kind in (csr_array, csc_array):
        whole = kind(np.array([[3.0, 0], [0, 1]]))
        parts = kind((np.array([1.0, 2, 1]), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2))
        assert (measure.firing_rates(parts) == measure.firing_rates(whole)).all()


@pytest.mark.parametrize(("latents", "tokens", "message"), [
    (LATENTS, TOKENS[:4], r"do not fit: \(5, 4\), \(4,\)"),
    (LATENTS, TOKENS / 2, "integers from 0 on, got float64"),
    (np.full((5, 2), np.nan), TOKENS, "latents has 10 non-finite values"),
    (LATENTS[0], TOKENS, "not empty, got"),
])
def test_what_has_no_tokens_is_refused(latents, tokens, message):
    with pytest.raises(ValueError, match=message):
        measure.top_purity(latents, tokens)
