"""The closed form against the loop over pairs, and the null that a cone of embeddings needs."""
import numpy as np
import pytest
import torch

from lib.metrics.monosemanticity import monosemanticity, monosemanticity_null
from lib.metrics.nulls import NullCannotMove, against_null
from lib.rng import numpy_generator


def rng(*labels: str) -> np.random.Generator:
    return numpy_generator(0, "test", "monosemanticity", *labels)


def by_pairs(activations: np.ndarray, embeddings: np.ndarray) -> float:
    """The published definition, one latent, one pair at a time, activations scaled to [0, 1]."""
    a = (activations - activations.min()) / (activations.max() - activations.min())
    top = bottom = 0.0
    for n in range(len(a)):
        for m in range(n + 1, len(a)):
            e, f = embeddings[n], embeddings[m]
            top += a[n] * a[m] * (e @ f / np.linalg.norm(e) / np.linalg.norm(f))
            bottom += a[n] * a[m]
    return top / bottom


def test_by_hand():
    embeddings = np.array([[1.0, 0], [0, 2], [3, 3]])
    activations = np.array([[1.0, 0, 2], [2, 5, 0], [0, 5, 0]])
    assert monosemanticity(activations, embeddings) == pytest.approx([0, 0.5**0.5, np.nan], nan_ok=True)


def test_closed_form_is_the_loop_over_pairs():
    r = rng("loop")
    activations = np.maximum(r.normal(size=(40, 6)), 0) * r.uniform(0.1, 9, 6) + [0, 0, 0, 0, 2, -3]
    embeddings = r.normal(size=(40, 7)) + 0.5
    expected = [by_pairs(a, embeddings) for a in activations.T]
    assert np.abs(monosemanticity(activations, embeddings) - expected).max() < 1e-12
    assert monosemanticity(torch.tensor(activations), torch.tensor(embeddings)) == pytest.approx(expected)


def test_scale_and_length_do_not_matter():
    r = rng("scale")
    activations, embeddings = r.random((30, 3)), r.normal(size=(30, 4))
    again = monosemanticity(7 * activations + 1, embeddings * r.uniform(1, 5, (30, 1)))
    assert again == pytest.approx(monosemanticity(activations, embeddings), abs=1e-12)


def test_labels_as_embeddings_give_pairs_within_one_class():
    labels = np.eye(2)[[0, 0, 0, 1]]
    assert monosemanticity(np.array([[1.0], [1], [0], [1]]), labels) == pytest.approx([1 / 3])


def test_a_latent_that_never_or_once_fires_has_no_score():
    activations = np.array([[0.0, 0, 3], [0, 1, 3], [0, 0, 3]])  # never, once, always alike
    assert np.isnan(monosemanticity(activations, np.eye(3))).all()


def test_in_a_cone_a_random_latent_reads_high_and_only_the_excess_tells():
    r = rng("cone")
    classes = r.integers(10, size=400)
    embeddings = 3 + r.normal(size=(10, 8))[classes] + 0.1 * r.normal(size=(400, 8))
    blind, seeing = r.random((400, 5)), np.eye(10)[classes][:, :5] * r.random((400, 5))
    null = monosemanticity_null(blind, embeddings, 50, rng("null"))
    assert monosemanticity(blind, embeddings).mean() > 0.85 and null.mean() > 0.85 and null.std() > 0
    assert abs(against_null(monosemanticity(blind, embeddings).mean(), null).z) < 3.5
    null = monosemanticity_null(seeing, embeddings, 50, rng("null"))
    assert against_null(monosemanticity(seeing, embeddings).mean(), null).z > 10


@pytest.mark.parametrize(("activations", "embeddings", "message"), [
    (np.ones((3, 2)), np.ones((4, 2)), r"the same samples, at least two, got \(3, 2\) and \(4, 2\)"),
    (np.ones((3, 2)), np.zeros((3, 2)), "3 embeddings have length 0"),
    (np.full((3, 2), np.inf), np.ones((3, 2)), "activations has 6 non-finite"),
])
def test_what_has_no_cosines_is_refused(activations, embeddings, message):
    with pytest.raises(ValueError, match=message):
        monosemanticity(activations, embeddings)


def test_null_that_cannot_move_is_refused():
    with pytest.raises(NullCannotMove):
        monosemanticity_null(rng().random((9, 2)), np.ones((9, 3)), 5, rng())
    with pytest.raises(ValueError, match="no latent fires on two samples"):
        monosemanticity_null(np.eye(3), np.eye(3), 5, rng())
