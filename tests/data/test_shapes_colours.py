"""Generated shapes: what is drawn is what the label says, and only that."""
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from lib.data.shapes_colours import BRIGHT, CLASSES, COLOURS, DIM, RADII, SHAPES, atoms, classes, names, shapes_colours
from lib.rng import numpy_generator

AREAS = {"disc": np.pi / 4, "square": 1, "triangle": 1 / 2, "diamond": 1 / 2, "ring": np.pi / 4 * (1 - 0.44**2),
         "cross": 5 / 9, "hexagon": 3 * 3**0.5 / 8}
"""Of the square round the shape."""


def drawn(n=270, **changes):
    return shapes_colours(n, **{"noise": 0.0, "jitter": 0.0, "rng": numpy_generator(0, "shapes"), **changes})


def test_labels_name_shape_colour_and_size_and_classes_are_as_frequent():
    data = drawn()
    assert data.images.shape == (270, 28, 28, 3) and data.images.dtype == np.uint8 and data.classes == CLASSES
    assert (np.bincount(data.labels, minlength=27) == 10).all()
    assert atoms([0, 5, 26]).tolist() == [[0, 0, 0], [0, 1, 2], [2, 2, 2]]
    assert (CLASSES[0], CLASSES[5], CLASSES[26]) == ("small red disc", "large green disc", "large blue triangle")


def test_two_to_eight_of_each_can_be_drawn_and_labels_count_through_them():
    counts = (8, 8, 2)
    assert len(classes(counts)) == 128 and atoms([0, 3, 127], counts).tolist() == [[0, 0, 0], [0, 1, 1], [7, 7, 1]]
    assert names(counts)[2] == ("small", "large") and names((2, 2, 4))[2][3] == "size 4"
    data = drawn(128, counts=counts)
    assert sorted(data.labels) == list(range(128)) and data.classes[127] == "large orange hexagon"


@pytest.mark.parametrize("shape", AREAS)
def test_the_area_of_a_shape_is_that_of_geometry(shape):
    """The sum of the covered shares of pixels is the area, to the pixel's own edge error."""
    counts, kind = (8, 2, 3), SHAPES.index(shape)
    others = [label for label in range(48) if atoms(label, counts)[0] != kind or atoms(label, counts)[1]]
    data = drawn(90, size=64, counts=counts, without=others)
    red = data.images[..., 0].astype(float).sum((1, 2)) / BRIGHT
    side = 2 * np.geomspace(*RADII, 3)[atoms(data.labels, counts)[:, 2]] * 64
    assert red == pytest.approx(AREAS[shape] * side**2, rel=0.04)


def test_a_colour_is_its_labels_and_edges_are_shaded():
    data = drawn(64 * 2, size=64, counts=(2, 8, 2))
    for label in range(32):
        brightest = data.images[data.labels == label].max((1, 2))
        wanted = DIM + (BRIGHT - DIM) * np.array(list(COLOURS.values())[atoms(label, (2, 8, 2))[1]])
        assert (brightest == wanted).all()
    assert len(np.unique(data.images)) > 20  # between black and the colour


def test_shapes_stay_inside_and_move():
    lit = drawn().images.max(-1) > 0
    rows = np.array([np.flatnonzero(image.any(1))[[0, -1]] for image in lit])
    heights = rows[:, 1] - rows[:, 0] + 1
    assert heights.min() >= 7 and rows[:, 0].std() > 2  # the smallest shape is 7.8 pixels high, so none is cut off


def test_jitter_spreads_size_and_brightness_by_as_much_as_it_says():
    one = [label for label in range(27) if label != 11]  # large red square
    still, moved = (drawn(400, size=64, without=one, jitter=j).images[..., 0].astype(float) for j in (0.0, 0.08))
    assert np.ptp(still.max((1, 2))) == 0
    bright, side = moved.max((1, 2)) / BRIGHT, (moved.sum((1, 2)) / moved.max((1, 2))) ** 0.5 / (2 * RADII[1] * 64)
    for found in (bright, side):
        assert found.min() == pytest.approx(0.92, abs=0.005) and found.max() == pytest.approx(1.08, abs=0.005)


def test_the_same_stream_gives_the_same_images_and_noise_stays_in_range():
    a, b, c = drawn(noise=20.0), drawn(noise=20.0), drawn(rng=numpy_generator(1, "shapes"))
    assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
    assert not np.array_equal(a.labels, c.labels)
    dark = a.images[:, 0, 0].astype(float)
    assert dark.max() < 100 and 0 < dark.mean() < 20


def test_combinations_can_be_held_out():
    data = drawn(without=(4, 13))
    assert set(data.labels) == set(range(27)) - {4, 13}


def test_twenty_four_thousand_images_fit_in_two_hundred_megabytes():
    tracemalloc.start()
    data = shapes_colours(24_000, rng=numpy_generator(0, "many"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.images.nbytes < peak < 200e6


@pytest.mark.parametrize("wrong", [{"n": 0}, {"size": 7}, {"noise": -1.0}, {"without": range(27)}, {"jitter": 0.1}])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match="shapes_colours needs"):
        drawn(**wrong)
    with pytest.raises(ValueError, match=r"0\.\.26"):
        atoms([27])


@pytest.mark.parametrize("counts", [(1, 3, 3), (3, 9, 3), (3, 3)])
def test_counts_that_there_are_none_of_are_refused(counts):
    with pytest.raises(ValueError, match="counts: 2 to 8 shapes"):
        drawn(counts=counts)
