"""Sparse codes of a batch, with their gradients, without ever storing the batch x latents matrix.

Pre-activations h = (x - centre) W_encᵀ + b_enc are computed a chunk of samples at a time; of each chunk only the
selected ones are kept, and everything after that costs batch x k x d. Selection has no gradient; the values have.

    codes = topk_codes(x, W_enc, b_enc, k=32)
    codes = codes.with_values(codes.values.relu())
    recons = decode_codes(codes, W_dec) + b_dec

Measured on CPU in float32, float64 and bfloat16. On CUDA (not run so far) only operations PyTorch documents there are
used; for what has no kernel in a dtype, `_dots` gathers rows instead, which gives the same numbers.
"""
from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 512
"""Samples whose pre-activations exist at one time; at 3,072 latents in float32 they are 6 MB and stay in cache."""


class Transpose:
    """The codes of a batch sorted by latent, built at its first use and shared by every gradient that needs it."""

    def __init__(self, indices: Tensor, offsets: Tensor):
        self.indices, self.offsets = indices, offsets

    @cached_property
    def bag(self) -> Tensor:
        """Row of the codes (sample; sample x coder in a table) each code belongs to, [nnz]."""
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.indices)])])
        rows = torch.arange(len(self.offsets), device=self.indices.device)
        return rows.repeat_interleave(ends - self.offsets, output_size=len(self.indices))

    @cached_property
    def order(self) -> Tensor:
        """Permutation of the codes that sorts them by latent, [nnz]."""
        return self.indices.argsort(stable=True)

    def starts(self, n_latents: int) -> Tensor:
        """Where each latent's codes start in that order, [n_latents]."""
        counts = self.indices.bincount(minlength=n_latents)
        return counts.cumsum(0) - counts


class Codes(NamedTuple):
    """Sparse latents of a batch, sample after sample.

    Attributes:
        values: of the selected latents, [nnz]; carries the gradient.
        indices: which latent each value belongs to, int64 [nnz].
        offsets: where each sample's codes start, int64 [B] (a table of S coders: [B * S], coders of a sample adjacent).
        transpose: the same codes by latent; None where the codes were put together by hand.
    """

    values: Tensor
    indices: Tensor
    offsets: Tensor
    transpose: Transpose | None = None

    def with_values(self, values: Tensor) -> Codes:
        """The same latents with other values, [nnz]."""
        return self._replace(values=values)

    @property
    def samples(self) -> Tensor:
        """Row of the codes each value belongs to, [nnz]."""
        return self.by_latent.bag

    @property
    def by_latent(self) -> Transpose:
        return self.transpose or Transpose(self.indices, self.offsets)

    def dense(self, n_latents: int) -> Tensor:
        """All latents, [len(offsets), n_latents]; for looking at few samples, and for tests."""
        out = self.values.new_zeros(len(self.offsets), n_latents)
        return out.index_put((self.samples, self.indices), self.values, accumulate=True)


def topk_codes(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    k: int,
    *,
    centre: Tensor | None = None,
    absolute: bool = False,
    chunk: int = CHUNK,
) -> Codes:
    """The k largest pre-activations of each sample, h_bi = (x_b - centre) · W_enc_i + b_enc_i; no ReLU is applied.

    Args:
        x: [B, d_in].
        W_enc: [n_latents, d_in]; b_enc: [n_latents].
        k: latents kept per sample.
        centre: subtracted from x, [d_in]; given here, its gradient costs nothing extra.
        absolute: select by |h|; the values keep their sign.
        chunk: samples whose pre-activations exist at one time.
    Returns:
        Codes with B k values in no particular order within a sample, differentiable in x, W_enc, b_enc and centre.
    Raises:
        ValueError: shapes that do not fit, or k outside 1..n_latents.
    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders". Chapter: studies/sparse_coders_recovery.
    """
    _check_encoder(x, W_enc, b_enc, centre)
    if not 1 <= k <= len(W_enc):
        raise ValueError(f"topk_codes: k must be between 1 and the {len(W_enc)} latents, got {k}")
    kept = [_largest(h, k, absolute) for h in _pre_acts(x, W_enc, b_enc, centre, chunk)]
    indices = torch.cat([indices for _, indices in kept]).flatten()  # [B k]
    values = torch.cat([values for values, _ in kept]).flatten()
    return _attach(x, W_enc, b_enc, centre, values, indices, torch.arange(0, len(indices), k, device=x.device))


def threshold_codes(
    x: Tensor,
    W_enc: Tensor,
    b_enc: Tensor,
    threshold: Tensor | float = 0.0,
    *,
    width: float = 0.0,
    centre: Tensor | None = None,
    chunk: int = CHUNK,
) -> Codes:
    """All pre-activations above threshold - width / 2; with threshold 0 and width 0 those a ReLU lets pass.

    Args:
        x: [B, d_in].
        W_enc: [n_latents, d_in]; b_enc: [n_latents].
        threshold: one for all latents or [n_latents]; it gets no gradient here.
        width: of the window around the threshold in which a JumpReLU's threshold has a gradient.
        centre: subtracted from x, [d_in].
        chunk: samples whose pre-activations exist at one time.
    Returns:
        Codes, any number per sample, differentiable in x, W_enc, b_enc and centre.
    Raises:
        ValueError: shapes that do not fit.
    Chapter: studies/sparse_coders_recovery.
    """
    _check_encoder(x, W_enc, b_enc, centre)
    lowest = (threshold.detach() if isinstance(threshold, Tensor) else threshold) - width / 2
    kept = [_above(h, lowest) for h in _pre_acts(x, W_enc, b_enc, centre, chunk)]
    values, indices, counts = (torch.cat(parts) for parts in zip(*kept, strict=True))
    return _attach(x, W_enc, b_enc, centre, values, indices, counts.cumsum(0) - counts)


def decode_codes(codes: Codes, W_dec: Tensor) -> Tensor:
    """Sum of the codes' decoder rows, x̂_b = sum_i f_bi W_dec_i (the decoder's bias is left to the caller).

    Args:
        codes: of B samples.
        W_dec: [n_latents, d_out].
    Returns:
        [B, d_out], differentiable in codes.values and W_dec; zero for a sample without codes.
    Raises:
        ValueError: W_dec is no matrix or of another dtype than the values.
    Chapter: studies/sparse_coders_recovery.
    """
    if W_dec.ndim != 2 or W_dec.dtype != codes.values.dtype:
        values = codes.values.dtype
        raise ValueError(f"decode_codes: W_dec must be a matrix of {values}, got {tuple(W_dec.shape)} of {W_dec.dtype}")
    return _Decode.apply(codes.values, W_dec, codes)


class _Attach(torch.autograd.Function):
    """Selected pre-activations, given their values, with the gradient of h = (x - centre) W_encᵀ + b_enc."""

    @staticmethod
    def forward(ctx, x, W_enc, b_enc, centre, values, indices, codes):
        ctx.save_for_backward(x, W_enc, centre, indices)
        ctx.codes = codes
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, W_enc, centre, indices = ctx.saved_tensors
        needs, codes, g = ctx.needs_input_grad, ctx.codes, g.contiguous()
        g_b = _sum_by_latent(g, indices, len(W_enc))
        g_x = bags(W_enc, indices, codes.offsets, g) if needs[0] else None
        g_W = _rows_by_latent(x, g, codes, len(W_enc)) if needs[1] else None
        if g_W is not None and centre is not None:
            g_W -= torch.outer(g_b, centre).to(g_W.dtype)
        g_centre = -(g_b.to(W_enc.dtype) @ W_enc) if needs[3] else None
        return g_x, g_W, g_b.to(W_enc.dtype), g_centre, None, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, W_dec, codes):
        ctx.save_for_backward(values, W_dec, codes.indices)
        ctx.codes = Codes(None, codes.indices, codes.offsets, codes.by_latent)
        return bags(W_dec, codes.indices, codes.offsets, values)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        values, W_dec, indices = ctx.saved_tensors
        codes, g = ctx.codes, g.contiguous()
        g_values = dots(g, W_dec, codes) if ctx.needs_input_grad[0] else None
        g_W = _rows_by_latent(g, values, codes, len(W_dec)) if ctx.needs_input_grad[1] else None
        return g_values, g_W, None


def bags(table: Tensor, indices: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows of a table, out_n = sum_{j in bag n} weights_j table[indices_j]; empty bags give 0."""
    return F.embedding_bag(indices, table.contiguous(), offsets, per_sample_weights=weights.contiguous(), mode="sum")


def dots(rows: Tensor, table: Tensor, codes: Codes) -> Tensor:
    """rows[sample of j] · table[latent of j] for every code j, [nnz]."""
    bag, indices = codes.by_latent.bag, codes.indices
    if len(indices) == 0:
        return rows.new_zeros(0)
    if rows.dtype in (torch.float32, torch.float64):
        backward = torch.ops.aten._embedding_bag_per_sample_weights_backward
        return backward(rows.contiguous(), table.contiguous(), indices, codes.offsets, bag, 0, -1)
    return gathered_dots(rows, table, indices, bag)


def gathered_dots(rows: Tensor, table: Tensor, indices: Tensor, bag: Tensor, step: int = 1 << 14) -> Tensor:
    """What `dots` gives, by gathering both rows of every code; accumulated in float32 at least."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    parts = [
        (rows[b].to(wide) * table[i].to(wide)).sum(1) for b, i in zip(bag.split(step), indices.split(step), strict=True)
    ]
    return torch.cat(parts).to(rows.dtype)


def _rows_by_latent(rows: Tensor, weights: Tensor, codes: Codes, n_latents: int) -> Tensor:
    """Gradient of a sparse layer's weights: row i is the sum over codes of latent i of weight x row, [n_latents, d]."""
    by = codes.by_latent
    return bags(rows, by.bag[by.order], by.starts(n_latents), weights[by.order])


def _sum_by_latent(values: Tensor, indices: Tensor, n_latents: int) -> Tensor:
    wide = torch.promote_types(values.dtype, torch.float32)
    return torch.zeros(n_latents, dtype=wide, device=values.device).index_add_(0, indices, values.to(wide))


def _attach(x, W_enc, b_enc, centre, values, indices, offsets) -> Codes:
    transpose = Transpose(indices, offsets)
    codes = Codes(None, indices, offsets, transpose)
    return Codes(_Attach.apply(x, W_enc, b_enc, centre, values, indices, codes), indices, offsets, transpose)


@torch.no_grad()
def _pre_acts(x: Tensor, W_enc: Tensor, b_enc: Tensor, centre: Tensor | None, chunk: int):
    """Pre-activations, [<= chunk, n_latents] at a time."""
    for part in x.detach().split(chunk):
        yield torch.addmm(b_enc, part if centre is None else part - centre, W_enc.T)


def _largest(h: Tensor, k: int, absolute: bool) -> tuple[Tensor, Tensor]:
    indices = (h.abs() if absolute else h).topk(k, sorted=False).indices  # [chunk, k]
    return h.gather(1, indices), indices


def _above(h: Tensor, lowest: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Values, latents and their number per sample of what exceeds `lowest`."""
    mask = h > lowest
    flat = mask.view(-1).nonzero().squeeze(1)
    return h.view(-1)[flat], flat % h.shape[1], mask.sum(1)


def _check_encoder(x: Tensor, W_enc: Tensor, b_enc: Tensor, centre: Tensor | None) -> None:
    if x.ndim != 2 or W_enc.ndim != 2 or x.shape[1] != W_enc.shape[1] or b_enc.shape != W_enc.shape[:1]:
        shapes = f"{tuple(x.shape)}, {tuple(W_enc.shape)} and {tuple(b_enc.shape)}"
        raise ValueError(f"x, W_enc and b_enc must be [B, d], [n_latents, d] and [n_latents], got {shapes}")
    if len(x) == 0:
        raise ValueError("x holds no samples; leave the empty batch out")
    if centre is not None and centre.shape != x.shape[1:]:
        raise ValueError(f"centre must be [{x.shape[1]}] like a sample, got {tuple(centre.shape)}")
    if len({t.dtype for t in (x, W_enc, b_enc)}) > 1:
        raise ValueError(f"x, W_enc and b_enc differ in dtype: {x.dtype}, {W_enc.dtype}, {b_enc.dtype}")
