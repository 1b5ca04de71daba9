"""Generated shapes: what is drawn is what the label says, and only that."""
from __future__ import annotations

import numpy as np
import pytest

from lib.data.shapes_colours import BRIGHT, CLASSES, DIM, RADII, atoms, shapes_colours
from lib.rng import numpy_generator


def drawn(n=270, **changes):
    return shapes_colours(n, **{"noise": 0.0, "rng": numpy_generator(0, "shapes"), **changes})


def test_labels_name_shape_colour_and_size_and_classes_are_as_frequent():
    data = drawn()
    assert data.images.shape == (270, 28, 28, 3) and data.images.dtype == np.uint8 and data.classes == CLASSES
    assert (np.bincount(data.labels, minlength=27) == 10).all()
    assert atoms([0, 5, 26]).tolist() == [[0, 0, 0], [0, 1, 2], [2, 2, 2]]
    assert (CLASSES[0], CLASSES[5], CLASSES[26]) == ("small red disc", "large green disc", "large blue triangle")


def test_the_area_of_a_shape_is_that_of_geometry_and_its_colour_is_its_labels():
    data = drawn(540, size=64)
    for label in range(27):
        shape, colour, size = atoms(label)
        side = 2 * RADII[size] * 64
        expected = [np.pi / 4, 1.0, 0.5][shape] * side**2
        own = data.images[data.labels == label]
        assert (own.max((1, 2)) == np.where(np.arange(3) == colour, BRIGHT, DIM)).all()
        assert (own.max(-1) > 0).sum((1, 2)).mean() == pytest.approx(expected, rel=0.1)


def test_shapes_stay_inside_and_move():
    lit = drawn().images.max(-1) > 0
    rows = np.array([np.flatnonzero(image.any(1))[[0, -1]] for image in lit])
    heights = rows[:, 1] - rows[:, 0] + 1
    assert heights.min() >= 6 and rows[:, 0].std() > 2  # the smallest shape is 7.8 pixels high, so none is cut off


def test_the_same_stream_gives_the_same_images_and_noise_stays_in_range():
    a, b, c = drawn(noise=20.0), drawn(noise=20.0), drawn(rng=numpy_generator(1, "shapes"))
    assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
    assert not np.array_equal(a.labels, c.labels)
    assert (a.images[:, 0, 0].max(), drawn().images[:, 0, 0].max()) != (0, 0)  # corners: noise or nothing
    assert len(np.unique(drawn().images)) == 3 < len(np.unique(a.images))


def test_combinations_can_be_held_out():
    data = drawn(without=(4, 13))
    assert set(data.labels) == set(range(27)) - {4, 13}


@pytest.mark.parametrize("wrong", [{"n": 0}, {"size": 7}, {"noise": -1.0}, {"without": range(27)}])
def test_what_cannot_be_drawn_is_refused(wrong):
    with pytest.raises(ValueError, match="shapes_colours needs"):
        drawn(**wrong)
    with pytest.raises(ValueError, match="0..26"):
        atoms([27])
