"""Frequency, emergence, clusters, attribution and splitting by hand, their nulls, and the source's own definitions."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.metrics.nulls import against_null
from lib.rng import numpy_generator
from lib.studies.transformer_saes import attribution, clusters, emergence, frequency, splitting

AXES = np.eye(4)


def rng(*labels):
    return numpy_generator(0, "test", "latents on text", *labels)


def test_frequency_by_hand():
    rates = np.array([[0.0, 0.1, 0.2, 0.3, 0.4], [0.0, 0.2, 0.1, 0.3, 0.4], [0.0, 0.4, 0.3, 0.2, 0.1]])
    found = frequency.report(rates)
    assert found.quartiles == pytest.approx([0.2, 0.7 / 3, 0.8 / 3]) and found.above == 0.8 and found.silent == 0.2
    # over the four that fire: ranks 1234 and 2134, 1 - 6 · 2 / 60 = .8; then 2134 and 4321, 1 - 6 · 18 / 60 = -.8
    assert found.stability == pytest.approx(0) and found.trend == pytest.approx([0, 0])
    assert frequency.report(rates[:2]).stability == pytest.approx(0.8)


def test_frequency_of_one_text_is_stable_beyond_permuted_latents():
    rates = rng("rates").exponential(0.05, 200) * rng("parts").uniform(0.7, 1.3, (3, 200))
    null = frequency.stability_null(rates, 50, rng("null"))
    assert null.std() > 0 and abs(null.mean()) < 0.05
    assert against_null(frequency.report(rates).stability, null).z > 10


def test_the_published_report_is_empty_and_its_stability_is_that_of_two_latents():
    assert frequency.published_report([]) == {
        "high_freq_neurons": 0, "percentiles": [0, 0, 0], "stability": 0, "trends": []}
    history = rng("history").random((6, 50))
    history[:, 1] = 2 * history[:, 0]
    assert frequency.published_report(history)["stability"] == pytest.approx(1)
    assert frequency.report(history).stability < 0.5


def test_births_and_deaths_by_hand():
    half = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]) / [[2**0.5], [1], [1], [1]]
    cosine = emergence.matched_cosines([AXES[[2, 3, 0, 1]], half, AXES])
    assert cosine == pytest.approx(np.array([[1, 1, 1, 1], [0.5**0.5, 1, 1, 1], [1, 1, 1, 1]]))  # traded places count
    rates = np.array([[0.1, 0.1, 0.1, 0.0], [0.1, 0.0, 0.1, 0.1], [0.1, 0.1, 0.0, 0.0]])
    assert emergence.births(cosine, rates, [0, 10, 50]).tolist()[:2] == [50, 0]
    assert np.isnan(emergence.births(cosine, rates, [0, 10, 50])[2:]).all()  # silent in the end
    assert emergence.deaths(rates, [0, 10, 50]) == pytest.approx([np.nan, np.nan, 50, 50], nan_ok=True)
    assert emergence.deaths(rates * 0, [0, 10, 50]).tolist() == [0, 0, 0, 0]


def test_share_of_variance_is_what_leaving_a_latent_out_costs():
    r = rng("variance")
    x, f, W = r.normal(size=(30, 5)), r.random((30, 7)), r.normal(size=(7, 5))
    total = np.square(x - x.mean(0)).sum()

    def fvu(latents):
        return np.square(x - latents @ W).sum() / total

    expected = [fvu(f * (np.arange(7) != j)) - fvu(f) for j in range(7)]
    assert emergence.variance_shares(x, f @ W, f, W) == pytest.approx(expected)


def test_a_latent_that_never_left_its_start_or_hardly_fires_has_learned_nothing():
    start = np.array([[1.0, 0], [0, 2], [1, 0]])
    end = np.array([[0.8, 0.6], [0.1, 1], [0, 1]])  # cosines .8, .995, 0
    assert emergence.learned(start, end, [20, 50, 19]).tolist() == [True, False, False]


def test_what_drives_births():
    births = np.array([0.0, 10, 10, 50, np.nan, 90])
    assert emergence.driver(births, [5, 4, 4, 3, 99, 1]) == pytest.approx(-1)
    r = rng("driver")
    births = np.concatenate([r.choice([0.0, 100, 300, 900], 300), [np.nan] * 20])
    rates = np.exp(-np.nan_to_num(births) / 900 + r.normal(size=320))
    null = emergence.driver_null(births, rates, 200, rng("null"))
    assert null.std() == pytest.approx(1 / 299**0.5, rel=0.2) and abs(null.mean()) < 0.02
    assert against_null(emergence.driver(births, rates), null).z < -2
    with pytest.raises(ValueError, match="more checkpoints tell births apart"):
        emergence.driver(np.zeros(5), np.arange(5.0))
    with pytest.raises(ValueError, match=r"rising steps must fit, got \(2, 3\) and \[5, 1\]"):
        emergence.deaths(np.ones((2, 3)), [5, 1])


def bundles(seed: str, spread: float = 0.1):
    """Forty directions about four axes."""
    return np.repeat(np.eye(8)[:4], 10, 0) + spread * rng("bundles", seed).normal(size=(40, 8))


def test_clusters_agree_where_there_are_some():
    decoder = bundles("a")
    order = rng("order").permutation(40)
    found = clusters.agreement(decoder, decoder[order], range(2, 8))
    assert found.rand == found.cosine == pytest.approx(1) and found.n_clusters == (4, 4)
    null = clusters.permuted_null(found, 50, rng("null"))
    assert null.std() > 0.01 and abs(null.mean()) < 0.03
    noise = clusters.agreement(rng("x").normal(size=(40, 8)), rng("y").normal(size=(40, 8)), range(2, 8))
    assert noise.rand < 0.4 and max(noise.silhouettes) < 0.3 < min(found.silhouettes)


def test_the_adjusted_rand_index_by_hand():
    near = 0.05 * rng("near").normal(size=(2, 6, 3))
    first, second = near[0] + np.eye(3)[[0, 0, 0, 1, 1, 1]], near[1] + np.eye(3)[[0, 0, 1, 1, 1, 1]]
    # pairs together: 4 in both, 6 and 7 in each, of 15; by chance 6 · 7 / 15 = 2.8, at most (6 + 7) / 2
    assert clusters.agreement(first, second, (2, 3)).rand == pytest.approx((4 - 2.8) / (6.5 - 2.8))


def test_published_clusters_are_three_whatever_the_rows():
    for rows in (bundles("a"), rng("rows").normal(size=(30, 6))):
        found = clusters.published_clusters(rows)
        assert len(found) == 3 and len(set(found["feature_clusters"])) == 5
    moved = clusters.published_clusters(rng("rows").normal(size=(30, 6)), seed=1)["feature_clusters"]
    assert (moved != found["feature_clusters"]).any()


def test_attribution_of_a_square_by_hand():
    latents = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)

    def loss(f):
        return (f * torch.tensor([1.0, -2.0, 5.0])).sum(1).square().sum()  # (1 - 4)² + 3² = 18

    # gradient 2 s w with s = (-3, 3): latent 0: -(1 · -6 + 3 · 6) = -12; latent 1: -(2 · 12) = -24
    assert attribution.gradient_times_activation(loss, latents).tolist() == [-12, -24, 0]
    assert attribution.ablation_effects(loss, latents).tolist() == [16 - 18, 1 + 9 - 18, 0]
    assert attribution.ablation_effects(loss, latents, [1]).tolist() == [-8] and not latents.requires_grad
    assert attribution.agreement([-12, -24, 0], [-2, -8, 0]) == 1


def test_gradients_agree_with_ablation_and_the_published_scores_need_not():
    generator = torch.Generator().manual_seed(0)
    latents = torch.rand(60, 40, generator=generator, dtype=torch.float64)
    weight = torch.randn(40, 5, generator=generator, dtype=torch.float64) / 40

    def loss(f):
        return torch.nn.functional.cross_entropy(f @ weight, torch.arange(60) % 5)

    effects = attribution.ablation_effects(loss, latents)
    scores = attribution.gradient_times_activation(loss, latents)
    null = attribution.agreement_null(scores, effects, 100, rng("null"))
    assert null.std() > 0.1 and attribution.agreement(scores, effects) > 0.99
    published = attribution.published_scores(rng("W").normal(size=(40, 5)), latents)
    assert abs(attribution.agreement(published["specificity"], effects)) < 0.5


def test_published_scores_by_hand():
    found = attribution.published_scores([[1, -3], [0, 2]], [[1, 0], [2, 4]])
    assert {name: score.tolist() for name, score in found.items()} == {
        "importance": [2, 1], "sensitivity": [1.5, 2], "specificity": [3, 2]}


def test_splitting_by_hand():
    small, large = AXES[:2], np.array([[1, 0.1, 0, 0], [1, -0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    parent = splitting.parents(small, large)
    assert parent.tolist() == [0, 0, 1, -1] and splitting.split_share(small, large) == 0.5
    own = np.array([[1, 1], [2, 0], [3, 0], [0, 1.0]])
    theirs = np.array([[1, 0, 0, 1], [0, 5, 0, 0], [0, 0, 0, 1], [0, 0, 2.0, 0]])
    assert splitting.inherited(own, theirs, parent).tolist() == [2 / 3, 1 / 2]
    assert np.isnan(splitting.inherited(own, theirs, [0, 0, -1, -1])[1])


def test_a_split_dictionary_stands_out_from_as_many_of_its_own_latents():
    small = rng("small").normal(size=(20, 16))
    large = np.repeat(small, 3, 0) + 0.3 * rng("large").normal(size=(60, 16))
    null = splitting.split_null(small, large, 30, rng("null"))
    assert splitting.split_share(small, large) == 1 and null.std() > 0 and null.mean() < 0.5
    assert splitting.split_share(small, rng("other").normal(size=(60, 16))) == 0
