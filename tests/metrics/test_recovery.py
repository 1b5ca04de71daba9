"""Recovery of known features by hand, its nulls, and what |cosine| and low recall would hide."""
import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from lib.metrics.nulls import NullCannotMove
from lib.metrics.recovery import (
    absorption,
    against_random_dictionary,
    cosines,
    detection,
    match_features,
    matched_scores,
    mmcs,
    random_dictionary_null,
    recovery_at,
    uniqueness,
)
from lib.rng import numpy_generator

EYE = np.eye(3)


def rng(*labels: str) -> np.random.Generator:
    return numpy_generator(0, "test", "recovery", *labels)


def unit(n: int, d: int, r: np.random.Generator) -> np.ndarray:
    rows = r.normal(size=(n, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_matching_by_hand():
    decoder = np.array([[0, 3, 4], [2, 0, 0], [0, 5, 0], [0, 0, 0]])  # rows of any length, one of none
    assert cosines(EYE, decoder).tolist() == [[0, 1, 0, 0], [0.6, 0, 1, 0], [0.8, 0, 0, 0]]
    found = match_features(EYE, decoder)
    assert found.latent.tolist() == [1, 2, 0] and found.similarity == pytest.approx([1, 1, 0.8])
    assert recovery_at(found.similarity) == pytest.approx(2 / 3) and recovery_at(found.similarity, 0.8) == 1


def test_matching_is_one_to_one_where_nearest_is_not():
    dictionary = np.array([[1, 0], [0.8, 0.6]])
    decoder = np.array([[1, 0.1], [0.9, -0.4]])  # the first is nearest to both, .995 + .487 < .914 + .856
    assert cosines(dictionary, decoder).argmax(1).tolist() == [0, 0]
    assert match_features(dictionary, decoder).latent.tolist() == [1, 0]
    assert uniqueness(dictionary, decoder) == 0.5 and uniqueness(EYE, EYE[::-1]) == 1


def test_permutation_is_recovered_in_float32_and_torch():
    D, order = unit(40, 10, rng("permutation")), rng("order").permutation(40)
    found = match_features(torch.tensor(D, dtype=torch.float32), torch.tensor(3 * D[order], requires_grad=True))
    assert (order[found.latent] == np.arange(40)).all() and found.similarity == pytest.approx(np.ones(40))
    assert mmcs(torch.tensor(D).bfloat16(), D) == pytest.approx(1, abs=1e-3)


def test_absolute_cosine_calls_an_antipodal_pair_recovered_by_one_direction():
    pair = np.array([[1.0, 0], [-1, 0]])
    one_direction = np.array([[1.0, 0], [1, 0]])
    unsigned, signed = match_features(pair, one_direction, signed=False), match_features(pair, one_direction)
    assert recovery_at(unsigned.similarity) == 1 and sorted(unsigned.sign) == [-1, 1]
    assert recovery_at(signed.similarity) == 0.5 and sorted(signed.similarity) == [-1, 1]
    assert mmcs(pair, one_direction) == 0 and mmcs(pair, pair) == 1


def test_too_few_latents_leave_features_unmatched():
    found = match_features(EYE, EYE[2:])
    assert found.latent.tolist() == [-1, -1, 0] and found.similarity.tolist() == [0, 0, 1]
    assert found.sign.tolist() == [0, 0, 1] and recovery_at(found.similarity) == pytest.approx(1 / 3)
    assert matched_scores(np.array([[7.0]]), found).tolist() == [[0, 0, 7]]


def test_mean_max_cosine_has_two_directions():
    decoder = np.array([[1.0, 0, 0], [0, 1, 1]])
    assert mmcs(EYE, decoder) == pytest.approx((1 + 2 * 0.5**0.5) / 3)
    assert mmcs(decoder, EYE) == pytest.approx((1 + 0.5**0.5) / 2)


def test_random_directions_already_score_three_quarters():
    D = unit(20, 5, rng("dictionary"))
    null = random_dictionary_null(D, 20, rng("null"), n=300)
    assert 0.75 < null.mean() < 0.78
    found = against_random_dictionary(D, D, rng("null"), n=300)
    assert found.excess == pytest.approx(1 - null.mean()) and found.z > 5 and found.p_value < 0.01
    assert abs(against_random_dictionary(D, unit(20, 5, rng("other")), rng("null")).z) < 3.5


def test_null_of_recovery_in_many_dimensions_cannot_move_but_the_matched_cosine_does():
    D = unit(20, 30, rng("wide"))
    with pytest.raises(NullCannotMove):
        random_dictionary_null(D, 20, rng(), 5, lambda a, b: recovery_at(match_features(a, b).similarity))
    null = random_dictionary_null(D, 20, rng(), 20, lambda a, b: match_features(a, b).similarity.mean())
    assert null.std() > 0 and 0.1 < null.mean() < 0.5


def test_detection_by_hand():
    active = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
    scores = np.array([[2.0, 0], [0, 0], [1, 0], [0, 0]])
    found = detection(scores, active)
    assert found.precision == pytest.approx([0.5, np.nan], nan_ok=True)
    assert found.recall.tolist() == [0.5, 0] and found.f1.tolist() == [0.5, 0]
    assert found.auc.tolist() == [0.625, 0.5]  # 2 beats 1 and 0; 0 loses to 1 and ties with 0: 2.5 of 4
    constant = detection(np.zeros((3, 1)), np.zeros((3, 1), bool))
    assert all(np.isnan(value).all() for value in constant)


@pytest.mark.parametrize("columns", [2, 7])
def test_detection_agrees_with_scikit_learn(columns, monkeypatch):
    monkeypatch.setattr("lib.metrics.recovery._CHUNK", 300 * columns)
    r = rng("sklearn")
    active = r.random((300, 7)) < 0.3
    scores = np.round(np.maximum(r.normal(size=(300, 7)) + active, 0), 1)  # many ties
    found = detection(torch.tensor(scores), torch.tensor(active))
    for i in range(7):
        precision, recall, f1, _ = precision_recall_fscore_support(active[:, i], scores[:, i] > 0, average="binary")
        expected = (precision, recall, f1, roc_auc_score(active[:, i], scores[:, i]))
        assert [value[i] for value in found] == pytest.approx(expected)


def test_unsigned_matching_turns_the_latents_it_matched_to_an_antipode():
    decoder = np.array([[-1.0, 0], [0, 1]])
    found = match_features(np.eye(2), decoder, signed=False)
    assert matched_scores(np.array([[-3.0, 2]]), found).tolist() == [[3, 2]]


def test_absorption_by_hand():
    parent = np.array([-1, 0, 0])
    #                   absorbed    both fire   missed      no child    child off   inactive
    features = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    scores = np.array([[0, 2, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0], [0, 5, 0], [0, 0, 0]])
    found = absorption(scores, features, parent)
    assert found.score[0] == 1 / 5  # a child's latent firing without its feature does not speak for the parent
    assert found.with_child[0] == 1 / 2 and found.alone[0] == pytest.approx(2 / 3)
    assert np.isnan(found.score[1:]).all()


def test_a_weak_latent_is_silent_but_not_absorbed():
    r = rng("absorption")
    features = np.ones((20_000, 2)) * (r.random((20_000, 2)) < [1, 0.5])
    weak = absorption(features * (r.random((20_000, 2)) < [0.7, 1]), features, [-1, 0])
    absorbed = absorption(features * np.column_stack([features[:, 1] == 0, np.ones(20_000)]), features, [-1, 0])
    assert weak.score[0] == pytest.approx(0.15, abs=0.02) and abs(weak.with_child[0] - weak.alone[0]) < 0.03
    assert absorbed.score[0] == pytest.approx(0.5, abs=0.02) and absorbed.with_child[0] == 1 and absorbed.alone[0] == 0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.float32])
def test_a_latent_that_points_away_scores_below_0_in_every_type(dtype):
    matching = match_features(EYE, -EYE, signed=False)
    assert matched_scores(np.eye(3).astype(dtype), matching).tolist() == (-EYE).tolist()


@pytest.mark.parametrize(("call", "message"), [
    (lambda: mmcs(np.eye(2), np.eye(3)), r"rows of one width, got \(2, 2\) and \(3, 3\)"),
    (lambda: match_features(np.zeros(3), EYE), r"dictionary must be a matrix .* got shape \(3,\)"),
    (lambda: match_features(EYE, EYE * np.nan), "decoder has 9 non-finite values"),
    (lambda: detection(np.zeros((2, 3)), np.zeros((3, 2))), r"one shape and samples, got \(2, 3\), \(3, 2\)"),
    (lambda: detection(np.full((2, 3), np.nan), np.zeros((2, 3))), "scores has 6 non-finite values"),
    (lambda: absorption(EYE, EYE, [-1, -1, -1]), "no feature has a parent"),
    (lambda: absorption(EYE, EYE, [-1, 0]), "do not fit together"),
    (lambda: absorption(EYE, EYE, [-1, 0, 3]), "a parent among the features, by its number"),
    (lambda: absorption(EYE, EYE, [-1.0, 0, 0]), "a parent among the features, by its number"),
    (lambda: absorption(EYE * np.nan, EYE, [-1, 0, 0]), "scores has 9 non-finite values"),
    (lambda: detection(np.zeros((0, 3)), np.zeros((0, 3))), r"one shape and samples, got \(0, 3\)"),
    (lambda: recovery_at([1.0, np.nan]), "similarity has 1 non-finite values"),
])
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
