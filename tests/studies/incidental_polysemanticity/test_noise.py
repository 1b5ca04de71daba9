"""Each law of noise has variance 1 and the kurtosis its name promises."""
from __future__ import annotations

import pytest
import torch
from scipy import stats

from lib.rng import generator
from lib.studies.incidental_polysemanticity.noise import unit_noise

SCALED = {
    "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5), "gaussian": stats.norm(), "laplace": stats.laplace(0, 0.5**0.5),
    "positive_kurtosis": stats.t(3, 0, 3**-0.5),
}
EXCESS_KURTOSIS = {"bipolar": -2.0, "uniform": -1.2, "gaussian": 0.0, "laplace": 3.0}


def draws(law: str, n: int = 200_000) -> torch.Tensor:
    return unit_noise(law, (n,), generator(0, "noise test", law)).double()


@pytest.mark.parametrize("law", sorted(SCALED))
def test_law_is_scipys_with_variance_one(law):
    assert SCALED[law].var() == pytest.approx(1)
    assert stats.kstest(draws(law).numpy(), SCALED[law].cdf).pvalue > 1e-3


@pytest.mark.parametrize("law", EXCESS_KURTOSIS)
def test_excess_kurtosis_is_the_one_stated(law):
    x = draws(law)
    assert float(x.mean()) == pytest.approx(0, abs=0.01) and float(x.var()) == pytest.approx(1, abs=0.02)
    assert float((x**4).mean() - 3) == pytest.approx(EXCESS_KURTOSIS[law], abs=0.25)


def test_bipolar_takes_two_values_only():
    assert draws("bipolar").unique().tolist() == [-1, 1]


def test_draws_are_finite_and_the_streams_their_own():
    before = torch.get_rng_state()
    assert all(draws(law).isfinite().all() for law in (*EXCESS_KURTOSIS, "positive_kurtosis"))
    assert torch.equal(torch.get_rng_state(), before)


def test_unknown_laws_are_refused():
    with pytest.raises(ValueError, match="cauchy"):
        unit_noise("cauchy", (3,), generator(0))
