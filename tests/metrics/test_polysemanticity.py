"""Silhouettes and the index by hand, and what a cloud, permuted labels and permuted activations read."""
import numpy as np
import pytest

from lib.metrics import polysemanticity as poly
from lib.metrics.nulls import against_null
from lib.rng import numpy_generator

CORNERS = 6 * np.eye(4)


def rng(*labels):
    return numpy_generator(0, "test", "polysemanticity index", *labels)


def samples(n=240):
    """Four classes far apart in eight dimensions, and a unit of the first, one of the first two, one of none."""
    r = rng("samples")
    labels = np.arange(n) % 4
    embeddings = np.hstack([CORNERS[labels], np.zeros((n, 4))]) + r.normal(size=(n, 8))
    strength = 1 + r.random(n)
    return np.stack([strength * (labels == 0), strength * (labels < 2), r.random(n)], 1), embeddings, labels


def test_silhouette_by_hand():
    found = poly.best_clusters(np.array([[0.0], [1], [10], [11]]), (2, 3))
    # two pairs: a is 1; b is 10.5 for the outer points and 9.5 for the inner
    assert found.labels.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0]) and found.n_clusters == 2
    assert found.silhouette == pytest.approx((9.5 / 10.5 + 8.5 / 9.5) / 2)


def test_the_number_of_clusters_is_found_and_a_cloud_has_none_to_find():
    _, embeddings, _ = samples()
    found = poly.best_clusters(embeddings)
    null = poly.silhouette_null(embeddings, 20, rng("cloud"))
    assert found.n_clusters == 4 and null.std() > 0 and against_null(found.silhouette, null).z > 10
    cloud = poly.one_cloud(embeddings, rng("one"))
    assert abs(against_null(poly.best_clusters(cloud).silhouette, null).z) < 3.5
    clouds = np.vstack([poly.one_cloud(embeddings, rng(str(i))) for i in range(40)])  # 9600 draws of one Gaussian
    assert np.abs(np.cov(clouds.T) - np.cov(embeddings.T)).max() < 4 * 2**0.5 * 8.5 / 9600**0.5
    assert np.abs(clouds.mean(0) - embeddings.mean(0)).max() < 4 * 3 / 9600**0.5


def test_a_unit_of_two_classes_is_polysemantic_and_one_of_one_class_is_not():
    activations, embeddings, labels = samples()
    found = poly.polysemanticity_index(activations, embeddings, labels, rng=rng("index"))
    assert found.index == pytest.approx(found.geometry * found.alignment)
    assert found.alignment[:2].tolist() == [0, 1]  # one label tells nothing; two clusters are two labels
    assert found.n_clusters[1:].tolist() == [2, 4]
    strongest = embeddings[np.argsort(-activations[:, 1], kind="stable")[:50]]
    s, chance = poly.best_clusters(strongest).silhouette, poly.silhouette_null(strongest, 40, rng("clouds")).mean()
    assert found.geometry[1] == pytest.approx((s - chance) / (1 - chance), abs=0.05)
    assert found.index[0] == 0 and found.index[1] > 0.25


def test_permuted_labels_tell_nothing():
    activations, embeddings, labels = samples()
    draws = [poly.polysemanticity_index(activations[:, 1:2], embeddings, rng(str(i)).permutation(labels),
                                        rng=rng("clouds"), n=2).alignment[0] for i in range(20)]
    assert np.std(draws) > 0 and np.mean(draws) < 0.05


def test_a_unit_that_never_varies_has_no_top_samples():
    activations, embeddings, labels = samples()
    activations = np.column_stack([activations[:, 0], 0 * activations[:, 0]])
    found = poly.polysemanticity_index(activations, embeddings, labels, rng=rng("silent"), n=2)
    assert np.isnan(found.index).tolist() == np.isnan(found.geometry).tolist() == [False, True]


@pytest.mark.parametrize(("call", "message"), [
    (lambda a, e, y: poly.best_clusters(e[:3]), r"must lie in 2 to 2 for 3 points, got \[2, 3, 4, 5, 6\]"),
    (lambda a, e, y: poly.best_clusters(e * 0), "all points are equal"),
    (lambda a, e, y: poly.best_clusters(np.eye(8)), "or equally far apart"),
    (lambda a, e, y: poly.polysemanticity_index(a, e, y[:9], rng=rng()), "must describe the same samples"),
    (lambda a, e, y: poly.polysemanticity_index(a, e, y, top=6, rng=rng()), "top 6 lie in 7 to their number"),
])
def test_what_has_no_clusters_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*samples())
