"""Coders that read several sites and write one."""
import pytest
import torch

from lib.rng import generator
from lib.sparse_coders import SparseCoder
from lib.sparse_coders.multi_input import join_sites, shuffled_context


def test_joining_brings_sites_to_one_mean_square():
    primary = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    joined = join_sites(primary, torch.tensor([[10.0], [-10.0]]))
    assert joined.tolist() == [[1, -1, 1], [1, 1, -1]]


def test_the_control_keeps_the_primary_and_moves_whole_context_rows():
    x = torch.arange(40.0).view(10, 4)
    control = shuffled_context(x, 2, generator(0, "shuffle"))
    assert torch.equal(control[:, :2], x[:, :2]) and not torch.equal(control[:, 2:], x[:, 2:])
    assert sorted(control[:, 2:].tolist()) == x[:, 2:].tolist()


def test_the_decoder_writes_the_primary_site_only_and_the_encoder_reads_both():
    coder = SparseCoder(3, 16, k=4, context=2)
    assert coder.W_enc.shape == (16, 5) and coder.W_dec.shape == (16, 3)
    assert not coder.W_enc[:, 3:].any() and torch.equal(coder.W_enc[:, :3], coder.W_dec)
    x = torch.randn(8, 5, generator=generator(0, "x"))
    torch.nn.init.normal_(coder.W_enc, generator=generator(0, "w"))
    other = torch.cat([x[:, :3], x[:, 3:] + 1], 1)
    assert coder(x).shape == (8, 3) and not torch.equal(coder(x), coder(other))


@pytest.mark.parametrize(
    ("sites", "problem"),
    [
        ((torch.ones(3, 2),), "two sites or more"),
        ((torch.ones(3, 2), torch.ones(4, 2)), "as many samples"),
        ((torch.ones(3, 2), torch.zeros(3, 2)), "zero everywhere"),
    ],
)
def test_sites_that_cannot_be_joined_are_refused(sites, problem):
    with pytest.raises(ValueError, match=problem):
        join_sites(*sites)


def test_a_control_without_context_is_refused():
    with pytest.raises(ValueError, match="no context columns after the first 3"):
        shuffled_context(torch.ones(4, 3), 3, generator(0, "shuffle"))
