"""The flat table, its optimiser and its loop."""
from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from lib import ensembles
from lib.rng import generator

TARGET = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)


def bowl(theta, grad):
    """L = |theta - target|^2 per row."""
    grad.copy_(2 * (theta - TARGET))
    return (theta - TARGET).square().sum(1)


def test_views_write_through_and_pack_is_their_inverse():
    layout = ensembles.Layout(W=(2, 3), b=(3,))
    table = torch.randn(4, 9, generator=generator(0, "table"))
    views = layout.views(table)
    assert views["W"].shape == (4, 2, 3)
    assert torch.equal(layout.pack(b=views["b"], W=views["W"]), table)
    views["b"].zero_()
    assert table[:, 6:].abs().max() == 0 and table[:, :6].abs().min() > 0


def test_layout_mistakes_are_named():
    layout = ensembles.Layout(W=(2, 3), b=(3,))
    with pytest.raises(ValueError, match="rows of 8"):
        layout.views(torch.zeros(1, 8))
    with pytest.raises(ValueError, match="bias"):
        layout.pack(W=torch.zeros(1, 2, 3), bias=torch.zeros(1, 3))


def test_adam_equals_torchs_in_float64():
    theta, leaf = torch.zeros_like(TARGET), torch.zeros_like(TARGET).requires_grad_()
    ours, theirs = ensembles.Adam(theta), torch.optim.Adam([leaf], lr=0.05)
    for _ in range(300):
        grad = torch.empty_like(theta)
        bowl(theta, grad)
        ours.step(grad, 0.05)
        theirs.zero_grad()
        (leaf - TARGET).pow(4).sum().mul(0).add((leaf - TARGET).square().sum()).backward()
        theirs.step()
    assert (theta - leaf).abs().max() < 1e-12


def test_fit_descends_leaves_its_input_and_logs_what_was_asked():
    start = torch.zeros_like(TARGET)
    done = ensembles.train_ensemble(bowl, start, 400, 0.1, "cosine", log_at=[1, 200], snapshots=True)
    assert start.abs().max() == 0
    assert done.steps == [1, 200, 400] and done.losses.shape == (3, 2) and done.tables.shape == (3, 2, 3)
    assert done.losses[0].tolist() == [5.25, 10.0]  # the first loss is the starting point's
    assert torch.equal(done.tables[-1], done.theta) and done.losses[-1].max() < 1e-3


def test_fit_refuses_what_cannot_be_meant():
    with pytest.raises(ValueError, match="linear"):
        ensembles.train_ensemble(bowl, TARGET, 5, 0.1, "linear")
    with pytest.raises(ValueError, match="at least 1"):
        ensembles.train_ensemble(bowl, TARGET, 0, 0.1)
    with pytest.raises(ValueError, match="1 of 2 models diverged"):
        ensembles.train_ensemble(bowl, torch.tensor([[0.0, 0, 0], [math.inf, 0, 0]]).double(), 5, 0.1)


def test_autograd_gradient_is_the_manual_one():
    theta = torch.randn(2, 3, generator=generator(0, "theta"), dtype=torch.float64)
    manual, automatic = torch.empty_like(theta), torch.empty_like(theta)
    loss = bowl(theta, manual)
    assert_close(ensembles.by_autograd(lambda t: (t - TARGET).square().sum(1))(theta, automatic), loss)
    assert_close(automatic, manual)


def test_best_restart_picks_each_settings_own_row():
    loss = torch.tensor([[3.0, 1.0, 2.0], [0.5, 4.0, 6.0]])
    table = torch.arange(2 * 3 * 2).reshape(2, 3, 2)
    best, rows = ensembles.best_restart(loss, table)
    assert best.tolist() == [1.0, 0.5] and rows.tolist() == [[2, 3], [6, 7]]


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_inside_only(before):
    tiny = torch.tensor([1e-40])
    torch.set_flush_denormal(before)
    try:
        with ensembles.denormals_flushed():
            assert tiny.mul(1.0) == 0
        assert (tiny.mul(1.0) == 0) == before
    finally:
        torch.set_flush_denormal(False)
