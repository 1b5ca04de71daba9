"""Discs of a sheet and their scattered equals."""
import numpy as np
import pytest

from lib.metrics import topography
from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses.discs import NoMatch, matched_disc


def rng(*labels):
    return numpy_generator(0, "test", "topography", *labels)


def smooth(sheet, width=1.5):
    """A map blurred over the sheet by a Gaussian of `width` steps, [h w]."""
    kernel = np.exp(-np.square(topography.distances(sheet) / width) / 2)
    return rng("smooth").normal(size=sheet[0] * sheet[1]) @ kernel


def test_a_matched_disc_has_equals_far_apart_and_outside():
    sheet, scores = (8, 16), smooth((8, 16))
    match = matched_disc(scores, 8, sheet, 20, rng=rng("match"))
    assert match.disc.tolist() == topography.disc(match.disc[0], 8, sheet).tolist()
    assert match.scattered.shape == (20, 8) and len(np.unique(match.scattered, axis=0)) == 20
    assert not np.isin(match.scattered, match.disc).any() and all(len(set(own)) == 8 for own in match.scattered)
    units = scores / scores.std()
    assert match.gaps == pytest.approx(units[match.scattered].mean(1) - units[match.disc].mean())
    assert abs(match.gaps).max() <= 0.1
    random = topography.mean_pairwise_distance(topography.random_sets(128, 8, 500, rng("spread")), sheet)
    spread = topography.mean_pairwise_distance(match.scattered, sheet)
    assert spread.min() > np.quantile(random, 0.4) and topography.mean_pairwise_distance(match.disc, sheet) < 2


def test_the_first_disc_with_equals_is_taken_and_rank_counts_those_passed_over():
    scores = np.zeros(128) + 0.1 * rng("flat").random(128)
    scores[topography.disc(0, 8, (8, 16))] = 5  # nothing else is like this corner
    match = matched_disc(scores, 8, (8, 16), 20, rng=rng("match"), tolerance=0.05)
    means = np.sort(scores[topography.disc(np.arange(128), 8, (8, 16))].mean(1))[::-1]
    assert match.rank > 0 and scores[match.disc].mean() == pytest.approx(means[match.rank])
    with pytest.raises(NoMatch, match=f"none of {match.rank} discs of 8 places has 20 scattered sets within 0.05 sd"):
        matched_disc(scores, 8, (8, 16), 20, rng=rng("match"), tolerance=0.05, n_discs=match.rank)


@pytest.mark.parametrize("what, message", [
    (lambda: matched_disc(np.ones(12), 3, (3, 4), rng=rng()), "vary"),
    (lambda: matched_disc(np.arange(12.0), 7, (3, 4), rng=rng()), "half"),
])
def test_what_has_no_disc_is_refused(what, message):
    with pytest.raises(ValueError, match=message):
        what()
