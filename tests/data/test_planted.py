"""Planted dictionaries: the law asked for is the law that comes out."""
import pytest
import torch

from lib.data.planted import (
    Planted,
    forest,
    low_rank_factor,
    planted,
    random_directions,
    zipf,
)
from lib.rng import generator

N = 20_000


def rng(*labels: str) -> torch.Generator:
    return generator(0, "test", "planted", *labels)


def within(rate: torch.Tensor, p: torch.Tensor, n: int = N) -> bool:
    return bool(((rate - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-12).all())


def tree(**law) -> Planted:
    """Four trees of 3 children to depth 2, and 8 features outside."""
    n = 60
    return planted(random_directions(n, 12, rng("tree")), zipf(n, 0.5, 0.5, 0.02), parent=forest(n, 4, 3, 2), **law)


def test_samples_are_their_features_times_the_dictionary():
    made = tree(mean=2.0, std=0.5, bias=torch.arange(12.0))
    x, features = made.sample(500, rng("sum"))
    assert x.shape == (500, 12) and features.shape == (500, 60) and x.dtype == features.dtype == torch.float32
    assert torch.allclose(x, features @ made.dictionary + torch.arange(12.0), atol=1e-4)
    assert torch.allclose(made.dictionary.norm(dim=1), torch.ones(60))


@pytest.mark.parametrize("scaled", [False, True])
def test_frequencies_are_those_asked_for_and_l0_is_their_sum(scaled):
    made = tree(scaled=scaled)
    active = (made.sample(N, rng("rates"))[1] > 0).double()
    assert within(active.mean(0), made.probability.double())
    assert float(active.sum(1).mean()) == pytest.approx(float(made.probability.sum()), rel=0.02)


def test_a_child_fires_only_with_its_parent_and_often_enough():
    made = tree(factor=low_rank_factor(60, 5, 0.2, rng("factor")), mean=1.0, std=1.0)
    features = made.sample(N, rng("implication"))[1]
    below = made.parent >= 0
    assert not ((features[:, below] > 0) & (features[:, made.parent[below]] == 0)).any()
    assert (features[:, below] > 0).any(0).all()


def test_exclusive_siblings_never_fire_together():
    features = tree(exclusive=True).sample(N, rng("exclusive"))[1]
    parent = forest(60, 4, 3, 2)
    together = torch.stack([(features[:, parent == p] > 0).sum(1) for p in range(16)])
    assert int(together.max()) == 1
    crowded = tree().sample(N, rng("exclusive"))[1]
    assert int((crowded[:, parent == 0] > 0).sum(1).max()) == 3


def test_exclusive_siblings_share_evenly_what_their_parent_has():
    made = planted(torch.eye(4), torch.tensor([1.0, 0.9, 0.9, 0.9]), parent=torch.tensor([-1, 0, 0, 0]), exclusive=True)
    assert made.firing.tolist() == [1, 1, 1, 1]
    rates = (made.sample(N, rng("even"))[1] > 0).double().mean(0)
    assert within(rates[1:], torch.full((3,), 1 / 3)) and float(rates[1:].sum()) == pytest.approx(1)


def test_children_scale_with_their_parent():
    made = planted(torch.eye(3), 0.5, parent=torch.tensor([-1, 0, -1]), scaled=True, mean=torch.tensor([2.0, 3, 1]),
                   std=torch.tensor([0.4, 0, 0]))
    features = made.sample(2000, rng("scaled"))[1]
    both = features[features[:, 1] > 0]
    assert torch.allclose(both[:, 1], both[:, 0] / 2 * 3) and float(both[:, 0].std()) == pytest.approx(0.4, rel=0.1)


def test_correlations_are_those_of_the_factor():
    loadings = torch.tensor([[0.9], [0.9], [-0.9], [0.0]])
    active = (planted(torch.eye(4), 0.5, factor=loadings).sample(N, rng("copula"))[1] > 0).double()
    assert within(active.mean(0), torch.full((4,), 0.5))
    # two Gaussians of correlation c are both positive with probability 1/4 + arcsin(c) / 2π
    expected = 4 * torch.tensor([0.81, -0.81, 0.0]).asin() / (2 * torch.pi)
    correlation = torch.corrcoef(active.T)
    assert torch.allclose(correlation[0, 1:], expected.double(), atol=0.04)


def test_children_correlate_with_each_other_and_with_other_trees():
    loadings = torch.tensor([[0.0], [0.9], [0.9], [-0.9]])  # a parent that always fires, two children, an outsider
    p, parent = torch.tensor([1.0, 0.5, 0.5, 0.5]), torch.tensor([-1, 0, 0, -1])
    made = planted(torch.eye(4), p, parent=parent, factor=loadings)
    active = (made.sample(N, rng("related"))[1] > 0).double()
    expected = 4 * torch.tensor([0.81, -0.81]).asin() / (2 * torch.pi)
    assert torch.allclose(torch.corrcoef(active[:, 1:].T)[0, 1:], expected.double(), atol=0.04)


def test_low_rank_shows_in_the_spectrum_of_correlations():
    def spectrum(rank: int) -> torch.Tensor:
        factor = low_rank_factor(80, rank, (0.6 / rank) ** 0.5, rng("spectrum", str(rank)))
        active = (planted(random_directions(80, 8, rng()), 0.3, factor=factor).sample(N, rng("s"))[1] > 0).double()
        return torch.linalg.eigvalsh(torch.corrcoef(active.T)).flip(0)

    for rank in (1, 4):
        values = spectrum(rank)
        assert float(values[rank - 1]) > 2 * float(values[rank])


def test_magnitudes():
    made = planted(torch.eye(2), 0.5, mean=torch.tensor([5.0, 2]), std=torch.tensor([0.5, 2]))
    values = made.sample(N, rng("magnitudes"))[1]
    strong, weak = values[values[:, 0] > 0, 0], values[:, 1]
    assert float(strong.mean()) == pytest.approx(5, rel=0.01) and float(strong.std()) == pytest.approx(0.5, rel=0.05)
    # N(2, 2^2) is negative with probability .159; such a feature is not active
    assert float((weak > 0).double().mean()) == pytest.approx(0.5 * 0.841, abs=0.02) and float(values.min()) == 0


def test_same_generator_same_samples_in_both_layouts_and_no_global_stream():
    made, before = tree(exclusive=True, std=0.1), torch.get_rng_state()
    (x, dense), (again, sparse) = made.sample(300, rng("same")), made.sample(300, rng("same"), sparse=True)
    assert torch.equal(x, again) and torch.equal(dense, sparse.to_dense()) and sparse.is_coalesced()
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(x, made.sample(300, rng("other"))[0])


def test_chunks_do_not_show(monkeypatch):
    made = tree(factor=low_rank_factor(60, 2, 0.3, rng("f")))
    monkeypatch.setattr("lib.data.planted._CHUNK", 7 * 60)
    x, features = made.sample(2000, rng("chunks"))
    assert torch.allclose(x, features @ made.dictionary, atol=1e-5)
    assert within((features > 0).double().mean(0)[:4], made.probability[:4].double(), 2000)


def test_silence_is_a_sample_too():
    x, features = planted(torch.eye(3), 1e-6, bias=torch.ones(3)).sample(5, rng("silence"))
    assert torch.equal(x, torch.ones(5, 3)) and not features.any()


def test_zipf_by_hand():
    p = zipf(4, 1.0, 0.4, 0.1)  # 1, 1/2, 1/3, 1/4
    assert p.tolist() == pytest.approx([0.4, 0.2, 0.1 + 0.3 / 9, 0.1])
    assert zipf(9, 0.5, 0.3, 0.3).tolist() == pytest.approx([0.3] * 9)


def test_forest_by_hand():
    assert forest(9, 2, 1, 2).tolist() == [-1, -1, 0, 1, 2, 3, -1, -1, -1]
    assert forest(7, 1, 2, 2).tolist() == [-1, 0, 0, 1, 1, 2, 2]


def test_too_large_dense_features_name_their_size_and_the_way_out():
    made = planted(torch.ones(16_384, 1), 0.1)
    with pytest.raises(ValueError, match="100000 x 16384 dense features take 6.1 GiB; ask for sparse=True"):
        made.sample(100_000, rng())


EYE = torch.eye(3)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: planted(torch.zeros(3, 2), 0.1), r"without zero rows, got \(3, 2\)"),
    (lambda: planted(EYE, 0.0), r"probability must lie in \(0, 1\], got 0 to 0"),
    (lambda: planted(EYE, torch.ones(2)), r"probability must be a number or \[3\], one per feature, got \(2,\)"),
    (lambda: planted(EYE, 0.1, parent=torch.tensor([-1, 0])), r"parent must be \[3\]"),
    (lambda: planted(EYE, 0.1, parent=torch.tensor([-1, 2, 1])), "parent has a cycle: 2 features never reach a root"),
    (lambda: planted(EYE, 0.1, parent=torch.tensor([-1, 3, -1])), "features from 0 to 2, or -1, got -1 to 3"),
    (lambda: planted(EYE, torch.tensor([0.1, 0.2, 0.1]), parent=torch.tensor([-1, 0, -1])),
     "feature 1 has probability 0.2, above its parent's 0.1"),
    (lambda: planted(EYE, 0.1, factor=torch.ones(3, 1)), "rows of length 1 or more"),
    (lambda: planted(EYE, 0.1, mean=0.0), "mean must be positive"),
    (lambda: planted(EYE, 0.1).sample(0, rng()), "n must be at least 1, got 0"),
    (lambda: zipf(5, 1.0, 0.1, 0.2), "0 < p_min <= p_max <= 1"),
    (lambda: forest(10, 2, 3, 2), "2 roots x 3 children x depth 2 need 26 features, at least one each; there are 10"),
    (lambda: low_rank_factor(5, 4, 0.5, rng()), "scale\\^2 rank < 1, got rank 4, scale 0.5"),
])
def test_impossible_laws_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
