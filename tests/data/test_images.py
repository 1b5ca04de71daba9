"""The loaders on real data: what is installed here always, what must be downloaded only when asked for."""
import os

import numpy as np
import pytest

from lib import files
from lib.data import images
from lib.data.images import load
from lib.data.registry import DataError
from lib.data.resolve import cache_path

network = pytest.mark.skipif(
    os.environ.get("BOOK_NETWORK_TESTS") != "1", reason="downloads up to 139 MB; set BOOK_NETWORK_TESTS=1 to run it"
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BUILD", tmp_path)


def test_digits():
    x = load("digits")
    assert x.images.shape == (1797, 8, 8) and x.images.dtype == np.uint8 and x.images.max() == x.peak == 16
    assert np.bincount(x.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    np.testing.assert_array_equal(load("digits").images, theirs.images)
    np.testing.assert_array_equal(load("digits").labels, theirs.target)


def test_mnist_5k_is_balanced_and_shuffled_by_its_seed():
    x = load("mnist_5k")
    assert x.images.shape == (5000, 28, 28) and x.images.max() == x.peak == 255
    assert np.bincount(x.labels).tolist() == [500] * 10
    assert np.bincount(x.labels[:500], minlength=10).min() > 20  # a prefix holds every class
    np.testing.assert_array_equal(x.labels, load("mnist_5k").labels)
    other = load("mnist_5k", seed=1)
    assert (x.labels != other.labels).any()
    for one in (x, other):  # the shuffle moves images and labels together
        ones = one.images[one.labels == 1].astype(float)
        zeros = one.images[one.labels == 0].astype(float)
        assert ones[:, 10:18, 12:16].mean() > 2 * zeros[:, 10:18, 12:16].mean()


def test_installed_data_need_no_cache():
    load("digits")
    assert not cache_path("digits").exists()


@pytest.mark.parametrize(("name", "split", "options", "message"), [
    ("mnst", None, {}, "unknown data set 'mnst'; accepted names: cifar10, digits, fashion_mnist, imagenet100, mnist, "),
    ("mnist", "validation", {}, "mnist has no split 'validation'; accepted: train, test"),
    ("imagenet100", "val", {}, "imagenet100 has no split 'val'; accepted: train, test"),
    ("digits", "train", {}, "digits has no split 'train'; accepted: none, it is one set"),
    ("mnist", "test", {"seed": 1}, "mnist takes no seed; accepted options: none"),
    ("imagenet100", None, {"sise": 8}, "imagenet100 takes no sise; accepted options: size, path"),
])
def test_what_cannot_be_loaded_lists_what_can(name, split, options, message):
    with pytest.raises(DataError, match=message):
        load(name, split, **options)


@pytest.mark.parametrize(("split", "first"), [(None, 10), ("train", 10), ("test", 20)])
def test_each_split_is_its_own_and_train_is_the_default(monkeypatch, split, first):
    arrays = {"train_images": np.full((3, 2, 2), 10, np.uint8), "train_labels": np.array([2, 1, 0], np.uint8),
              "test_images": np.full((2, 2, 2), 20, np.uint8), "test_labels": np.array([1, 2], np.uint8)}
    monkeypatch.setattr(images, "resolve", lambda data: arrays)
    x = load("mnist", split)
    assert x.images.flat[0] == first and x.labels.dtype == np.int64 and len(x) == len(x.labels)
    assert (x.name, len(x.classes), x.peak) == ("mnist", 10, 255)


def test_take_keeps_images_and_labels_together():
    x = load("digits")
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
    train, test = load(name, "train"), load(name, "test")
    assert train.images.shape == shape and train.labels[:4].tolist() == first
    assert len(test) == 10_000 and set(test.labels) == set(range(10))
    assert cache_path(name).exists()
