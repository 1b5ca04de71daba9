"""The published numbers, tested with 60 items and with 3 seeds; by hand and against SciPy."""
import numpy as np
import pytest
from scipy import stats

from lib.press.claims import of_study
from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses import pooling

BASELINE, TOPOGRAPHIC = [1.717, 1.748, 1.574], [2.532, 2.886, 2.969]
"""Mean patching ratio of each seed, topo_weight 0 and 1 (TopoSAE, EXP_016)."""


def test_three_seeds_carry_the_published_ratio_only_just():
    found = pooling.seed_test(BASELINE, TOPOGRAPHIC)
    change = np.subtract(TOPOGRAPHIC, BASELINE)
    assert found.t == pytest.approx(change.mean() / (change.std(ddof=1) / 3**0.5)) and round(found.t, 1) == 6.7
    assert (found.n, found.df) == (3, 2) and found.p_value == pytest.approx(0.022, abs=5e-4)
    assert found.d_z == pytest.approx(found.t / 3**0.5)
    assert pooling.sign_flip_p(BASELINE, TOPOGRAPHIC) == 0.25


def test_logs_are_logs():
    found = pooling.seed_test(BASELINE, TOPOGRAPHIC, log=True)
    expected = stats.ttest_rel(np.log(TOPOGRAPHIC), np.log(BASELINE))
    assert (found.t, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.difference == pytest.approx(np.log(np.divide(TOPOGRAPHIC, BASELINE)).mean())
    assert pooling.sign_flip_p(BASELINE, TOPOGRAPHIC, log=True) == 0.25


def test_an_effect_and_its_unit_give_the_p_of_scipys_test():
    r = numpy_generator(0, "test", "pooling")
    a, b = r.normal(size=60), r.normal(0.5, 2, size=60)
    d_z, d = (b - a).mean() / (b - a).std(ddof=1), (b - a).mean() / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert pooling.p_of_d(d_z, 60) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert pooling.p_of_d(d, 60, paired=False) == pytest.approx(stats.ttest_ind(a, b).pvalue)


def test_each_printed_test_is_what_its_effect_says_and_the_family_is_corrected():
    found = pooling.printed_tests({id: claim.prints for id, claim in of_study("topoloss_hypotheses").items()})
    again, seeds, holm = (found[name] for name in ("p, again", "p, seed as unit", "Holm"))
    assert again["H2, l0 at 1"] == pytest.approx(0.007, abs=6e-4) == seeds["H2, l0 at 1"]  # printed .007
    assert again["EXP_019, distance at 1"] == pytest.approx(0.0005, abs=6e-5)  # printed .0005: 60 sets against 60
    assert again["EXP_010, l0 on accuracy"] == pytest.approx(0.004, abs=5e-4)  # printed .004: nine models, two numbers
    assert (again[["H3, ratio at 0.1", "H3, ratio at 1"]] < 1e-4).all()  # printed "below .0001"
    assert seeds["H3, ratio at 1"] == pytest.approx(0.022, abs=5e-4)
    assert seeds["EXP_010, l0 on accuracy"] > 0.5  # within the arms accuracy says nothing of l0
    rises = [0.269, 0.274, 0.242]
    assert seeds["EXP_012b, latents at 1"] == pytest.approx(stats.ttest_1samp(rises, 0).pvalue)
    near = stats.ttest_rel([9.960, 9.860, 10.024], [10.452, 10.729, 10.616]).pvalue
    assert seeds["EXP_019, distance at 1"] == pytest.approx(near)
    assert holm["EXP_012b, latents at 1"] == pytest.approx(6 * seeds["EXP_012b, latents at 1"])
    assert pooling.shown(found).loc["EXP_012b, latents at 1", "p, again"] == "not printed"


def test_within_arms_takes_each_arms_mean_away():
    x, noise = np.array([[1.0, 2, 3, 4], [11, 12, 13, 14]]), np.array([[1.0, -1, 1, -1], [-1, 1, -1, 1]])
    y = x + noise + [[0.0], [50]]
    u, v = (a - a.mean(1, keepdims=True) for a in (x, y))
    fitted = np.linalg.lstsq(np.column_stack([x.ravel(), np.repeat(np.eye(2), 4, axis=0)]), y.ravel(), rcond=None)
    sigma2 = fitted[1][0] / 5
    t = fitted[0][0] / np.sqrt(sigma2 / (u**2).sum())  # the slope beside a level for each arm, 8 - 3 df
    assert pooling.within_arms(x, y) == pytest.approx(2 * stats.t.sf(abs(t), 5))
    assert pooling.p_of_r2(np.corrcoef(x[0], y[0])[0, 1] ** 2, 2) == pytest.approx(stats.pearsonr(x[0], y[0]).pvalue)


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
    (lambda: pooling.sign_flip_p(np.arange(17), np.ones(17)), "too many"),
])
def test_what_cannot_be_tested_is_refused(what, message):
    with pytest.raises(ValueError, match=message):
        what()
