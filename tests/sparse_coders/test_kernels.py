"""Sparse codes and fused losses against six lines of dense algebra, in float64: values and every gradient."""
from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lib.rng import generator
from lib.sparse_coders import dense_kernels, functions, selection
from lib.sparse_coders.dense_kernels import SPARSE_BELOW, jumprelu_loss, l1_loss
from lib.sparse_coders.kernels import Codes, batch_topk_codes, decode_codes, threshold_codes, topk_codes
from lib.sparse_coders.selection import Encoder, exceeding, largest
from lib.sparse_coders.sparse_ops import Bags, dots

N, D_IN, D_OUT = 20, 6, 7


def leaf(rng, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()


@pytest.fixture(autouse=True)
def chunks_of_five(monkeypatch):
    monkeypatch.setattr(selection, "chunk_size", lambda n, device: 5)


class Case:
    """Inputs of one coder, or of a table, with the dense pre-activations."""

    def __init__(self, kind: str = "plain", coders: int = 0, samples: int = 13, centred: bool = True):
        rng, table = generator(0, kind, coders), (coders,) * bool(coders)
        self.coders, self.x = max(1, coders), leaf(rng, samples, D_IN)
        self.W, self.b = leaf(rng, *table, N, D_IN), leaf(rng, *table, N)
        self.D, self.centre = leaf(rng, *table, N, D_OUT), leaf(rng, *table, D_IN) if centred else None
        self.target = torch.randn(samples, *table, D_OUT, generator=rng, dtype=torch.float64)
        change = {"plain": lambda: None, "zero": self._zero, "duplicates": self._repeat, "strided": self._stride}
        with torch.no_grad():
            change[kind]()
        centre = 0 if self.centre is None else self.centre
        x = self.x.unsqueeze(1) if coders else self.x
        self.h = ((x - centre).unsqueeze(-2) * self.W).sum(-1) + self.b  # [B, (S,) N]

    def _zero(self):
        for t in (self.x, self.b, self.centre):
            t.zero_()

    def _repeat(self):
        self.W[..., 10:, :], self.b[..., 10:] = self.W[..., :10, :].clone(), self.b[..., :10].clone()
        self.x[5:] = self.x[:1].clone()

    def _stride(self):
        for name in ("x", "W", "D"):
            strided = torch.stack([getattr(self, name)] * 2, -1)[..., 0].detach()
            assert not strided.is_contiguous()
            setattr(self, name, strided.requires_grad_())

    @property
    def encoder(self):
        return Encoder(self.W, self.b, self.centre)

    @property
    def leaves(self) -> list[Tensor]:
        return [t for t in (self.x, self.W, self.b, self.D, self.centre) if t is not None]

    def mask(self, codes: Codes) -> Tensor:
        """1 where a latent is among the codes, shaped like h; every code counted once."""
        rows, within = codes.samples, codes.indices % N
        assert torch.equal(codes.indices // N, rows % self.coders)
        mask = torch.zeros(len(self.x) * self.coders, N, dtype=torch.float64)
        return mask.index_put((rows, within), torch.ones(len(rows), dtype=torch.float64), True).view_as(self.h)

    def check(self, codes: Codes) -> None:
        """Reconstruction, values and all gradients of a loss of both against the dense reference."""
        mask = self.mask(codes)
        assert mask.max() <= 1
        f = (self.h * mask).relu()
        dense = f @ self.D if self.coders == 1 else torch.einsum("bsm,smd->bsd", f, self.D)
        recons = decode_codes(codes.with_values(codes.values.relu()), self.D)
        torch.testing.assert_close(recons, dense)
        mine = (recons - self.target).square().sum() + codes.values.pow(3).sum()
        wanted = (dense - self.target).square().sum() + (self.h * mask).pow(3).sum()
        same_gradients(mine, wanted, self.leaves)


def same_gradients(mine: Tensor, wanted: Tensor, leaves: list[Tensor]) -> None:
    torch.testing.assert_close(mine, wanted)
    got = torch.autograd.grad(mine, leaves)
    for a, b in zip(got, torch.autograd.grad(wanted, leaves, retain_graph=True), strict=True):
        torch.testing.assert_close(a, b)


KINDS = ["plain", "zero", "duplicates", "strided"]


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("k", [1, 4, N])
@pytest.mark.parametrize("kind", KINDS)
def test_topk_codes(kind, k, absolute):
    case = Case(kind)
    codes = topk_codes(case.x, case.encoder, k, absolute=absolute)
    size = case.h.abs() if absolute else case.h
    found = (codes.values.abs() if absolute else codes.values).view(-1, k)
    torch.testing.assert_close(found.sort(1).values, size.topk(k).values.sort(1).values)
    case.check(codes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [0.0, 0.5])
@pytest.mark.parametrize("threshold", [0.0, 2.0, 1e9, "each"])
def test_threshold_codes(kind, threshold, width):
    case = Case(kind)
    threshold = torch.linspace(-1, 2, N, dtype=torch.float64) if threshold == "each" else threshold
    codes = threshold_codes(case.x, case.encoder, threshold, width=width)
    assert torch.equal(case.mask(codes), (case.h > threshold - width / 2).double())
    case.check(codes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("lowest", [0.5, torch.tensor([0.0, 1.0, 2.0])])
def test_exceeding_in_every_type(dtype, lowest):
    h = torch.tensor([[0.5, 1.5, 2.5], [-1.0, 0.75, torch.nan]], dtype=dtype)
    lowest = lowest.to(dtype) if isinstance(lowest, torch.Tensor) else lowest
    values, places = exceeding(h, lowest)
    assert places.tolist() == (h > lowest).flatten().nonzero()[:, 0].tolist()
    assert torch.equal(values, h.flatten()[places]) and len(values) > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("floor", [0.0, 0.5, 1e9])
@pytest.mark.parametrize("n_keep", [1, 17, 60, 13 * N])
def test_batch_topk_codes(kind, n_keep, floor):
    case = Case(kind)
    codes, threshold = batch_topk_codes(case.x, case.encoder, n_keep, floor=floor)
    wanted = case.h.detach().flatten().topk(n_keep).values
    wanted = wanted[wanted > 0]
    torch.testing.assert_close(codes.values.detach().sort(descending=True).values, wanted)
    torch.testing.assert_close(threshold, wanted.min() if len(wanted) else torch.tensor(math.inf, dtype=torch.float64))
    assert not threshold.requires_grad
    case.check(codes)


@pytest.mark.parametrize("ks", [[1, 4, N], [3, 3, 3], 5])
def test_table_of_coders_is_the_coders_one_by_one(ks):
    case = Case(coders=3)
    table = topk_codes(case.x, case.encoder, ks)
    recons = decode_codes(table, case.D)
    for s, k in enumerate([5] * 3 if ks == 5 else ks):
        one = topk_codes(case.x, Encoder(case.W[s], case.b[s], case.centre[s]), k)
        torch.testing.assert_close(recons[:, s], decode_codes(one, case.D[s]))
    case.check(table)


def test_one_sample_and_no_centre():
    case = Case(samples=1, centred=False)
    case.check(topk_codes(case.x, case.encoder, 3))
    case.check(threshold_codes(case.x, case.encoder))
    case.check(batch_topk_codes(case.x, case.encoder, 2)[0])


def test_samples_without_codes_decode_to_zero():
    values, indices = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.tensor([3, 1])
    codes = Codes(values, indices, torch.tensor([0, 0, 2, 2]))  # only sample 1 has any
    W = leaf(generator(0), N, D_OUT)
    recons = decode_codes(codes, W)
    torch.testing.assert_close(recons, torch.stack([W[0] * 0, W[3] + W[1], W[0] * 0, W[0] * 0]))
    same_gradients(recons.pow(2).sum(), (codes.dense(N) @ W).pow(2).sum(), [values, W])


def test_the_order_of_chunks_does_not_matter(monkeypatch):
    def codes(chunk):
        monkeypatch.setattr(selection, "chunk_size", lambda n, device: chunk)
        return batch_topk_codes(case.x, case.encoder, 30)[0]

    case = Case()
    whole, split = codes(13), codes(1)
    assert torch.equal(whole.indices, split.indices) and torch.equal(whole.offsets, split.offsets)


@pytest.mark.parametrize("spread", [1000, 3])
def test_two_stage_search_finds_the_same_values(spread):
    h = torch.randint(-spread, spread, (50, 640), generator=generator(spread)).float()  # 3: nearly all are ties
    for k in (1, 5, 20, 100):
        found = largest(h, k)
        assert found.sort(1).values.diff(dim=1).all() or k == 1  # no column twice
        assert torch.equal(h.gather(1, found).sort(1).values, h.topk(k).values.sort(1).values)


def test_screen_finds_what_full_precision_finds():
    rng = generator(3)
    x, W, b = (torch.randn(shape, generator=rng) for shape in ((2000, 64), (1024, 64), (1024,)))
    for absolute in (False, True):
        own = (x, Encoder(W, b), 16)
        full, screened = (topk_codes(*own, absolute=absolute, screen=screen) for screen in (False, True))
        same = (full.dense(1024) - screened.dense(1024)).abs().amax(1) < 1e-4  # dots may add up in another order
        assert same.float().mean() > 0.995


def test_dots_of_no_codes_are_none():
    empty = Bags(torch.empty(0, dtype=torch.long), torch.zeros(9, dtype=torch.long))
    assert dots(torch.ones(9, 5), torch.ones(N, 5), empty).shape == (0,)


OPTIONS = [{}, {"kind": "zero"}, {"kind": "strided"}, {"samples": 1}, {"centred": False}]


PATHS = {"dense": -1, "sparse": 2, "auto": SPARSE_BELOW}


def dense_case(monkeypatch, path, **options) -> tuple[Case, Tensor, Tensor, Tensor]:
    monkeypatch.setattr(dense_kernels, "SPARSE_BELOW", PATHS[path])
    case, rng = Case(**options), generator(1)
    return case, leaf(rng, len(case.x), D_OUT), leaf(rng, N), leaf(rng, N)  # y, weights, threshold


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_l1_loss(path, options, monkeypatch):
    case, y, weights, _ = dense_case(monkeypatch, path, **options)
    got = l1_loss(case.x, y, case.encoder, case.D, 0.3, weights)
    f = case.h.relu()
    recon = (f @ case.D - y).square().sum(1).mean()
    penalty = (f * weights).sum(1).mean()
    torch.testing.assert_close(got[1:], (recon.detach(), penalty.detach(), (f > 0).sum(0)))
    same_gradients(3 * got.loss, 3 * (recon + 0.3 * penalty), [*case.leaves, y, weights])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_jumprelu_loss(path, options, monkeypatch):
    case, y, _, threshold = dense_case(monkeypatch, path, **options)
    got = jumprelu_loss(case.x, y, case.encoder, case.D, threshold, 0.7)
    theta = threshold.clamp(min=0)
    f = functions.jumprelu(case.h, theta, 0.7)
    recon = (f @ case.D - y).square().sum(1).mean()
    l0 = functions.step(case.h, theta, 0.7).sum(1).mean()
    assert torch.equal(got.fired, (f != 0).sum(0))
    torch.testing.assert_close(got.l0, l0)
    leaves = [*case.leaves, y, threshold]
    same_gradients(2 * got.recon + (got.l0 / 3 - 1) ** 2, 2 * recon + (l0 / 3 - 1) ** 2, leaves)


@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_the_thresholds_gradient_is_the_rectangle_kernels(path, monkeypatch):
    """h = (-.1, .3, .45, .9), θ = .4, width .4: the window holds .3 and .45; W_dec = 1, y = 0, one output."""
    monkeypatch.setattr(dense_kernels, "SPARSE_BELOW", PATHS[path])
    encoder, W_dec = Encoder(torch.zeros(4, 1), torch.tensor([-0.1, 0.3, 0.45, 0.9])), torch.ones(4, 1)
    theta = torch.full((4,), 0.4, requires_grad=True)
    got = jumprelu_loss(torch.ones(1, 1), torch.zeros(1, 1), encoder, W_dec, theta, 0.4)
    (of_recon,) = torch.autograd.grad(got.recon, theta, retain_graph=True)
    (of_l0,) = torch.autograd.grad(got.l0, theta)
    pull = 2 * (0.45 + 0.9)  # d recon / d f
    torch.testing.assert_close(of_recon, torch.tensor([0, -pull, -pull, 0]))  # θ / width = 1
    torch.testing.assert_close(of_l0, torch.tensor([0, -2.5, -2.5, 0]))
    assert got.l0 == 2


@pytest.mark.parametrize("density", [SPARSE_BELOW / 4, SPARSE_BELOW * 2])
def test_few_active_latents_are_taken_as_codes(density, monkeypatch):
    monkeypatch.undo()
    rng, calls = generator(6), []
    x, W = torch.randn(500, 16, generator=rng), torch.randn(256, 16, generator=rng)
    b = -(x @ W.T).quantile(1 - density).expand(256)
    monkeypatch.setattr(dense_kernels, "threshold_codes", lambda *a, **o: calls.append(1) or threshold_codes(*a, **o))
    l1_loss(x, x, Encoder(W, b), W, 0.1)
    assert bool(calls) == (density < SPARSE_BELOW)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, W, b: topk_codes(x, Encoder(W, b), 0), "k must be 1..20"),
        (lambda x, W, b: topk_codes(x, Encoder(W, b), 21), "k must be 1..20"),
        (lambda x, W, b: topk_codes(x, Encoder(W, b), [3, 3]), "each of 1 coders"),
        (lambda x, W, b: topk_codes(x[:0], Encoder(W, b), 3), "B > 0"),
        (lambda x, W, b: topk_codes(x[:, 1:], Encoder(W, b), 3), "must be"),
        (lambda x, W, b: topk_codes(x, Encoder(W, b.float()), 3), "one dtype"),
        (lambda x, W, b: topk_codes(x, Encoder(W, b, b), 3), "centre must be"),
        (lambda x, W, b: topk_codes(x, Encoder(W[None], b[None]), 3, screen=True), "screen needs one coder"),
        (lambda x, W, b: batch_topk_codes(x, Encoder(W, b), 0), "n_keep >= 1"),
        (lambda x, W, b: batch_topk_codes(x, Encoder(W[None], b[None]), 3), "one coder"),
        (lambda x, W, b: decode_codes(topk_codes(x, Encoder(W, b), 3), W.float()), "W_dec must have"),
        (lambda x, W, b: l1_loss(x, x, Encoder(W, b), W[1:], 0.1), "do not fit"),
        (lambda x, W, b: jumprelu_loss(x, x, Encoder(W, b), W, b, 0.0), "width positive"),
    ],
)
def test_impossible_arguments_are_refused(call, message):
    case = Case()
    with pytest.raises(ValueError, match=message):
        call(case.x, case.W, case.b)
