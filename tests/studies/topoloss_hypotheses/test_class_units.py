"""Units of a class: profiles and effects worked out by hand in a linear model, and nan where nothing is matched."""
import numpy as np
import pytest
import torch
from torch import nn

from lib.activations.patching import patch_effects
from lib.activations.sites import open_site, other_class_means
from lib.metrics.topography import disc
from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses import class_units
from lib.studies.topoloss_hypotheses.discs import matched_disc

LABELS = torch.tensor([0, 0, 1, 1])


def rng(*labels):
    return numpy_generator(0, "test", "class units", *labels)


def linear_site(images, head):
    """Units copy the image, logits = head @ units."""
    model = nn.Sequential(nn.Identity(), nn.Linear(head.shape[1], len(head), bias=False)).eval()
    model[1].weight.data = head
    return open_site(model, "0", images, LABELS)


def test_a_profile_is_the_contrast_and_the_class_means_of_the_same_activity():
    images = torch.tensor([[1.0, 2, 5], [3, 2, 5], [0, 4, 5], [0, 0, 5]])
    found = class_units.unit_profile(linear_site(images, torch.eye(2, 3)))
    assert found.activity.tolist() == images.tolist() and found.means.tolist() == [[2, 2, 5], [0, 2, 5]]
    first = 2 / np.std([1, 3, 0, 0])
    assert found.contrast == pytest.approx(np.array([[first, 0, 0], [-first, 0, 0]]))


def test_the_published_ratio_selects_at_the_end_of_the_model_and_a_random_set_reads_one():
    n = 6
    images = torch.zeros(4, n)
    images[:2, :2], images[2:, 2:4] = 1.0, 1.0  # units 0, 1 are class 0's, 2, 3 class 1's; 4 and 5 never act
    site = linear_site(images, torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]))
    values = other_class_means(site)
    with np.errstate(divide="ignore"):  # a random set of silent units has no effect
        found = class_units.published_patching(site, values, images.numpy(), 2, (2, 3), rng=rng("published"))
    assert found.published_distance.tolist() == [1, pytest.approx(np.sqrt(5))]  # places 0-1, and 2-3 a row apart
    shifted = np.roll(images.numpy(), 4, axis=1)  # the end of the model points at units without any effect
    with np.errstate(invalid="ignore", divide="ignore"):
        elsewhere = class_units.published_patching(site, values, shifted, 2, (2, 3), rng=rng("published"))
        narrow = class_units.published_patching(site, values, np.ones((4, 9)), 2, (2, 3), rng=rng("published"))
    assert elsewhere.published_ratio[0] == 0 or np.isnan(elsewhere.published_ratio[0])
    assert not found.published_ratio[0] < 1
    assert narrow.published_distance.tolist() == found.published_distance.tolist()  # selected at the site instead


def equal_site(gain):
    """16 x 16 units of equal activity, read out with `gain` on the units of one disc."""
    own = disc(np.array([40]), 8, (16, 16))[0]
    head = torch.ones(2, 256)
    head[0, torch.from_numpy(own)] = gain
    images = torch.cat([torch.ones(2, 256), torch.zeros(2, 256)])
    scores = numpy_generator(0, "test", "class units", "scores").normal(0, 0.1, (2, 256))
    scores[0, own] += 1.5
    scores[0, numpy_generator(1, "test", "class units", "scattered").choice(256, 60, replace=False)] += 1.5
    return linear_site(images, head), scores, own


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_a_disc_carries_what_its_own_units_do_beyond_scattered_equals(gain):
    site, scores, _ = equal_site(gain)
    found = class_units.disc_effects(site, other_class_means(site), scores, 8, (16, 16), 5, rng=rng("disc"))
    row, values = found.iloc[0], other_class_means(site)
    match = matched_disc(scores[0], 8, (16, 16), 5, rng=rng("disc"), tries=50, n_discs=8)
    own, *apart = patch_effects(site, np.stack([match.disc, *match.scattered]), values, 0)
    assert row.log_disc == pytest.approx(np.log(own) - np.log(apart).mean())  # the mean of logs
    assert row.scattered >= 8 - 1e-6 and row.log_disc == pytest.approx(np.log(row.disc / row.scattered), abs=0.1)
    if gain == 1:
        assert row.disc == pytest.approx(8) and row.log_disc == pytest.approx(0)
    else:
        assert row.disc > row.scattered


def test_a_class_whose_disc_has_no_scattered_equals_is_nan():
    site, scores, own = equal_site(1.0)
    scores[1] = 0.01 * scores[1]
    scores[1, own] = 100.0  # nothing scattered reaches this disc; the discs about it have equals again
    values = other_class_means(site)
    first, more = (
        class_units.disc_effects(site, values, scores, 8, (16, 16), 5, rng=rng("nan"), n_discs=n) for n in (1, 8)
    )
    assert first.iloc[1].isna().all() and more.notna().all(axis=None) and len(first) == 2
