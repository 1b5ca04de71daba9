"""A coder that is right by construction scores as such; one that is not does not."""
import numpy as np
import pytest
import torch

from lib.sparse_coders import SparseCoder
from lib.sparse_coders.report import METRICS, likeness, oriented, report
from lib.studies.sparse_coders_recovery.worlds import World

PARENT = torch.tensor([-1, 0, -1])


def perfect(signed=False, flip=False):
    """Three orthogonal features and a TopK coder with k = 3 whose rows are exactly those."""
    world = World(torch.eye(3), PARENT, signed, None, None)
    coder = SparseCoder(3, 3, "abs_topk" if signed or flip else "topk", k=2)
    rows = torch.eye(3)[[2, 0, 1]] * (-1 if flip else 1)
    for W in (coder.W_enc, coder.W_dec):
        W.data.copy_(rows)
    features = torch.tensor([[1.0, 2, 0], [1, 0, 0], [0, 0, 3], [2, 1, 0], [0, 0, 0]])
    if signed:
        features = features * torch.tensor([1.0, -1, 1])
    return coder, world, features @ world.dictionary, features


@pytest.mark.parametrize("signed, flip", [(False, False), (False, True), (True, False)])
def test_the_true_dictionary_recovers_everything(signed, flip):
    coder, world, x, features = perfect(signed, flip)
    found = report(coder, world, x, features)
    assert set(METRICS) <= set(found)
    ones = ("recovery", "cosine", "mmcs", "mmcs_back", "uniqueness", "precision", "recall", "f1", "auc", "shrinkage")
    assert {name: found[name] for name in ones} == pytest.approx(dict.fromkeys(ones, 1.0))
    assert found["fvu"] == pytest.approx(0, abs=1e-12) and found["dead_fraction"] == 0
    assert found["l0"] == pytest.approx((features != 0).sum() / 5)
    assert found["absorption"] == 0 and found["latents_per_parent"] == 1 and found["parent_recovery"] == 1


@torch.no_grad()
def test_shrinkage_is_around_the_bias_of_every_sample_where_samples_are_normalised():
    """Recons that are half as long around b_dec |x| / sqrt(d), which differs from sample to sample."""
    coder = SparseCoder(3, 3, k=2, per_sample=True)
    for W, factor in ((coder.W_enc, 1.0), (coder.W_dec, 0.5)):
        W.copy_(factor * torch.eye(3))
    coder.b_dec.copy_(torch.tensor([1.0, 0, 0]))
    features = torch.tensor([[1.0, 2, 0], [4, 3, 0], [9, 0, 3], [7, 1, 0]])
    unit = features / features.norm(dim=1, keepdim=True) * 3**0.5
    assert (unit[:, 0] - 1).abs().min() > 0.05
    world = World(torch.eye(3), torch.full((3,), -1), False, None, None)
    found = report(coder, world, features, features)
    f = (unit - coder.b_dec).relu()  # of the three, at most two are above 0
    own, recons = unit - coder.b_dec, 0.5 * f
    size = features.norm(dim=1, keepdim=True)
    wanted = ((size * recons).square().sum() / (size**2 * own * recons).sum())
    assert found["shrinkage"] == pytest.approx(float(wanted), abs=1e-6)


def test_a_parent_silenced_by_its_child_is_absorbed():
    coder, world, x, features = perfect()
    coder.W_enc.data[1] = torch.tensor([1.0, -3.0, 0.0])  # feature 0's latent is off where feature 1 is on
    found = report(coder, world, x, features)
    assert found["absorption"] == pytest.approx(2 / 3)  # active in samples 0, 1, 3; silent with the child in 0 and 3
    assert found["absorption_excess"] == 1  # silent in both samples with the child, never alone
    assert found["recovery"] == 1 and found["recall"] == pytest.approx((1 / 3 + 1 + 1) / 3)


def test_a_latent_that_misses_its_parent_everywhere_has_no_excess():
    coder, world, x, features = perfect()
    coder.W_enc.data[1] = -1  # feature 0's latent never fires
    coder.W_dec.data[1] = torch.tensor([1.0, 1.0, 0.0])
    found = report(coder, world, x, features)
    assert found["absorption"] > 0.5 and found["absorption_excess"] == 0 and found["parent_recovery"] == 0


def test_latents_are_turned_to_be_positive_on_average():
    coder, _, x, _ = perfect(flip=True)
    decoder, latents = oriented(coder, x)
    assert (latents.sum(0) > 0).all() and np.allclose(latents @ decoder, x)


def test_likeness_of_a_copy_is_one_and_of_a_constant_zero():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert likeness(x, 2 * x) == pytest.approx(dict.fromkeys(("cka", "procrustes", "rsa"), 1.0))
    assert likeness(x, torch.ones(40, 3)) == dict.fromkeys(("cka", "procrustes", "rsa"), 0.0)
