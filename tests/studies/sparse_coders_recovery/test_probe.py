"""The supervised probe: what it reads, what it does not, and what it refuses."""
import numpy as np
import pytest

from lib.metrics.recovery import detection
from lib.rng import numpy_generator
from lib.studies.sparse_coders_recovery.probe import linear_probe


def rng(*labels: str) -> np.random.Generator:
    return numpy_generator(0, "test", "recovery", *labels)


def planted(r: np.random.Generator, n: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    features = (r.random((n, 6)) < 0.2) * r.uniform(0.5, 1, (n, 6))
    directions = rng("directions").normal(size=(6, 12))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return features @ directions + 0.01 * r.normal(size=(n, 12)), features


def test_linear_probe_reads_what_is_linear():
    (x, features), (x_test, features_test) = planted(rng("train")), planted(rng("test"))
    found = detection(linear_probe(x, features > 0, x_test), features_test > 0)
    assert found.f1.min() > 0.97 and found.auc.min() > 0.99
    shuffled = linear_probe(x, rng("shuffle").permutation(features > 0), x_test)
    assert detection(shuffled, features_test > 0).f1.max() < 0.45  # always "active" has 2 x .2 / 1.2 = .33


def test_linear_probe_does_not_depend_on_how_columns_are_chunked(monkeypatch):
    x, features = planted(rng("train"))
    whole = linear_probe(x, features > 0, x)
    monkeypatch.setattr("lib.studies.sparse_coders_recovery.probe._CHUNK", 2 * len(x))
    assert linear_probe(x, features > 0, x) == pytest.approx(whole, abs=1e-12)
    assert detection(whole, features > 0).auc == pytest.approx([1] * 6, abs=0.02)


def test_linear_probe_of_a_feature_that_is_never_active_says_no():
    x, features = planted(rng("train"))
    active = np.hstack([features > 0, np.zeros((len(x), 1), bool)])
    decisions = linear_probe(x, active, x)
    assert not (decisions[:, -1] > 0).any() and decisions.shape == (len(x), 7)


def test_linear_probe_never_cuts_between_equal_scores():
    x = np.array([[0.0], [0], [0], [1]])
    active = np.array([[1], [1], [0], [1]], bool)  # the three zeros stand or fall together: F1 6/7 or 2/4
    assert (linear_probe(x, active, x)[:, 0] > 0).all()
    assert (linear_probe(x, active[::-1], x)[:, 0] > 0).all()


@pytest.mark.parametrize(("x", "active", "message"), [
    (np.eye(3), np.ones((2, 2)), r"x \(3, 3\), active \(2, 2\) and x_test \(3, 3\) do not fit"),
    *((np.full((1000, 3), value), np.eye(1000, 2), "x is the same for every") for value in (0.0, 0.1, 3.7)),
])
def test_what_cannot_be_probed_is_refused(x, active, message):
    with pytest.raises(ValueError, match=message):
        linear_probe(x, active, np.eye(3))
