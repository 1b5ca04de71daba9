"""Discs of a sheet and their scattered equals."""
import numpy as np
import pytest

from lib.metrics import topography
from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses.discs import NoMatch, matched_disc, share_reaching


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
    assert match.score == pytest.approx(units[match.disc].mean())
    assert match.gaps == pytest.approx(units[match.scattered].mean(1) - match.score) and abs(match.gaps).max() <= 0.1
    random = topography.mean_pairwise_distance(topography.random_sets(128, 8, 500, rng("spread")), sheet)
    assert match.spread.min() > np.quantile(random, 0.4) and topography.mean_pairwise_distance(match.disc, sheet) < 2


def test_the_first_disc_with_equals_is_taken_and_rank_counts_those_passed_over():
    scores = np.zeros(128) + 0.1 * rng("flat").random(128)
    scores[topography.disc(0, 8, (8, 16))] = 5  # nothing else is like this corner
    match = matched_disc(scores, 8, (8, 16), 20, rng=rng("match"), tolerance=0.05)
    means = np.sort(scores[topography.disc(np.arange(128), 8, (8, 16))].mean(1))[::-1]
    assert match.rank > 0 and match.score == pytest.approx(means[match.rank] / scores.std())
    with pytest.raises(NoMatch, match=f"none of {match.rank} discs of 8 places has 20 scattered sets within 0.05 sd"):
        matched_disc(scores, 8, (8, 16), 20, rng=rng("match"), tolerance=0.05, n_discs=match.rank)


def test_scattered_sets_that_share_units_make_the_disc_rank_first_too_often():
    """Unit effects unrelated to place or score: a p-value would be below 1/21 in one of 21, the rank is not one."""
    first, r = [], rng("shared")
    for i in range(12):
        match = matched_disc(smooth((8, 16)) if not i else r.normal(size=128), 8, (8, 16), 20, rng=r)
        for effects in np.exp(r.normal(size=(40, 128))):
            first.append(share_reaching(effects[match.disc].sum(), effects[match.scattered].sum(1)) == 0)
    assert np.mean(first) > 1.5 / 21
    assert share_reaching(3.0, [1, 2, 3, 4]) == 0.5 and share_reaching(9.0, np.arange(4)) == 0


@pytest.mark.parametrize("what, message", [
    (lambda: matched_disc(np.ones(12), 3, (3, 4), rng=rng()), "vary"),
    (lambda: matched_disc(np.arange(12.0), 7, (3, 4), rng=rng()), "half"),
    (lambda: share_reaching(1.0, []), "share_reaching needs the effects"),
])
def test_what_has_no_disc_is_refused(what, message):
    with pytest.raises(ValueError, match=message):
        what()
