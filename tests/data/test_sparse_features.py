"""Generated features: activity rates, uniform values, the joint law of groups, streams."""
import pytest
import torch
from scipy.stats import kstest

from lib.data.sparse_features import correlated_groups, sparse_features
from lib.rng import generator

N, FEATURES, GROUP = 20_000, 12, 4


def within(rate: torch.Tensor, p: float | torch.Tensor, n: int) -> bool:
    """All rates within five standard errors of p."""
    p = torch.as_tensor(p)
    return bool(((rate - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1e-12).all())


@pytest.mark.parametrize("p", [0.03, 0.3, 1.0])
def test_activity_rate_and_uniform_values(p):
    x = sparse_features((N, FEATURES), p, generator(0, "test", str(p)))
    assert x.shape == (N, FEATURES) and x.dtype == torch.float32
    assert within((x > 0).float().mean(0), p, N)
    assert kstest(x[x > 0].double().numpy(), "uniform").pvalue > 1e-3
    assert 0 <= float(x.min()) and float(x.max()) <= 1


def test_features_are_independent():
    active = (sparse_features((N, FEATURES), 0.3, generator(1, "test")) > 0).double()
    together = active.T @ active / N
    off = together[~torch.eye(FEATURES, dtype=torch.bool)]
    assert within(off, 0.09, N)


def test_density_per_instance_and_per_feature():
    p = torch.tensor([0.1, 0.5, 0.9])
    x = sparse_features((3, N, FEATURES), p[:, None, None], generator(2, "test"))
    assert within((x > 0).float().mean((1, 2)), p, N * FEATURES)
    x = sparse_features((N, 3), p, generator(3, "test"))
    assert within((x > 0).float().mean(0), p, N)


def test_same_generator_same_draws_and_no_global_stream():
    before = torch.get_rng_state()
    a, b = (sparse_features((4, 5), 0.5, generator(7, "test")) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(before, torch.get_rng_state())
    assert not torch.equal(a, sparse_features((4, 5), 0.5, generator(8, "test")))


def test_extreme_densities():
    assert not sparse_features((50, 5), 0.0, generator(0, "test")).any()
    for kind in ("correlated", "anticorrelated"):
        assert not correlated_groups((50, 4), 0.0, generator(0, "test"), 2, kind).any()


@pytest.mark.parametrize("kind", ["correlated", "anticorrelated"])
def test_a_single_feature_of_a_group_keeps_its_law(kind):
    x = correlated_groups((N, FEATURES), 0.2, generator(4, "test", kind), GROUP, kind)
    assert within((x > 0).float().mean(0), 0.2, N)
    for feature in (0, GROUP - 1, GROUP):
        values = x[:, feature]
        assert kstest(values[values > 0].double().numpy(), "uniform").pvalue > 1e-3


def test_correlated_features_fire_together_with_independent_values():
    x = correlated_groups((N, FEATURES), 0.2, generator(5, "test"), GROUP)
    active = (x > 0).reshape(N, -1, GROUP)
    assert torch.equal(active.all(-1), active.any(-1))
    groups = active.any(-1).double()
    assert within((groups[:, 0] * groups[:, 1]).mean(), 0.04, N)  # groups are independent of each other
    first, second = x[x[:, 0] > 0, :2].T
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / len(first) ** 0.5


def test_at_most_one_of_an_anticorrelated_group_fires():
    x = correlated_groups((2, N, FEATURES), 0.25, generator(6, "test"), GROUP, "anticorrelated")
    active = (x > 0).reshape(2, N, -1, GROUP).sum(-1)
    assert int(active.max()) == 1
    assert float((active == 1).float().mean()) > 0.999  # 4 x 0.25: exactly one, but for draws of exactly 0


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(density=0.3, group_size=5), "group_size 5 does not divide 12 features"),
    (dict(density=0.3, group_size=4, kind="anticorrelated"), "> 1: at most one per group cannot hold"),
    (dict(density=0.3, group_size=4, kind="anti"), "kind 'anti' is not one of"),
    (dict(density=1.3, group_size=4), r"density must lie in \[0, 1\], got 1.3 to 1.3"),
])
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        correlated_groups((10, FEATURES), generator=generator(0, "test"), **arguments)
