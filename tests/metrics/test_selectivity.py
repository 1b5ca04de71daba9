"""Class preference by hand, by loops over pairs, and what permuted labels and random class means read."""
import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from lib.metrics import selectivity as poly
from lib.metrics.nulls import NullCannotMove
from lib.rng import numpy_generator

LABELS = np.repeat(np.arange(4), 25)


def rng(*labels):
    return numpy_generator(0, "test", "polysemanticity", *labels)


def blind(n_units=6):
    return np.maximum(rng("blind").normal(size=(100, n_units)), 0)


def seeing():
    return blind() + 2 * (LABELS[:, None] == np.arange(6) % 4)


def test_class_means_by_hand():
    codes, labels = np.array([[1.0, 0], [3, 0], [5, 2]]), [0, 0, 1]
    assert poly.class_means(codes, labels).tolist() == [[2, 0], [5, 2]]
    assert poly.class_means(torch.tensor(codes), torch.tensor(labels)).tolist() == [[2, 0], [5, 2]]


def test_auroc_of_each_class_by_hand():
    codes, labels = np.array([[1.0, 0], [3, 0], [2, 0], [3, 1]]), [0, 0, 1, 1]
    # first unit: 1 < 2, 1 < 3, 3 > 2, 3 = 3, so 1.5 pairs of 4; second: half of the pairs with 1, which wins both
    assert poly.class_auroc(codes, labels).tolist() == [[1.5 / 4, 1 / 4], [2.5 / 4, 3 / 4]]


def test_scores_by_hand():
    means = np.array([[1.0, 4, 3, 0], [1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]])  # even, one class, 3:1, silent
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    expected = [0, 1, 1 - entropy / np.log(4), np.nan]
    assert poly.entropy_selectivity(means) == pytest.approx(expected, nan_ok=True)
    assert poly.entropy_selectivity(means, published=True) == pytest.approx([0.2, *expected[1:]], nan_ok=True)
    assert poly.class_selectivity_index(means) == pytest.approx([0, 1, (3 - 1 / 3) / (3 + 1 / 3), np.nan], nan_ok=True)
    assert poly.peak_share(means) == pytest.approx([0.25, 1, 0.75, np.nan], nan_ok=True)
    batch = np.stack([means, means[::-1]])
    assert poly.entropy_selectivity(batch) == pytest.approx(np.array([expected] * 2), nan_ok=True)


def test_the_published_score_takes_relu_and_the_other_refuses_negative_means():
    means = np.array([[3.0], [1], [-5], [-1]])
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert poly.entropy_selectivity(means, published=True) == pytest.approx([1 - entropy / np.log(4)])
    for score in (poly.entropy_selectivity, poly.class_selectivity_index, poly.peak_share):
        with pytest.raises(ValueError, match="negative"):
            score(means)


def test_random_class_means_already_exceed_the_floor():
    limit = ((np.log(2) - np.euler_gamma) / 2 + np.log(2 * np.pi) / 2) / np.log(100)
    assert round(limit, 3) == 0.212
    null = poly.random_means_null(100, 384, 60, rng("means"), published=False)
    assert null.mean() == pytest.approx(0.212, abs=0.001) and null.std() > 0
    floored = poly.random_means_null(100, 384, 60, rng("means"))
    assert null.mean() < floored.mean() < 0.234  # the floor lifts it further


def test_the_floor_hides_a_change():
    r = rng("floor")
    even, uneven = 1 + 0.3 * r.random((100, 200)), 1 + r.random((100, 200))
    assert np.median(poly.entropy_selectivity(uneven) / poly.entropy_selectivity(even)) > 3
    assert (poly.entropy_selectivity(uneven, published=True) == 0.2).all()
    assert (poly.entropy_selectivity(even, published=True) == 0.2).all()
    with pytest.raises(NullCannotMove, match="all draws read 0.2"):
        poly.label_permutation_null(1 + 0.1 * r.random((100, 5)), LABELS,
                                    lambda m: poly.entropy_selectivity(m, published=True), 5, r)


def auroc(codes, labels):
    """Of every class and unit, as the report reads it from mean ranks; [n_classes, n_units]."""
    return poly._auroc(poly.class_means(rankdata(codes, axis=0), labels), np.bincount(labels))


def test_auroc_is_that_of_scikit_learn_ties_included():
    codes = np.round(seeing(), 1)
    codes[:, 5] = 7
    found = auroc(codes, LABELS)
    expected = [[roc_auc_score(LABELS == c, codes[:, u]) for u in range(6)] for c in range(4)]
    assert np.abs(found - expected).max() < 1e-12 and (found[:, 5] == 0.5).all()


def test_auroc_by_hand():
    # class 1 holds 2 and 5 against 1, 2, 3: wins 1.5 and 3 of six pairs
    assert auroc(np.array([[1.0], [2], [3], [2], [5]]), [0, 0, 0, 1, 1])[1] == pytest.approx([4.5 / 6])


@pytest.mark.parametrize("score", [poly.entropy_selectivity, poly.class_selectivity_index, poly.peak_share])
def test_label_permutations_in_batches_are_permutations_one_by_one(score, monkeypatch):
    codes = blind()
    whole = poly.label_permutation_null(codes, LABELS, score, 20, rng("null"))
    monkeypatch.setattr(poly, "_CHUNK", 4 * 100 * 3)  # three permutations at a time
    parts = poly.label_permutation_null(codes, LABELS, score, 20, rng("null"))
    r = rng("null")
    single = [score(poly.class_means(codes, r.permuted(LABELS[None], axis=1)[0])) for _ in range(20)]
    assert whole.shape == (20, 6) and np.abs(whole - single).max() < 1e-12 and np.abs(parts - single).max() < 1e-12
    assert len(np.unique(whole.mean(1))) == 20


def test_report_finds_nothing_in_blind_units_and_much_in_seeing_ones():
    found = poly.selectivity_report(blind(), LABELS, rng=rng("report"))
    assert found["silent"] == 0 and found["n_units"] == 6
    assert max(abs(found[f"{name}_z"]) for name in ("entropy", "index", "peak", "auroc")) < 3
    assert found["auroc_null"] > 0.53  # the best of four classes exceeds .5 by chance
    silent = np.hstack([seeing(), np.zeros((100, 2))])
    found = poly.selectivity_report(silent, LABELS, rng=rng("report"))
    assert found["silent"] == 2 and found["n_units"] == 8
    assert poly.silent_units(silent).tolist() == [False] * 6 + [True] * 2
    assert min(found[f"{name}_z"] for name in ("entropy", "index", "peak", "auroc")) > 8
    assert found["auroc"] == pytest.approx(auroc(seeing(), LABELS).max(0).mean())
    assert found["entropy"] == pytest.approx(poly.entropy_selectivity(poly.class_means(seeing(), LABELS)).mean())


@pytest.mark.parametrize("codes, labels, message", [
    (np.ones((3, 2)), [0, 1], "do not fit"),
    (np.full((3, 2), np.nan), [0, 1, 0], "6 non-finite"),
    (np.ones((3, 2)), [0, 2, 2], "every class of 0..2 needs samples"),
    (np.ones((3, 2)), [-1, 0, 1], "labels must be ints from 0 on, got int64 from -1 on"),
    (np.ones((3, 2)), [0.0, 1.0, 1.0], "labels must be ints from 0 on, got float64"),
])
def test_labels_that_do_not_fit_are_refused(codes, labels, message):
    with pytest.raises(ValueError, match=message):
        poly.class_means(codes, labels)


def test_silent_codes_and_single_classes_are_refused():
    with pytest.raises(ValueError, match="selectivity_report: codes are negative"):
        poly.selectivity_report(rng("negative").normal(1, 1, (100, 3)), np.arange(100) % 4, 5, rng=rng())
    with pytest.raises(ValueError, match="every unit is silent"):
        poly.label_permutation_null(np.zeros((100, 2)), LABELS, poly.peak_share, 5, rng())
    with pytest.raises(ValueError, match="class_auroc needs two classes"):
        poly.class_auroc(np.ones((3, 2)), [0, 0, 0])
    with pytest.raises(ValueError, match="n_classes >= 2"):
        poly.peak_share([[1.0, 2]])
