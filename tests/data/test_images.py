"""The loaders on real data: what is installed here always, what must be downloaded only when asked for."""
import os

import numpy as np
import pytest

from lib import files
from lib.data import images
from lib.data.registry import DataError
from lib.data.resolve import cache_path

network = pytest.mark.skipif(
    os.environ.get("BOOK_NETWORK_TESTS") != "1", reason="downloads up to 139 MB; set BOOK_NETWORK_TESTS=1 to run it"
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BUILD", tmp_path)


def test_digits():
    x = images.digits()
    assert x.images.shape == (1797, 8, 8) and x.images.dtype == np.uint8 and x.images.max() == x.peak == 16
    assert np.bincount(x.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    np.testing.assert_array_equal(images.digits().images, theirs.images)
    np.testing.assert_array_equal(images.digits().labels, theirs.target)


def test_mnist_5k_is_balanced_and_shuffled_by_its_seed():
    x = images.mnist_5k()
    assert x.images.shape == (5000, 28, 28) and x.images.max() == x.peak == 255
    assert np.bincount(x.labels).tolist() == [500] * 10
    assert np.bincount(x.labels[:500], minlength=10).min() > 20  # a prefix holds every class
    np.testing.assert_array_equal(x.labels, images.mnist_5k().labels)
    other = images.mnist_5k(seed=1)
    assert (x.labels != other.labels).any()
    for one in (x, other):  # the shuffle moves images and labels together
        ones = one.images[one.labels == 1].astype(float)
        zeros = one.images[one.labels == 0].astype(float)
        assert ones[:, 10:18, 12:16].mean() > 2 * zeros[:, 10:18, 12:16].mean()


def test_installed_data_need_no_cache():
    images.digits()
    assert not cache_path("digits").exists()


def test_wrong_split_lists_the_accepted_ones():
    with pytest.raises(DataError, match="mnist has no split 'validation'; accepted: train, test"):
        images.mnist("validation")


def test_take_keeps_images_and_labels_together():
    x = images.digits()
    index = np.array([5, 3])
    part = x.take(index)
    assert len(part) == 2 and part.labels.tolist() == x.labels[index].tolist()
    np.testing.assert_array_equal(part.images, x.images[index])


@network
@pytest.mark.parametrize(("name", "shape", "first"), [
    ("mnist", (60_000, 28, 28), [5, 0, 4, 1]),
    ("fashion_mnist", (60_000, 28, 28), [9, 0, 0, 3]),
    ("cifar10", (50_000, 32, 32, 3), [6, 9, 9, 4]),
])
def test_real_download(name, shape, first):
    train, test = getattr(images, name)("train"), getattr(images, name)("test")
    assert train.images.shape == shape and train.labels[:4].tolist() == first
    assert len(test) == 10_000 and set(test.labels) == set(range(10))
    assert cache_path(name).exists()
