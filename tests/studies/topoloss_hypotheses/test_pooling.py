"""The published numbers, tested with 60 items and with 3 seeds; by hand and against SciPy."""
import numpy as np
import pytest
from scipy import stats

from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses import pooling

BASELINE, TOPOGRAPHIC = [1.717, 1.748, 1.574], [2.532, 2.886, 2.969]
"""Mean patching ratio of each seed, topo_weight 0 and 1 (TopoSAE, EXP_016)."""


def test_three_seeds_carry_the_published_ratio_only_just():
    found = pooling.seed_test(BASELINE, TOPOGRAPHIC)
    change = np.subtract(TOPOGRAPHIC, BASELINE)
    assert found.t == pytest.approx(change.mean() / (change.std(ddof=1) / 3**0.5)) and round(found.t, 1) == 6.7
    assert (found.unit, found.n, found.df, found.d_name) == ("seeds", 3, 2, "paired d_z")
    assert found.p_value == pytest.approx(0.022, abs=5e-4)
    assert found.d == pytest.approx(found.t / 3**0.5)
    assert pooling.sign_flip_p(BASELINE, TOPOGRAPHIC) == 0.25


def test_logs_are_logs():
    found = pooling.seed_test(BASELINE, TOPOGRAPHIC, log=True)
    expected = stats.ttest_rel(np.log(TOPOGRAPHIC), np.log(BASELINE))
    assert (found.t, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.difference == pytest.approx(np.log(np.divide(TOPOGRAPHIC, BASELINE)).mean())
    assert pooling.sign_flip_p(BASELINE, TOPOGRAPHIC, log=True) == 0.25


def test_sixty_pooled_items_make_it_look_certain():
    found = pooling.pooled_summary_test(1.68, 0.42, 2.79, 1.24, 60)
    assert found.p_value < 1e-4 and (found.n, found.df) == (60, 118) and found.unit == "items, pooled"
    assert found.d == pytest.approx(1.11 / np.sqrt((0.42**2 + 1.24**2) / 2)) and 0.95 < found.d < 1.25
    assert found.t == pytest.approx(1.11 / np.sqrt((0.42**2 + 1.24**2) / 60))
    assert found.d_name == "Cohen's d"


def test_the_summary_of_items_agrees_with_scipy():
    r = numpy_generator(0, "test", "pooling")
    a, b = r.normal(size=(3, 20)), r.normal(0.5, 2, size=(3, 20))
    expected = stats.ttest_ind(b.ravel(), a.ravel())
    found = pooling.pooled_summary_test(a.mean(), a.std(ddof=1), b.mean(), b.std(ddof=1), 60)
    assert (found.t, found.df, found.p_value) == pytest.approx((expected.statistic, 118, expected.pvalue))
    assert found.difference == pytest.approx(b.mean() - a.mean())
    table = pooling.as_table({"pooled": found, "seeds": pooling.seed_test(a.mean(1), b.mean(1))})
    assert list(table.index) == ["pooled", "seeds"] and table.p_value["pooled"] == found.p_value


def test_where_seeds_differ_pooling_finds_effects_that_are_not_there():
    """No effect, seeds with a level of their own: pooled tests reject often, seed tests as often as they say."""
    r, rejected = numpy_generator(0, "test", "pooling", "null"), np.zeros(2)
    for _ in range(400):
        a, b = (r.normal(size=(3, 1)) + r.normal(size=(3, 20)) for _ in range(2))
        pooled = stats.ttest_ind(b.ravel(), a.ravel()).pvalue
        rejected += [pooled < 0.05, pooling.seed_test(a.mean(1), b.mean(1)).p_value < 0.05]
    pooled, seeds = rejected / 400
    assert pooled > 0.4 and 0.02 < seeds < 0.09


@pytest.mark.parametrize("what, message", [
    (lambda: pooling.seed_test([1.0, 2], [1.0, 2, 3]), "paired"),
    (lambda: pooling.seed_test([1.0, 2], [2.0, 3]), "no spread"),
    (lambda: pooling.seed_test([0.0, 2], [2.0, 3], log=True), "above 0"),
    (lambda: pooling.pooled_summary_test(1, 1, 2, 1, 1), "at least 2 items"),
    (lambda: pooling.pooled_summary_test(1, 0, 2, 0, 9), "no spread"),
    (lambda: pooling.sign_flip_p(np.arange(17), np.ones(17)), "too many"),
])
def test_what_cannot_be_tested_is_refused(what, message):
    with pytest.raises(ValueError, match=message):
        what()
