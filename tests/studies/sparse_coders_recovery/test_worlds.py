"""Worlds: what samples are made of, and that the directions given are those samples lie along."""
import pytest
import torch

from lib.data.planted import random_directions
from lib.rng import generator
from lib.studies.sparse_coders_recovery.worlds import (
    bench_law,
    flat_twin,
    near_orthogonal,
    planted_world,
    small_forest,
    small_law,
    toy_world,
)


def test_toy_world_keeps_stored_features_and_reads_the_models_output():
    W = torch.tensor([[1.0, 0.0, -2.0, 0.1], [0.0, 1.0, 0.0, 0.0]])
    b = torch.tensor([0.0, -0.5, 0.0, 0.0])
    world = toy_world(W, b, sparsity=0.5)
    assert world.dictionary.tolist() == [[1, 0], [0, 1], [-1, 0]]
    x, features, other = world.sample(50, generator(0, "s"), 50)
    assert x.shape == (50, 2) and features.shape == (50, 3)
    assert torch.allclose(other, (x @ W + b).relu())
    assert torch.allclose(x[:, 1], features[:, 1])  # feature 3 is not stored and only leans on the first axis
    with pytest.raises(ValueError, match="stores no feature: the longest column is 0"):
        toy_world(torch.zeros(2, 3), torch.zeros(3), sparsity=0.5)


def test_planted_samples_are_sums_of_their_features():
    world = planted_world(small_law(20, 10, False, generator(0, "law")), generator(0, "site"))
    x, features, other = world.sample(200, generator(1, "s"), 150)
    assert features.shape == (150, 20) and (features >= 0).all() and (features != 0).any()
    assert torch.allclose(x[:150], features @ world.dictionary, atol=1e-5)
    assert torch.allclose(other[:150], features @ world.view, atol=1e-5)


def test_signed_features_take_both_signs_along_the_same_directions():
    world = planted_world(small_law(20, 10, False, generator(0, "law")), generator(0, "site"), signed=True)
    x, features, _ = world.sample(400, generator(1, "s"), 400)
    active = features[features != 0]
    assert 0.4 < (active > 0).float().mean() < 0.6
    assert torch.allclose(x, features @ world.dictionary, atol=1e-5)


def test_hierarchy_has_children_only_under_their_parents_and_flat_does_not():
    shape = 20, 10
    tree = planted_world(small_law(*shape, True, generator(0, "law")), generator(0, "site"))
    flat = planted_world(small_law(*shape, False, generator(0, "law")), generator(0, "site"), parent=small_forest(20))
    assert torch.equal(tree.parent, flat.parent) and (tree.parent >= 0).sum() == 12
    below = tree.parent >= 0
    for world, obeys in ((tree, True), (flat, False)):
        on = world.sample(2000, generator(1, "s"), 2000)[1] > 0
        orphans = on[:, below] & ~on[:, world.parent[below]]
        assert bool(orphans.any()) is not obeys


def test_flat_twin_has_the_trees_frequencies_and_no_tree():
    tree = small_law(20, 10, True, generator(0, "law"))
    twin = flat_twin(tree, generator(2, "twin"))
    rates = [(law.sample(50_000, generator(3, "s"))[1] > 0).float().mean(0) for law in (tree, twin)]
    assert torch.allclose(*rates, rtol=0.15) and float(rates[0].sum()) == pytest.approx(float(rates[1].sum()), rel=0.02)
    assert torch.equal(tree.dictionary, twin.dictionary) and (twin.parent < 0).all()


def test_the_published_benchmark_at_its_size():
    made = bench_law(16_384, 768, 128, 3, 5e-4, generator(0, "bench"))
    x, features = made.sample(2048, generator(0, "bench sample"), sparse=True)
    assert x.shape == (2048, 768) and features.shape == (2048, 16_384)
    assert made.probability.max() == pytest.approx(0.4) and made.probability.min() == pytest.approx(5e-4)
    assert len(features.values()) / 2048 == pytest.approx(34, abs=2)
    assert int((made.parent >= 0).sum()) == 128 * 84 and made.factor.shape == (16_384, 25)
    overlap = (made.dictionary[:500] @ made.dictionary.T).abs()
    overlap[range(500), range(500)] = 0
    assert float(overlap.amax(1).mean()) == pytest.approx(0.15, abs=0.01)


def test_bench_law_has_the_laws_frequencies():
    law = bench_law(64, 32, 2, 2, 0.02, generator(0, "law"))
    assert law.exclusive and law.scaled and law.factor.shape == (64, 25)
    assert float(law.probability[0]) == pytest.approx(0.4) and float(law.probability[-1]) == pytest.approx(0.02)
    assert float(law.bias.norm()) == pytest.approx(0.5)


def test_near_orthogonal_reaches_the_welch_bound():
    def overlap(D: torch.Tensor) -> float:
        return float(((D @ D.T).square().sum() - len(D)) / (len(D) * (len(D) - 1)))

    few, many = random_directions(5, 8, generator(0, "few")), random_directions(40, 8, generator(0, "many"))
    assert overlap(near_orthogonal(few)) < 1e-10
    assert overlap(near_orthogonal(many)) == pytest.approx((40 - 8) / (8 * 39), rel=1e-4) and overlap(many) > 0.11
    assert torch.allclose(near_orthogonal(many).norm(dim=1), torch.ones(40))
