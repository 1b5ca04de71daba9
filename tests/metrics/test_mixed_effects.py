"""The mixed model against closed forms of balanced designs, and what it reads on nothing."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.metrics.mixed_effects import mixed_effects
from lib.rng import numpy_generator


def design(seeds: int, cells: int = 4, effect: float = 0.5, seed_sd: float = 1.0, label: str = "a") -> pd.DataFrame:
    """y = 3 + effect * treated + u_seed + noise of deviation 1; every seed in every cell, half of them treated."""
    rng = numpy_generator(0, "mixed effects", label)
    table = pd.DataFrame([(s, c) for s in range(seeds) for c in range(cells)], columns=["seed", "cell"])
    table["treated"] = table.cell % 2
    shared = seed_sd * rng.normal(size=seeds)
    return table.assign(y=3 + effect * table.treated + shared[table.seed] + rng.normal(size=len(table)))


def test_balanced_design_gives_the_paired_difference_and_its_error():
    """REML of a balanced two-way table is its analysis of variance: SE^2 = 4 s^2 / n with s^2 the residual's."""
    table = design(12)
    fit = mixed_effects(table, "y ~ treated", ["seed"])
    means = table.pivot_table(index="seed", columns="treated", values="y")
    assert fit.effects.at["treated", "estimate"] == pytest.approx((means[1] - means[0]).mean(), abs=1e-6)
    seed_mean, arm_mean = table.groupby("seed").y.transform("mean"), table.groupby("treated").y.transform("mean")
    residual = table.y - seed_mean - arm_mean + table.y.mean()
    variance = (residual**2).sum() / (48 - 12 - 1)
    error = np.sqrt(4 * variance / 48)
    assert fit.deviations["residual"] ** 2 == pytest.approx(variance, rel=1e-3)
    half = (fit.effects.at["treated", "high"] - fit.effects.at["treated", "low"]) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 11) * error, rel=1e-3)


def test_known_components_are_found():
    """Crossed seeds and classes of known spread: 1.5 and .5, residual .3."""
    rng = numpy_generator(1, "mixed effects", "crossed")
    table = pd.DataFrame([(s, c) for s in range(40) for c in range(30)], columns=["seed", "klass"])
    noise = 1.5 * rng.normal(size=40)[table.seed] + 0.5 * rng.normal(size=30)[table.klass]
    table["y"] = noise + 0.3 * rng.normal(size=len(table))
    found = mixed_effects(table, "y ~ 1", ["seed", "klass"])
    assert found.df == 29
    assert found.deviations["residual"] == pytest.approx(0.3, rel=0.05)
    assert found.deviations["seed"] == pytest.approx(1.5, rel=0.3)
    assert found.deviations["klass"] == pytest.approx(0.5, rel=0.3)
    assert list(found.deviations.index) == ["klass", "seed", "residual"]


@pytest.mark.parametrize("seed_sd", [0.0, 2.0])
def test_null_is_rejected_about_as_often_as_it_should_be(seed_sd):
    """No effect: p < .05 in about 1 of 20 tables, less for a t that counts seeds; and the estimates move."""
    fits = [mixed_effects(design(12, 2, 0.0, seed_sd, f"null {i}"), "y ~ treated", ["seed"]) for i in range(80)]
    p = np.array([fit.effects.at["treated", "p_value"] for fit in fits])
    estimates = [fit.effects.at["treated", "estimate"] for fit in fits]
    assert (p < 0.05).mean() <= 0.1125  # P(more than 9 of 80 | .05) < .01
    assert np.std(estimates) == pytest.approx(np.sqrt(2 / 12), rel=0.35)


def test_an_effect_that_varies_between_seeds_needs_its_own_component():
    """With 40 rows per seed and arm a common intercept is far too sure; seed:treated makes the seed the unit."""
    rng = numpy_generator(2, "mixed effects", "slopes")
    table = pd.DataFrame([(s, t, r) for s in range(8) for t in (0, 1) for r in range(40)],
                         columns=["seed", "treated", "row"])
    own = rng.normal(size=8)  # each seed's effect; mean effect 0
    table["y"] = table.treated * own[table.seed] + 0.2 * rng.normal(size=len(table))
    naive = mixed_effects(table, "y ~ treated", ["seed"]).interval("treated")
    honest = mixed_effects(table, "y ~ treated", ["seed", "seed:treated"]).interval("treated")
    assert naive.estimate == pytest.approx(honest.estimate, abs=1e-4)
    assert (honest.high - honest.low) > 5 * (naive.high - naive.low)
    assert honest.low < 0 < honest.high


def test_no_seed_effect_is_an_answer_and_not_a_failure():
    table = design(10, seed_sd=0.0, label="flat")
    table["y"] -= table.groupby("seed").y.transform("mean")  # nothing is left for the seeds to explain
    fit = mixed_effects(table, "y ~ treated", ["seed"])
    assert fit.deviations["seed"] < 0.05 and np.isfinite(fit.effects.to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "components", "message"),
    [
        ({}, [], "at least one component"),
        ({}, ["klass"], "no column klass"),
        ({"seed": 0}, ["seed"], "1 levels"),
        ({"seed": range(16)}, ["seed"], "fewer levels than rows"),
        ({"y": np.nan}, ["seed"], "missing"),
        ({"seed": [np.nan] * 4 + [1.0] * 6 + [2.0] * 6}, ["seed"], "missing values in seed"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, components, message):
    with pytest.raises(ValueError, match=message):
        mixed_effects(design(4).assign(**change), "y ~ treated", components)
