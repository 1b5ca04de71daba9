"""Sheets by hand: distances, neighbours, discs; and nulls that a scattered layer must not beat."""
import numpy as np
import pytest
import torch
from scipy import stats

from lib.metrics import topography
from lib.metrics.nulls import NullCannotMove, against_null
from lib.rng import numpy_generator
from lib.topoloss import TopoLoss, sheet_shape

SHEETS = [(8, 16), (16, 24), (5, 7), (1, 13)]


def rng(*labels):
    return numpy_generator(0, "test", "topography", *labels)


def smooth(sheet, width=1.5, n=1, draw="smooth"):
    """Maps blurred over the sheet by a Gaussian of `width` steps, [n, h w]."""
    kernel = np.exp(-np.square(topography.distances(sheet) / width) / 2)
    return rng(draw).normal(size=(n, sheet[0] * sheet[1])) @ kernel


def test_places_run_along_rows():
    assert topography.distances((2, 3))[0].tolist() == [0, 1, 2, 1, 2**0.5, 5**0.5]


def test_mean_pairwise_distance_by_hand():
    # places 0 (0, 0), 2 (0, 2), 3 (1, 0) of a 2 x 3 sheet: distances 2, 1 and sqrt 5
    assert topography.mean_pairwise_distance([0, 2, 3], (2, 3)) == pytest.approx((2 + 1 + 5**0.5) / 3)
    pairs = topography.mean_pairwise_distance([[[0, 1]], [[0, 5]]], (2, 3))
    assert pairs.shape == (2, 1) and pairs.ravel().tolist() == [1, 5**0.5]


def test_random_sets_hold_each_unit_once_and_all_units_alike():
    sets = topography.random_sets(10, 4, 5_000, rng("sets"))
    assert all(len(set(own)) == 4 for own in sets[:200])
    counts = np.bincount(sets.ravel(), minlength=10)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("sheet", SHEETS)
def test_random_sets_are_at_z_zero_and_p_is_uniform(sheet):
    sets = topography.random_sets(sheet[0] * sheet[1], 6, 400, rng("observed"))
    found = topography.colocation(sets, sheet, 2_000, rng=rng("null"))
    assert abs(found.z.mean()) < 0.2 and abs(found.z.std() - 1) < 0.15
    assert found.null.shape == (2_000,) and found.null.std() > 0
    assert abs(found.p_closer.mean() - 0.5) < 0.06 and 0.02 < (found.p_closer < 0.05).mean() < 0.09


def test_a_disc_is_closer_than_every_random_set_and_opposite_edges_are_farther():
    near, edges = topography.disc(60, 16, (8, 16)), np.r_[np.arange(0, 128, 16), np.arange(15, 128, 16)]
    found = topography.colocation(np.stack([near, edges]), (8, 16), rng=rng("null"))
    assert found.z[0] < -5 and found.z[1] > 5
    assert found.p_closer[0] == 1 / 2001 and found.p_closer[1] == 1


def test_equal_distances_count_as_ties():
    found = topography.colocation([[0, 1], [3, 4]], (1, 5), 500, rng=rng("null"))  # 4 of 10 pairs are neighbours
    assert found.p_closer[0] == found.p_closer[1] == pytest.approx(0.4, abs=0.06)


def test_morans_i_by_hand():
    # 1 2 / 3 4 less 2.5: the products along the four edges are .75, .75, -.75, -.75; the squares sum to 5
    y = np.array([-1.5, -0.5, 0.5, 1.5])
    edges = y[0] * y[1] + y[2] * y[3] + y[0] * y[2] + y[1] * y[3]
    assert topography.morans_i([1, 2, 3, 4], (2, 2)) == pytest.approx(4 / 4 * edges / 5)
    assert topography.morans_i([0, 1, 1, 0], (2, 2)) == pytest.approx(-1)  # a chessboard
    line = np.array([0.0, 0, 1, 1]) - 0.5
    assert topography.morans_i([0, 0, 1, 1], (1, 4)) == pytest.approx(4 / 3 * (line[:-1] * line[1:]).sum() / 1)
    assert np.isnan(topography.morans_i(np.full(4, 7.0), (2, 2)))


def test_morans_i_is_the_sum_over_pairs_on_a_sheet_that_is_no_square():
    sheet, y = (3, 5), rng("pairs").normal(size=15)
    near = topography.distances(sheet) == 1
    centred = y - y.mean()
    expected = 15 / near.sum() * (near * np.outer(centred, centred)).sum() / (centred**2).sum()
    assert topography.morans_i(y, sheet) == pytest.approx(expected)
    assert topography.morans_i(np.stack([y, 3 * y + 1]), sheet) == pytest.approx([expected] * 2)


def test_morans_i_of_random_maps_is_minus_one_over_n_less_one_and_smooth_maps_beat_their_null():
    sheet, maps = (8, 16), rng("maps").normal(size=(400, 128))
    assert topography.morans_i(maps, sheet).mean() == pytest.approx(-1 / 127, abs=0.01)
    null = topography.morans_i_null(maps[0], sheet, 500, rng("null"))
    assert null.mean() == pytest.approx(-1 / 127, abs=0.01) and null.std() > 0.03
    assert abs(against_null(float(topography.morans_i(maps[0], sheet)), null).z) < 3
    [blurred] = smooth(sheet)
    assert against_null(float(topography.morans_i(blurred, sheet)), null).z > 8
    assert topography.morans_i_null(maps[:3], sheet, 5, rng()).shape == (5, 3)


def test_a_null_of_constant_maps_or_of_the_whole_sheet_is_refused():
    with pytest.raises(NullCannotMove, match="constant"):
        topography.morans_i_null(np.ones(12), (3, 4), 5, rng())
    with pytest.raises(NullCannotMove, match="as far apart"):
        topography.colocation([np.arange(12)], (3, 4), 50, rng=rng())


def test_correlation_profile_by_hand():
    base = np.array([1.0, -1, 1, -1])
    other = np.array([1.0, 1, -1, -1])
    x = np.stack([base, -base, other, np.zeros(4)], axis=1)  # a row of four; the last is silent
    found = topography.correlation_profile(x, (1, 4), 30, rng=rng("profile"))
    assert found.distance.tolist() == [1, 2]
    assert found.correlation == pytest.approx([(-1 + 0) / 2, 0])
    assert found.null.shape == (30, 2) and found.null.std(0).min() > 0


def test_two_units_have_no_other_arrangement():
    with pytest.raises(NullCannotMove, match="the arrangements drawn all read the same"):
        topography.correlation_profile(rng("pair").normal(size=(9, 2)), (1, 2), 5, rng=rng())


def test_correlation_falls_with_distance_only_where_neighbours_are_alike():
    sheet = (8, 16)
    near = topography.correlation_profile(smooth(sheet, n=300), sheet, 50, rng=rng("a"))
    assert near.correlation[0] > 0.6 and near.correlation[0] > near.null[:, 0].max() + 0.3
    far = topography.correlation_profile(rng("white").normal(size=(300, 128)), sheet, 50, rng=rng("b"))
    assert abs(far.correlation[0] - far.null[:, 0].mean()) < 4 * far.null[:, 0].std()


def test_discs_by_hand():
    assert topography.disc(4, 5, (3, 3)).tolist() == [4, 1, 3, 5, 7]
    assert topography.disc([0, 8], 4, (3, 3)).tolist() == [[0, 1, 3, 4], [8, 5, 7, 4]]
    assert topography.disc(2, 3, (1, 6)).tolist() == [2, 1, 3]  # ties to the lower index


def test_the_sheet_of_the_permuted_loss_is_the_sheet_of_the_metrics():
    topo = TopoLoss(torch.nn.Sequential(torch.nn.Linear(3, 12)), "0", factor=2, permute=1)
    assert sorted(topo.places["0"].tolist()) == list(range(12))
    assert topo.shapes["0"] == sheet_shape(12) == (3, 4)


@pytest.mark.parametrize("what, message", [
    (lambda: topography.distances((0, 3)), "sides of at least 1"),
    (lambda: topography.mean_pairwise_distance([0], (2, 2)), "at least two places"),
    (lambda: topography.mean_pairwise_distance([0.5, 1], (2, 2)), "ints"),
    (lambda: topography.mean_pairwise_distance([0, 4], (2, 2)), "off the 2 x 2 sheet"),
    (lambda: topography.mean_pairwise_distance([[0, 1, 2], [3, 0, 3]], (2, 2)), "a place twice"),
    (lambda: topography.colocation([[0, 1]], (2, 2), 1, rng=rng()), "at least 2 random sets"),
    (lambda: topography.random_sets(3, 4, 1, rng()), "cannot draw 4"),
    (lambda: topography.morans_i(np.ones(5), (2, 2)), r"must be \[..., 4\]"),
    (lambda: topography.morans_i([1, np.nan, 0, 0], (2, 2)), "1 non-finite"),
    (lambda: topography.correlation_profile(np.ones((5, 4)), (2, 2), rng=rng()), "two units that vary"),
    (lambda: topography.disc(9, 2, (3, 3)), "does not fit"),
])
def test_what_does_not_lie_on_the_sheet_is_refused(what, message):
    with pytest.raises(ValueError, match=message):
        what()
