"""Metrics of decompositions by hand, with their nulls."""
import numpy as np
import pytest
import torch
from torch import nn

from lib.metrics.nulls import null_distribution
from lib.rng import generator
from lib.spd import Decomposition, Routed
from lib.spd.metrics import (
    identity_error,
    one_hot_importance,
    permutation,
    random_recovery,
    recovery,
    use,
)
from lib.studies.spd_causal_graphs.mlp import MLP

W = torch.tensor([[3.0, 0.0], [0.0, 2.0]])


def test_recovery_by_hand():
    exact = recovery(torch.eye(2), torch.tensor([[3.0, 0.0], [0.0, -2.0]]), W)
    assert exact == (1.0, 1.0, 1.0)
    # component 0 serves both features: u = (3, 4)/5, v = (1, 1); its parts have length 1, cosines .6 and .8
    shared = recovery(torch.ones(2, 1), torch.tensor([[0.6, 0.8]]), W)
    assert shared.mmcs == pytest.approx(0.7)
    assert shared.ml2r == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert shared.whole == pytest.approx(0.7 / 2**0.5)


def test_recovery_takes_lengths_from_the_component_that_works():
    V, U = torch.tensor([[1e-9, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 1.0]])
    found = recovery(V, U, torch.tensor([[3.0, 3.0], [0.0, 1.0]]))
    # feature 0: the dead component 0 has cosine 1, but component 1, of length sqrt(10), does the work; feature 1 is it
    assert found.mmcs == pytest.approx(1.0)
    assert found.ml2r == pytest.approx((10**0.5 / 3 + 1) / 2)


def test_recovery_refuses():
    with pytest.raises(ValueError, match="do not make"):
        recovery(torch.ones(3, 1), torch.ones(1, 2), W)
    with pytest.raises(ValueError, match="zero"):
        recovery(torch.eye(2), torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))


def test_random_components_look_good_in_two_dimensions():
    """The null moves, is near 1 in two dimensions and lower in ten; whole components tell more."""
    pentagon = torch.stack([torch.cos(torch.arange(5.0)), torch.sin(torch.arange(5.0))])
    rng = generator(0, "null")
    draws = [random_recovery(20, pentagon, rng).mmcs for _ in range(50)]
    null = null_distribution(float, lambda numpy_rng: draws[numpy_rng.integers(50)], 50, np.random.default_rng(0))
    # the best |cosine| of 20 directions in a half turn: mean angle pi/2/21, cosine about .996 on average
    assert 0.98 < null.mean() < 1
    wide = torch.randn(10, 40, generator=rng)
    draws = [random_recovery(20, wide, rng) for _ in range(20)]
    assert max(d.mmcs for d in draws) < 0.9 and max(d.whole for d in draws) < 0.6


def test_identity_error_by_hand():
    exact = np.zeros((2, 4))
    exact[0, 2], exact[1, 1] = 1.0, 0.95
    assert permutation(exact).tolist() == [2, 1, 0, 3] and identity_error(exact) == 0
    exact[1, 1] = 0.85  # too small on the diagonal
    exact[0, 3] = exact[0, 1] = 0.2  # and two where none should be
    assert identity_error(exact) == 3 and identity_error(exact, tolerance=0.3) == 0
    with pytest.raises(ValueError, match="one to one"):
        permutation(np.ones((3, 2)))


def test_identity_error_of_anything_else_is_not_zero():
    rng = np.random.default_rng(0)
    null = [identity_error(rng.uniform(size=(5, 20))) for _ in range(50)]
    assert min(null) > 50 and len(set(null)) > 5


def test_one_hot_importance_has_a_row_per_feature():
    dec = Decomposition(MLP((3, 2), 0), torch.zeros(1, 3), 7)
    found = one_hot_importance(dec, 3)
    assert found["fc1"].shape == (3, 7)
    assert np.array_equal(found["fc1"], dec.causal_importance(0.75 * torch.eye(3))["fc1"].numpy())
    words = Routed(nn.Embedding(4, 3))
    tokens = torch.arange(4)[:, None]
    assert Decomposition(words, tokens, 5).causal_importance(tokens)["0"].shape == (4, 1, 5)


def test_use_by_hand():
    """W = diag(3, 4) with components of v (1, 1) and (0, 2), u (1, 0) and (0, 1); gates say a, of two linear layers."""
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    x = torch.tensor([[1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    dec = Decomposition(Routed(layer), x, 2, gate="linear")
    dec.load({"0.V": torch.tensor([[1.0, 0.0], [1.0, 2.0]]), "0.U": torch.eye(2),
              "0.gate.w": torch.ones(2), "0.gate.b": torch.zeros(2)})
    found = use(dec, dec.capture(x))["0"]
    # a = (0, -2), (2, 2), 0, 0: components on in 0, 2, 0, 0 of them; both once in four, so alive at least = 0.1
    assert found.l0 == 0.5 and found.alive == 2 and use(dec, dec.capture(x), least=0.25)["0"].alive == 0
    # the sum of components is [[1, 1], [0, 2]], delta [[2, -1], [0, 2]], |delta| = 3, |W| = 5
    assert found.leftover == pytest.approx(3 / 5) and found.size == pytest.approx(2**0.5 + 2)
    # variances of x are 1/3 and 2/3: r^2 = (1/3, 2/3) and (0, 8/3), breadths 1 / (5/9) and 1
    assert found.breadth == pytest.approx((9 / 5 + 1) / 2)
