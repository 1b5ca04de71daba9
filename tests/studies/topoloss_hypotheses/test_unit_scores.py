"""Scores of units: the published floor, and permuted labels that read the same where nothing is selective."""
import numpy as np
import pytest

from lib.metrics import selectivity as poly
from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses.unit_scores import unit_scores

LABELS = np.arange(300) % 3


def rng(*labels):
    return numpy_generator(0, "test", "unit scores", *labels)


def test_published_scores_are_floored_and_the_others_are_not():
    codes = rng("codes").random((300, 8)) + 1  # positive and blind: all class means alike
    means = unit_scores(codes, codes, LABELS, 10, rng=rng("draws"))
    assert means["published"] == pytest.approx(poly.PUBLISHED_FLOOR) == means["published_null"]
    assert means["entropy"] < 0.01


def test_codes_that_know_a_class_leave_their_null_behind():
    final = rng("final").normal(size=(300, 8))
    codes = np.maximum(final, 0) + 3 * (LABELS[:, None] == np.arange(8) % 3)
    means = unit_scores(final, codes, LABELS, 10, rng=rng("draws"))
    assert means["entropy"] > 5 * means["entropy_null"] and means["auroc"] > 0.9 > means["auroc_null"]
    assert means["monosemanticity"] > 0.5 and means["monosemanticity_null"] == pytest.approx(1 / 3, abs=0.03)


def test_a_score_of_both_signs_reads_as_much_with_permuted_labels():
    final = rng("noise").normal(size=(300, 200))
    means = unit_scores(final, np.abs(final), LABELS, 5, rng=rng("draws"))
    assert means["published"] == pytest.approx(means["published_null"], abs=0.06) and means["published"] > 0.3
