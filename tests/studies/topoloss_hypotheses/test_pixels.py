"""A linear map of the pixels: reads classes that pixels tell linearly, and nothing where labels are permuted."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib.data.images import Images
from lib.studies.topoloss_hypotheses.pixels import linear_accuracy


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    pixels = rng.integers(0, 60, (600, 6, 6))
    pixels[np.arange(600), labels, :] += 120
    return Images("bars", pixels.astype(np.uint8), labels, ("a", "b", "c"), 255)


def test_classes_that_pixels_tell_are_read_and_permuted_labels_are_not(images):
    train, test = images.take(np.arange(300)), images.take(np.arange(300, 600))
    assert linear_accuracy(train, test) == 1
    permuted = replace(train, labels=np.random.default_rng(1).permutation(train.labels))
    assert linear_accuracy(permuted, test) < 0.6
