from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lib.metrics import statistics as st
from lib.rng import numpy_generator


def rng(*labels: str) -> np.random.Generator:
    return numpy_generator(0, "test", *labels)


def covers(interval: st.Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


# Intervals -----------------------------------------------------------------------------------------------------------

def test_percentile_bootstrap_of_two_values_by_hand():
    # resamples of {0, 1}: means 0, .5, 1 with probability 1/4, 1/2, 1/4; 40 % interval: quantiles .3 and .7
    found = st.bootstrap_interval([0, 1], level=0.4, rng=rng(), method="percentile")
    assert found == (0.5, 0.5, 0.5)
    assert st.bootstrap_interval([0, 1], level=0.9, rng=rng(), method="percentile") == (0.5, 0, 1)


@pytest.mark.parametrize("n, least, most", [(20, 0.91, 0.96), (5, 0.80, 0.90), (3, 0.68, 0.80)])
def test_bootstrap_coverage_is_what_its_docstring_says(n, least, most):
    draws = rng("coverage", str(n)).normal(3, 2, size=(500, n))
    source = rng("resampling")
    share = np.mean([covers(st.bootstrap_interval(x, n_resamples=500, rng=source), 3) for x in draws])
    assert least < share < most


def test_percentile_coverage_of_a_skewed_median_is_near_nominal():
    draws = rng("skewed").exponential(size=(300, 40))
    source = rng("resampling")
    found = [st.bootstrap_interval(x, np.median, n_resamples=500, rng=source, method="percentile") for x in draws]
    assert 0.91 < np.mean([covers(interval, np.log(2)) for interval in found]) < 0.98


def test_level_widens_and_the_generator_decides():
    x = rng("values").normal(size=30)
    wide, narrow = (st.bootstrap_interval(x, level=level, rng=rng()) for level in (0.99, 0.8))
    assert wide.low < narrow.low < x.mean() < narrow.high < wide.high
    assert st.bootstrap_interval(x, rng=rng()) == st.bootstrap_interval(x, rng=rng())


def test_where_an_interval_lies():
    one = st.Interval(2, 1, 3)
    assert [one.above(x) for x in (0.9, 1, 2)] == [True, False, False]  # an end is not above itself
    assert [one.below(x) for x in (2, 3, 3.1)] == [False, False, True]
    assert [one.holds(x) for x in (0.9, 1, 2, 3, 3.1)] == [False, True, True, True, False]
    assert [one.inside(*ends) for ends in ((1, 3), (0, 4), (1.1, 3), (1, 2.9))] == [True, True, False, False]
    assert [one.overlaps(*ends) for ends in ((0, 0.9), (0, 1), (1.5, 2), (3, 4), (3.1, 4), (0, 9))] == [
        False, True, True, True, False, True]


def test_an_interval_turned_round_and_moved():
    one = st.Interval(2, 1, 4)
    assert -one == (-2, -4, -1)
    assert one.shifted(-1.5) == (0.5, -0.5, 2.5) and isinstance(one.shifted(1), st.Interval)


def test_many_intervals_are_asked_at_once():
    many = st.Interval(*np.array([[0.0, 5], [-1, 4], [1, 6]]))
    assert many.above(2).tolist() == [False, True] and many.below(2).tolist() == [True, False]
    assert many.holds(0).tolist() == many.inside(-1, 1).tolist() == many.overlaps(-3, -1).tolist() == [True, False]
    assert np.array_equal(-many, [[0, -5], [-1, -6], [1, -4]]) and np.array_equal(many.shifted(1).low, [0, 5])


def test_equal_values_give_an_interval_without_width():
    assert st.bootstrap_interval([2, 2, 2], rng=rng()) == (2, 2, 2)
    assert st.t_interval([2, 2, 2]) == (2, 2, 2)
    assert st.hierarchical_bootstrap([2, 2, 2], [0, 0, 1], rng=rng()) == (2, 2, 2)


def test_bca_limits_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="BCa limits are undefined here; try method='percentile'"), pytest.warns():
        st.bootstrap_interval([0, 1, 2, 3], lambda x, axis=None: np.max(x, axis) * 0 + 5, rng=rng())


def test_t_interval_by_hand():
    # 1, 2, 3: mean 2, s = 1, standard error 1 / sqrt(3), t_2(.975) = 4.302653
    assert st.t_interval([1, 2, 3]) == pytest.approx((2, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


def test_mean_interval_leaves_no_seed_out_silently():
    assert st.mean_interval([1, 2, 3]) == st.t_interval([1, 2, 3])
    assert st.mean_interval([1, 2, 3], 0.9) == st.t_interval([1, 2, 3], 0.9)
    assert np.isnan(st.mean_interval([1, np.nan, 3])).all() and np.isnan(st.mean_interval([])).all()
    alone = st.mean_interval([2.0])
    assert alone.estimate == 2 and np.isnan(alone[1:]).all()


def test_t_interval_of_three_normal_values_covers():
    draws = rng("t").normal(size=(1000, 3))
    assert 0.93 < np.mean([covers(st.t_interval(x), 0) for x in draws]) < 0.97


def test_paired_difference_removes_what_the_seed_shares():
    seeds = rng("seeds").normal(0, 10, size=20)
    a, b = seeds + 1 + 0.1 * rng("a").normal(size=20), seeds + 0.1 * rng("b").normal(size=20)
    found = st.paired_difference(a, b, rng=rng())
    assert found.estimate == pytest.approx(np.mean(a - b)) and 0.85 < found.low < 1 < found.high < 1.15


# Nested values -------------------------------------------------------------------------------------------------------

def test_hierarchical_bootstrap_weighs_seeds_equally():
    found = st.hierarchical_bootstrap([0, 0, 0, 0, 3], ["a", "a", "a", "a", "b"], rng=rng())
    assert found == (1.5, 0, 3)  # seed means 0 and 3; resamples hold aa, ab, ba or bb


def test_hierarchical_bootstrap_spreads_as_the_seeds_do():
    # 30 seeds of 50 items: Var = (τ² + σ²/50) / 30 around the seeds, item noise counted once more inside
    values = rng("h").normal(size=(30, 1)) + 0.5 * rng("items").normal(size=(30, 50))
    found = st.hierarchical_bootstrap(values.ravel(), np.repeat(np.arange(30), 50), rng=rng())
    expected = 2 * 1.96 * np.sqrt(values.mean(1).var() / 30 + 0.25 / 50 / 30)
    assert found.high - found.low == pytest.approx(expected, rel=0.06)


def test_hierarchical_coverage_is_right_where_pooling_fails():
    n_seeds, n_items, source = 15, 10, rng("resampling")
    groups = np.repeat(np.arange(n_seeds), n_items)
    noise = rng("nested").normal(size=(200, n_seeds, 1)) + rng("within").normal(size=(200, n_seeds, n_items))
    values = noise.reshape(200, -1)
    nested = [covers(st.hierarchical_bootstrap(x, groups, n_resamples=400, rng=source), 0) for x in values]
    pooled = [covers(st.bootstrap_interval(x, n_resamples=400, rng=source), 0) for x in values]
    assert 0.89 < np.mean(nested) < 0.99 and np.mean(pooled) < 0.75


def test_hierarchical_bootstrap_takes_another_statistic_within_seeds():
    values = [0, 0, 9, 1, 1, 9]
    assert st.hierarchical_bootstrap(values, [0, 0, 0, 1, 1, 1], np.median, rng=rng()).estimate == 0.5


def test_resampling_in_chunks_changes_no_draw(monkeypatch):
    values = np.arange(7.0)
    whole = st._resampled(values, 100, np.mean, rng())
    monkeypatch.setattr(st, "_CHUNK", 40)
    assert np.array_equal(st._resampled(values, 100, np.mean, rng()), whole) and len(whole) == 100


# Permutation tests ---------------------------------------------------------------------------------------------------

def test_sign_flips_by_hand():
    # differences 1, 2, 3: of 8 sign patterns only +++ reaches 6 and only --- reaches -6
    assert st.paired_permutation_test([1, 2, 3], [0, 0, 0], rng=rng()) == (2, 0.25, True)
    # differences 3, -1: of the sums 4, 2, -2, -4 half are at least as far up as 2
    assert st.paired_permutation_test([3, 0], [0, 1], rng=rng()) == (1, 1.0, True)


def test_two_samples_by_hand():
    # {3, 4} against {1, 2}: one of 6 divisions is as far up
    assert st.permutation_test([3, 4], [1, 2], rng=rng()) == (2, pytest.approx(2 / 6), True)


def test_no_difference_is_no_evidence():
    same = [1.0, 2, 3, 4]
    assert st.paired_permutation_test(same, same, rng=rng()) == (0, 1, True)
    assert st.permutation_test(same, same, rng=rng()).p_value == 1


def test_ties_count_as_ties_however_far_from_zero_the_values_lie():
    for test, a, b in [(st.paired_permutation_test, [0, 3, 4, 0, 2, 0], [2, 1, 1, 3, 4, 4]),
                       (st.permutation_test, [3, 0, 1, 0], [1, 1, 3, 2, 0])]:
        a, b = np.array(a), np.array(b)  # in tenths, and a thousand further up, where sums are rounded
        assert test(1000 + a / 10, 1000 + b / 10, rng=rng()).p_value == test(a, b, rng=rng()).p_value


def test_many_pairs_are_sampled_and_agree_with_counting_all():
    a = rng("a").normal(0.6, size=12)
    exact, sampled = (st.paired_permutation_test(a, 0 * a, n_resamples=n, rng=rng()) for n in (4096, 4095))
    assert exact.exact and not sampled.exact
    assert sampled.p_value == pytest.approx(exact.p_value, abs=0.02)


@pytest.mark.parametrize("test", [st.paired_permutation_test, st.permutation_test])
def test_p_values_are_uniform_where_nothing_differs(test):
    draws = rng("null").normal(size=(400, 2, 7))
    p = np.array([test(a, b, n_resamples=200, rng=rng()).p_value for a, b in draws])
    assert 0.02 < np.mean(p <= 0.05) < 0.09 and 0.4 < np.median(p) < 0.6


# Proportions, families, effect sizes ---------------------------------------------------------------------------------

def test_wilson_by_hand():
    z = stats.norm.ppf(0.975)
    centre, half = (0.5 + z * z / 20) / (1 + z * z / 10), z * np.sqrt(0.025 + z * z / 400) / (1 + z * z / 10)
    assert st.proportion_interval(5, 10) == pytest.approx((0.5, centre - half, centre + half))
    assert st.proportion_interval(0, 10) == pytest.approx((0, 0, z * z / (10 + z * z)))
    assert st.proportion_interval(10, 10).high == 1


@pytest.mark.parametrize("successes, n", [(1, 0), (3, 2), (-1, 2), (0.5, 2)])
def test_impossible_proportions_are_refused(successes, n):
    with pytest.raises(ValueError, match=f"0 <= successes <= n and n >= 1, got {successes} of {n}"):
        st.proportion_interval(successes, n)


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 -> x4 x3 x2 x1 = .04 .06 .06 .04 -> running maximum .04 .06 .06 .06
    assert st.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert st.holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert st.holm([0.05]) == pytest.approx([0.05])


def test_holm_agrees_with_statsmodels_and_takes_a_batch_of_families():
    families = rng("families").uniform(size=(20, 9)) ** 2
    families[:, 3] = families[:, 4]  # ties
    expected = [multipletests(p, method="holm")[1] for p in families]
    assert np.allclose(st.holm(families), expected, rtol=1e-14)


@pytest.mark.parametrize("p_values", [[], [0.1, np.nan], [1.2], 0.3])
def test_holm_refuses_what_is_no_family_of_p_values(p_values):
    with pytest.raises(ValueError, match=r"holm needs a list of p-values in \[0, 1\]"):
        st.holm(p_values)


def test_effect_size_by_hand():
    assert st.paired_dz([2, 4, 6], [1, 2, 3]) == pytest.approx(2)  # differences 1, 2, 3: mean 2, sd 1


def test_an_effect_without_spread_is_undefined():
    for a, b in [([2, 2, 2], [1, 1, 1]), (1 + np.array([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3])]:  # but for rounding
        with pytest.raises(ValueError, match="is undefined: there is no spread to divide the difference 1 by"):
            st.paired_dz(a, b)


# What every function refuses -----------------------------------------------------------------------------------------

SINGLE = [
    lambda x: st.bootstrap_interval(x, rng=rng()),
    lambda x: st.t_interval(x),
    lambda x: st.hierarchical_bootstrap(x, np.zeros(len(x)), rng=rng()),
    lambda x: st.paired_difference(x, x, rng=rng()),
    lambda x: st.paired_permutation_test(x, x, rng=rng()),
    lambda x: st.permutation_test([1, 2], x, rng=rng()),
    lambda x: st.paired_dz(x, x),
]


@pytest.mark.parametrize("call", SINGLE)
def test_one_value_and_missing_values_are_refused(call):
    with pytest.raises(ValueError, match=r"must be a list of at least two numbers, got shape \(1,\)"):
        call([1.0])
    with pytest.raises(ValueError, match="has 1 non-finite values"):
        call([1.0, np.nan, 2.0])


@pytest.mark.parametrize("call", [
    lambda a, b: st.paired_difference(a, b, rng=rng()),
    lambda a, b: st.paired_permutation_test(a, b, rng=rng()),
    st.paired_dz,
])
def test_unequal_pairs_are_refused(call):
    with pytest.raises(ValueError, match="paired by seed, got 3 and 2 values"):
        call([1, 2, 3], [1, 2])


def test_one_seed_and_unnamed_seeds_are_refused():
    with pytest.raises(ValueError, match="needs at least two seeds"):
        st.hierarchical_bootstrap([1, 2, 3], [7, 7, 7], rng=rng())
    with pytest.raises(ValueError, match=r"3 values, groups \(2,\)"):
        st.hierarchical_bootstrap([1, 2, 3], [7, 8], rng=rng())
    with pytest.raises(ValueError, match="groups must name the seed of every value"):
        st.hierarchical_bootstrap([1, 2, 3], [7, 8, np.nan], rng=rng())


def test_an_interval_without_ends_is_refused():
    with pytest.raises(ValueError, match="level is a share, such as 0.95, got 95"):
        st.t_interval([1, 2, 3], 95)
    with pytest.raises(ValueError, match=r"a list of at least two numbers, got shape \(1, 3\)"):
        st.mean_interval([[1, 2, 3]])
    hollow = lambda x, axis=None: np.where(np.max(x, axis) > 1, np.nan, 0.0)  # noqa: E731
    with pytest.raises(ValueError, match="the resampled statistic has [0-9]+ non-finite values"):
        st.hierarchical_bootstrap([0, 1, 1, 2], [0, 0, 1, 1], hollow, rng=rng())


@pytest.mark.parametrize("call", [
    lambda r: st.bootstrap_interval([1, 2], rng=r), lambda r: st.paired_difference([1, 2], [0, 0], rng=r),
    lambda r: st.hierarchical_bootstrap([1, 2], [0, 1], rng=r),
    lambda r: st.permutation_test([1, 2], [0, 0], rng=r), lambda r: st.paired_permutation_test([1, 2], [0, 0], rng=r),
])
def test_a_bare_seed_is_no_generator(call):
    with pytest.raises(TypeError, match="rng must be a NumPy Generator, got 0; use lib.rng.numpy_generator"):
        call(0)
