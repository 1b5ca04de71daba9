"""The loss of cortical sheets against interpolation itself, and against what its algebra promises."""
from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from lib import topoloss
from lib.rng import generator
from lib.topoloss import TopoLoss, interpolated_loss, operator, operator_rank, sheet_shape, topo_loss


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed, "test topoloss"), dtype=torch.float64)


def published(W: torch.Tensor, factor: float) -> torch.Tensor:
    """The loss as the paper's formula says it, by library calls alone."""
    h, w = sheet_shape(len(W))
    sheet = W.T.reshape(1, -1, h, w)  # [1, e, h, w]
    down = F.interpolate(sheet, scale_factor=1 / factor, mode="bilinear")
    up = F.interpolate(down, size=(h, w), mode="bilinear")
    return 1 - F.cosine_similarity(sheet, up, dim=1).mean()


@st.composite
def sheets(draw, largest: int = 14):
    """h <= w, one factor per axis that fits it (often one that does not divide it), a width e and a seed."""
    h = draw(st.integers(1, largest))
    w = draw(st.integers(h, 2 * largest))
    factor = draw(st.floats(1, h)), draw(st.floats(1, w))
    if draw(st.booleans()):
        factor = float(int(factor[0])), float(int(factor[1]))
    return SimpleNamespace(h=h, w=w, n=h * w, factor=factor, e=draw(st.integers(2, 5)), seed=draw(st.integers(0, 99)))


def small_model() -> nn.Module:
    """Two blocks of 12-unit layers, a convolution of 6 channels and a batch norm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        blocks = nn.Sequential(*(nn.ModuleDict({"fc": nn.Linear(8, 12), "act": nn.ReLU()}) for _ in range(2)))
        conv = nn.ModuleDict({"conv": nn.Conv2d(4, 6, 3, bias=False), "norm": nn.BatchNorm2d(6)})
        return nn.ModuleDict({"blocks": blocks, "stem": conv})


# The sheet and its operator


@pytest.mark.parametrize(
    ("n", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (64, (8, 8)), (128, (8, 16)), (384, (16, 24)), (1536, (32, 48)), (97, (1, 97))],
)
def test_sheet_shapes_of_the_source(n, shape):
    assert sheet_shape(n) == shape


@given(st.integers(1, 3000))
def test_no_divisor_lies_closer_to_the_root(n):
    h, w = sheet_shape(n)
    assert h * w == n and h <= w and not any(n % k == 0 for k in range(h + 1, math.isqrt(n) + 1))


def test_an_even_factor_averages_four_units_and_an_odd_one_picks_one():
    D, U = operator(4, 8, 4)  # two anchors, each between rows 1, 2 and columns 1, 2 or 5, 6
    hand = torch.zeros(2, 4, 8, dtype=torch.float64)
    hand[0, 1:3, 1:3] = hand[1, 1:3, 5:7] = 1 / 4
    assert_close(D, hand.flatten(1))
    assert_close(operator(3, 6, 3)[0].nonzero(), torch.tensor([[0, 7], [1, 10]]))  # row 1; columns 1 and 4
    # growing 2 columns to 8: weights 7/8, 5/8, 3/8, 1/8 between the two centres, flat outside; rows do not matter
    second = torch.tensor([0, 0, 1, 3, 5, 7, 8, 8], dtype=torch.float64).repeat(4) / 8
    assert_close(U, torch.stack([1 - second, second], 1))


@pytest.mark.parametrize(("n", "factor", "rank"), [(384, 8, 6), (1536, 8, 24), (128, 8, 2), (128, 4, 8), (512, 4, 32)])
def test_rank_of_the_published_layers(n, factor, rank):
    D, U = operator(*sheet_shape(n), factor)
    assert operator_rank(*sheet_shape(n), factor) == rank == int(torch.linalg.matrix_rank(U @ D))


@settings(deadline=None, max_examples=60)
@given(sheets(largest=8))
def test_rank_is_the_number_of_anchors(s):
    D, U = operator(s.h, s.w, s.factor)
    rank = operator_rank(s.h, s.w, s.factor)
    assert D.shape == (rank, s.n) and U.shape == (s.n, rank)
    assert int(torch.linalg.matrix_rank(U @ D)) == rank
    assert_close(D.sum(1), torch.ones(rank, dtype=torch.float64))  # both are averages
    assert_close(U.sum(1), torch.ones(s.n, dtype=torch.float64))


# The closed form


@settings(deadline=None, max_examples=80)
@given(sheets())
def test_low_rank_form_is_the_interpolation_and_so_is_its_gradient(s):
    W = randn(s.n, s.e, seed=s.seed).requires_grad_()
    ours = topo_loss(W, *operator(s.h, s.w, s.factor))
    theirs = interpolated_loss(W, s.h, s.w, s.factor)
    assert (ours - theirs).abs() < 1e-12
    (gradient,), (expected,) = torch.autograd.grad(ours, W), torch.autograd.grad(theirs, W)
    assert (gradient - expected).abs().max() < 1e-12 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize(("n", "factor"), [(384, 8), (128, 8), (128, 5), (63, 3), (97, 1)])
def test_both_forms_are_the_formula(n, factor):
    W, (h, w) = randn(n, 20), sheet_shape(n)
    assert_close(topo_loss(W, *operator(h, w, factor)), published(W, factor), rtol=0, atol=1e-12)
    assert_close(interpolated_loss(W, h, w, factor), published(W, factor), rtol=0, atol=1e-12)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_the_closed_gradient_is_the_numerical_one(batch):
    D, U = operator(3, 5, (2, 2))
    W = randn(*batch, 15, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda W: topo_loss(W, D, U), W)
    each = [topo_loss(v, D, U) for v in W.reshape(-1, 15, 4)]
    assert_close(topo_loss(W, D, U).flatten(), torch.stack(each))


@settings(deadline=None, max_examples=40)
@given(sheets(), st.floats(1e-3, 1e3))
def test_the_length_of_the_weights_does_not_matter(s, c):
    D, U = operator(s.h, s.w, s.factor)
    W = randn(s.n, s.e, seed=s.seed).requires_grad_()
    small, large = topo_loss(W, D, U), topo_loss(c * W, D, U)
    assert_close(small, large, rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(small, W)
    assert abs(float((gradient * W.detach()).sum())) < 1e-10  # orthogonal to W: no step of it shrinks or grows W first
    scaled = (c * W.detach()).requires_grad_()
    (further,) = torch.autograd.grad(topo_loss(scaled, D, U), scaled)
    assert (further * c - gradient).abs().max() < 1e-9 * max(1, float(gradient.abs().max()))  # falls as 1 / |W|


def test_a_constant_sheet_costs_nothing_and_unrelated_units_cost_one():
    D, U = operator(16, 24, 8)
    same = randn(1, 50).expand(384, 50)
    assert abs(float(topo_loss(same, D, U))) < 1e-12
    W = torch.linalg.qr(randn(384, 384))[0]  # orthogonal rows: only the 24 anchoring units see themselves
    others = D.sum(0) == 0
    alone = interpolated_loss(W, 16, 24, 8)
    assert 0.9 < float(topo_loss(W, D, U)) < 1 and abs(float(alone - topo_loss(W, D, U))) < 1e-12
    cosines = torch.cosine_similarity(W, U @ (D @ W))
    assert int(others.sum()) == 384 - 24 and cosines[others].abs().max() < 1e-12


def test_zero_rows_count_as_unrelated_and_give_numbers():
    W = randn(32, 6)
    W[:8] = 0
    W.requires_grad_()
    loss = topo_loss(W, *operator(4, 8, 2))
    loss.backward()
    assert_close(loss, interpolated_loss(W, 4, 8, 2))
    assert W.grad.isfinite().all()
    zero = topo_loss(torch.zeros(32, 6, dtype=torch.float64), *operator(4, 8, 2))
    assert float(zero) == 1


# Layers of a model


def test_layers_are_chosen_by_pattern_and_averaged():
    model = small_model()
    topo = TopoLoss(model, ["blocks.*.fc", "stem.conv"], factor=2)
    assert topo.names == ["blocks.0.fc", "blocks.1.fc", "stem.conv"]
    assert topo.shapes == {"blocks.0.fc": (3, 4), "blocks.1.fc": (3, 4), "stem.conv": (2, 3)}
    expected = {name: published(model.get_submodule(name).weight.detach().flatten(1), 2) for name in topo.names}
    found = topo.per_layer(model)
    assert list(found) == topo.names and not any(value.requires_grad for value in found.values())
    for name in topo.names:
        assert_close(found[name], expected[name])
    assert_close(topo(model), torch.stack(list(expected.values())).mean())
    topo(model).backward()
    assert model["stem"]["conv"].weight.grad.abs().sum() > 0 and model["stem"]["norm"].weight.grad is None


def test_a_loss_says_what_it_presses():
    made = TopoLoss(nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 8)), "*", factor=2, permute=0)
    assert repr(made) == "TopoLoss(0 on 4 x 4, 1 on 2 x 4; factor 2, permuted)"


def test_weights_are_read_anew_at_each_call():
    model = small_model()
    topo = TopoLoss(model, "blocks.*.fc", factor=2)
    before = float(topo(model).detach())
    nn.init.ones_(model["blocks"][0]["fc"].weight)
    nn.init.ones_(model["blocks"][1]["fc"].weight)
    assert before > 0.1 and topo(model).abs() < 1e-6


def test_in_a_model_it_is_the_interpolation_gradients_too():
    def interpolated(model, topo):
        """Row p of a sheet is the unit at place p."""
        sheets = {name: model.get_submodule(name).weight.flatten(1)[topo.places[name].argsort()] for name in topo.names}
        return sum(interpolated_loss(W, *topo.shapes[name], 2) for name, W in sheets.items()) / len(sheets)

    gradients = []
    for loss in (lambda model, topo: topo(model), interpolated):
        for permute in (None, 3):
            model = small_model().double()
            loss(model, TopoLoss(model, ["blocks.*.fc", "stem.conv"], 2, permute=permute)).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    plain, permuted, plain_interpolated, permuted_interpolated = gradients
    assert_close(plain, plain_interpolated, rtol=0, atol=1e-12)
    assert_close(permuted, permuted_interpolated, rtol=0, atol=1e-12)
    assert (plain - permuted).norm() > 0.1 * plain.norm()


def test_autocast_and_half_precision_compute_in_float32():
    model = small_model()
    topo = TopoLoss(model, "blocks.*.fc", factor=2)
    plain = topo(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = topo(model)
    assert cast.dtype == torch.float32 and torch.equal(cast, plain)
    low = topo(model.to(torch.bfloat16))
    low.backward()
    assert low.dtype == torch.float32 and (low - plain).abs() < 0.01
    assert model["blocks"][0]["fc"].weight.grad.dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_loss_and_gradient():
    values = []
    for device in ("cpu", "cuda"):
        model = small_model().to(device)
        loss = TopoLoss(model, ["blocks.*.fc", "stem.conv"], factor=2, permute=1)(model)
        loss.backward()
        values.append((loss.detach().cpu(), model["stem"]["conv"].weight.grad.cpu()))
    assert_close(values[0], values[1], rtol=1e-5, atol=1e-6)


# The permuted sheet


def test_a_permuted_sheet_keeps_rank_and_spectrum_and_loses_neighbours():
    model = small_model()
    plain, mixed = TopoLoss(model, "blocks.*.fc", 2), TopoLoss(model, "blocks.*.fc", 2, permute=0)
    for name in plain.names:
        assert torch.equal(plain.places[name], torch.arange(12))
        assert torch.equal(mixed.places[name].sort().values, torch.arange(12))
    assert not torch.equal(mixed.places["blocks.0.fc"], mixed.places["blocks.1.fc"])  # one order per layer
    D, U = operator(3, 4, 2)
    place = mixed.places["blocks.0.fc"]
    S, shuffled = U @ D, U[place] @ D[:, place]
    assert torch.linalg.matrix_rank(shuffled) == torch.linalg.matrix_rank(S) == operator_rank(3, 4, 2)
    assert_close(torch.linalg.svdvals(shuffled), torch.linalg.svdvals(S))
    rows = model["blocks"][0]["fc"].weight.detach()
    laid = torch.empty_like(rows).index_copy(0, place, rows)  # row p: the unit at place p
    assert_close(mixed.per_layer(model)["blocks.0.fc"], published(laid, 2))
    assert (mixed(model) - plain(model)).abs() > 1e-4


def test_places_come_from_the_seed_and_the_layer_alone():
    model = small_model()
    first = TopoLoss(model, "blocks.*.fc", 2, permute=5).places["blocks.1.fc"]
    alone = TopoLoss(small_model(), "blocks.1.fc", 2, permute=5).places["blocks.1.fc"]
    other = TopoLoss(model, "blocks.*.fc", 2, permute=6).places["blocks.1.fc"]
    assert torch.equal(first, alone) and not torch.equal(first, other)


def pressed_stream(shared: bool | None) -> float:
    """Participation ratio of what three layers pressed onto sheets of 64 add to one stream."""
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(3)))
    for i, layer in enumerate(model):
        layer.weight.data = randn(64, 64, seed=i).float() / 8
    topo = TopoLoss(model, "*", factor=4, permute=None if shared is None else 0, shared=bool(shared))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        topo(model).backward()
        optimizer.step()
    covariance = sum(layer.weight.detach() @ layer.weight.detach().T for layer in model)  # of independent white inputs
    return float(covariance.trace() ** 2 / covariance.square().sum())


def test_layers_that_share_a_stream_lose_their_common_subspace_only_with_an_order_each():
    plain, shared, each = (pressed_stream(way) for way in (None, True, False))
    assert shared == pytest.approx(plain, rel=0.3) and each > 1.4 * max(plain, shared)


def test_a_shared_order_is_the_plain_loss_of_renamed_units():
    model = small_model().double()
    topo = TopoLoss(model, ["blocks.*.fc", "stem.conv"], 2, permute=3, shared=True)
    order = topo.places["blocks.0.fc"]
    assert torch.equal(order, topo.places["blocks.1.fc"]) and len(topo.places["stem.conv"]) == 6
    renamed = small_model().double()
    for name in topo.names:
        renamed.get_submodule(name).weight.data = model.get_submodule(name).weight.data[topo.places[name].argsort()]
    assert_close(topo(model), TopoLoss(renamed, topo.names, 2)(renamed), rtol=0, atol=1e-12)
    other = TopoLoss(model, "blocks.*.fc", 2, permute=4, shared=True)
    assert not torch.equal(order, other.places["blocks.0.fc"])


# Errors in one line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "blocks.*.fd"}, r"no module matches 'blocks.\*.fd'; there are .*blocks.0.fc"),
        ({"layers": "blocks.*.act"}, "blocks.0.act is a ReLU; a cortical sheet needs a Linear or a Conv2d"),
        ({"factor": 4}, r"blocks.0.fc \(12 units\): factor 4 shrinks the 3 x 4 sheet to 0 x 1 anchors; take a"),
        ({"factor": (2, 5)}, "shrinks the 3 x 4 sheet to 1 x 0 anchors"),
        ({"factor": 0.5}, "factor must be a number of at least 1, or two in a tuple, got 0.5"),
        ({"factor": "8"}, "factor must be a number of at least 1, or two in a tuple, got '8'"),
        ({"factor": (2,)}, r"factor must be a number of at least 1, or two in a tuple, got \(2,\)"),
        ({"factor": math.nan}, "factor must be a number of at least 1"),
        ({"factor": math.inf}, "factor must be a number of at least 1"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        TopoLoss(small_model(), **{"layers": "blocks.*.fc", "factor": 2, **arguments})
    assert "\n" not in str(error.value)


def test_one_weight_per_unit_is_refused_and_its_loss_stays_in_range():
    model = nn.Sequential(nn.Linear(1, 128), nn.ReLU(), nn.Linear(128, 1))
    with pytest.raises(ValueError, match="0 has one weight per unit, whose cosine is only a sign"):
        TopoLoss(model, "0", 2)
    D, U = (each.float() for each in operator(8, 16, 2))
    W = torch.stack([randn(128, 1, seed=i) for i in range(200)]).float()
    losses = topo_loss(W, D, U)
    assert losses.min() >= 0 and losses.max() <= 2


def test_a_factor_of_the_side_itself_may_leave_nothing_as_in_interpolation():
    with pytest.raises(ValueError, match="factor 49 shrinks the 49 x 49 sheet to 0 x 0 anchors"):
        topoloss.anchors(49, 49, 49)
    with pytest.raises(RuntimeError):
        F.interpolate(randn(1, 1, 49, 49), scale_factor=1 / 49, mode="bilinear")
    assert topoloss.anchors(49, 49, 48) == (1, 1)


def test_grouped_convolutions_have_a_sheet():
    model = nn.ModuleDict({"conv": nn.Conv2d(4, 4, 3, groups=2)})
    assert 0 < TopoLoss(model, "conv", 2)(model) < 2
