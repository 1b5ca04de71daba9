"""Sparse codes of a batch, with their gradients, without ever storing the batch x latents matrix.

Pre-activations h = (x - centre) W_encᵀ + b_enc are computed a chunk of samples at a time; of each chunk only the
selected ones are kept, and everything after that costs batch x k x d. Selection has no gradient; the values have.

    codes = topk_codes(x, Encoder(W_enc, b_enc, centre), k=32)
    codes = codes.with_values(codes.values.relu())
    recons = decode_codes(codes, W_dec) + b_dec

Many coders of one shape on the same samples are one table: an encoder of S coders, and W_dec [S, n_latents, d_out].
Latent i of coder s is then number s n_latents + i, and every sample has S bags.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.sparse_coders import selection
from lib.sparse_coders.selection import Encoder
from lib.sparse_coders.sparse_ops import Bags, dots, sum_rows, sum_rows_by_latent


class Codes(NamedTuple):
    """Sparse latents of a batch, sample after sample.

    Attributes:
        values: of the selected latents, [nnz]; carries the gradient.
        indices: which latent each value belongs to, int64 [nnz].
        offsets: where each sample's codes start, int64 [B] (in a table [B S], the coders of a sample adjacent).
        bags: the same codes ordered by latent, worked out once per batch; None where codes are put together by hand.
    """

    values: Tensor
    indices: Tensor
    offsets: Tensor
    bags: Bags | None = None

    def with_values(self, values: Tensor) -> Codes:
        """The same latents with other values, [nnz]."""
        return self._replace(values=values)

    def nonzero(self) -> Codes:
        """These codes without those whose value is 0."""
        kept = self.values.detach() != 0
        counts = self.samples[kept].bincount(minlength=len(self.offsets))
        return Codes(self.values[kept], self.indices[kept], counts.cumsum(0) - counts)

    @property
    def samples(self) -> Tensor:
        """Row of `dense` each value belongs to: the sample, in a table the sample x S + the coder, [nnz]."""
        return self.bagged.bag.long()

    @property
    def bagged(self) -> Bags:
        """Bags of the codes, made here if they came without one."""
        return self.bags or Bags(self.indices, self.offsets)

    def dense(self, n_latents: int) -> Tensor:
        """All latents, [len(offsets), n_latents], differentiable in the values; for few samples, and for tests."""
        out = self.values.new_zeros(len(self.offsets), n_latents)
        return out.index_put((self.samples, self.indices), self.values, accumulate=True)


def sparse(parts: Iterable[Tensor]) -> Codes:
    """The non-zero entries of dense latents, given a few samples at a time ([samples, n_latents] each), as codes."""
    values, indices, counts = [], [], []
    for latents in parts:
        on = latents.detach() != 0
        rows, columns = on.nonzero(as_tuple=True)
        values.append(latents[rows, columns])
        indices.append(columns)
        counts.append(on.sum(1))
    counts = torch.cat(counts)
    return Codes(torch.cat(values), torch.cat(indices), counts.cumsum(0) - counts)


def topk_codes(
    x: Tensor, encoder: Encoder, k: int | Sequence[int], *, absolute: bool = False, screen: bool = False
) -> Codes:
    """The k largest pre-activations of each sample; no ReLU is applied.

    Args:
        x: [B, d_in].
        encoder: of one coder or of a table.
        k: latents kept per sample; in a table one for all coders or one per coder.
        absolute: select by |h|; the values keep their sign.
        screen: find the k + 8 largest in bfloat16 and choose among them in full precision. About half the time where
            the processor multiplies bfloat16 natively, two to three times the time elsewhere; a latent that bfloat16
            ranks lower than that is missed.
    Returns:
        Codes with k values per sample, in no particular order, differentiable in x and the encoder.
    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders".
    """
    encoder.check(x)
    ks, n = [k] * encoder.coders if isinstance(k, int) else list(k), encoder.b.shape[-1]
    if len(ks) != encoder.coders or not all(1 <= k <= n for k in ks):
        raise ValueError(f"topk_codes: k must be 1..{n} for each of {encoder.coders} coders, got {k}")
    if screen and encoder.W.ndim != 2:
        raise ValueError(f"topk_codes: screen needs one coder, got W_enc {tuple(encoder.W.shape)}")
    with torch.no_grad():
        if screen:
            values, indices = selection.screened_largest(x, encoder, ks[0], absolute)
        else:
            values, indices = selection.sample_largest(x, encoder, ks, absolute)
        starts = torch.tensor([0, *ks[:-1]], device=x.device).cumsum(0)  # [S]
        offsets = (torch.arange(len(x), device=x.device).unsqueeze(1) * sum(ks) + starts).flatten()  # [B S]
    return _with_gradient(x, encoder, values, indices, offsets)


def batch_topk_codes(x: Tensor, encoder: Encoder, n_keep: int, *, floor: float = 0.0) -> tuple[Codes, Tensor]:
    """The n_keep largest positive pre-activations of the whole batch (fewer where fewer are positive).

    Args:
        x: [B, d_in].
        encoder: of one coder.
        n_keep: latents kept in all, k B for k per sample on average.
        floor: where the threshold is expected, such as the last batch's; saves time, never changes the result.
    Returns:
        Codes, any number per sample, differentiable in x and the encoder; and the threshold, the smallest value kept,
        a scalar without gradient that is +inf where nothing was positive.
    Source: Bussmann et al. 2024, "BatchTopK sparse autoencoders".
    """
    encoder.check(x)
    if encoder.W.ndim != 2 or n_keep < 1:
        shape = tuple(encoder.W.shape)
        raise ValueError(f"batch_topk_codes: one coder and n_keep >= 1, got W_enc {shape} and n_keep {n_keep}")
    with torch.no_grad():
        values, places = selection.batch_largest(x, encoder, n_keep, floor)
        threshold = values.min() if len(values) else values.new_full((), math.inf)
    return _placed(x, encoder, values, places), threshold


def threshold_codes(
    x: Tensor, encoder: Encoder, threshold: Tensor | float = 0.0, *, width: float = 0.0
) -> Codes:
    """All pre-activations above threshold - width / 2; with threshold 0 and width 0 those a ReLU lets pass.

    Args:
        x: [B, d_in].
        encoder: of one coder.
        threshold: one number, or one per latent, shaped like encoder.b; it gets no gradient here.
        width: of the window around the threshold in which a JumpReLU's threshold has a gradient.
    Returns:
        Codes, any number per sample, differentiable in x and the encoder.
    """
    encoder.check(x)
    first, values, places = 0, [], []
    with torch.no_grad():
        for h in encoder.pre_acts(x):
            found = selection.exceeding(h, threshold - width / 2)
            values.append(found[0])
            places.append(found[1] + first)
            first += h.numel()
    return _placed(x, encoder, torch.cat(values), torch.cat(places))


def decode_codes(codes: Codes, W_dec: Tensor) -> Tensor:
    """Sum of the codes' decoder rows, x̂_b = sum_i f_bi W_dec_i (the decoder's bias is left to the caller).

    Args:
        codes: of B samples.
        W_dec: [n_latents, d_out], or [S, n_latents, d_out] for a table.
    Returns:
        [B, d_out], or [B, S, d_out]; differentiable in codes.values and W_dec; 0 for a sample without codes.
    """
    if W_dec.ndim not in (2, 3) or W_dec.dtype != codes.values.dtype:
        wanted = f"two or three dimensions of {codes.values.dtype}"
        raise ValueError(f"decode_codes: W_dec must have {wanted}, got {tuple(W_dec.shape)} of {W_dec.dtype}")
    recons = _Decode.apply(codes.values, W_dec.flatten(0, -2), codes.bagged)
    return recons if W_dec.ndim == 2 else recons.unflatten(0, (-1, len(W_dec)))


class _Encode(torch.autograd.Function):
    """Values of selected pre-activations h = (x - centre) W_encᵀ + b_enc, found already, with the gradient of h."""

    @staticmethod
    def forward(ctx, x, W_enc, b_enc, centre, values, bags):
        ctx.save_for_backward(x, W_enc, centre)
        ctx.bags = bags
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, W_enc, centre = ctx.saved_tensors
        bags, (coders, n, d) = ctx.bags, W_enc.reshape(-1, *W_enc.shape[-2:]).shape
        W, g, g_x, g_W, g_centre = W_enc.reshape(-1, d), g.contiguous(), None, None, None
        g_b = g.new_zeros(len(W)).index_add_(0, bags.indices, g).view(coders, 1, n)
        if ctx.needs_input_grad[0]:
            g_x = sum_rows(W, bags.indices, bags.edges, g).view(len(x), coders, d).sum(1)
        if ctx.needs_input_grad[1]:
            g_W = sum_rows_by_latent(x, g, bags, len(W), per_row=coders).view(coders, n, d)
            if centre is not None:
                g_W.baddbmm_(g_b.mT, centre.view(coders, 1, d), alpha=-1)
            g_W = g_W.view_as(W_enc)
        if ctx.needs_input_grad[3]:
            g_centre = -(g_b @ W.view(coders, n, d)).view_as(centre)
        return g_x, g_W, g_b.view(W_enc.shape[:-1]), g_centre, None, None


class _Decode(torch.autograd.Function):
    """Sums of decoder rows, with the gradient of the values and of the rows."""

    @staticmethod
    def forward(ctx, values, W_dec, bags):
        ctx.save_for_backward(values, W_dec)
        ctx.bags = bags
        return sum_rows(W_dec, bags.indices, bags.edges, values)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        values, W_dec = ctx.saved_tensors
        g, g_values, g_W = g.contiguous(), None, None
        if ctx.needs_input_grad[0]:
            g_values = dots(g, W_dec, ctx.bags)
        if ctx.needs_input_grad[1]:
            g_W = sum_rows_by_latent(g, values, ctx.bags, len(W_dec))
        return g_values, g_W, None


def _with_gradient(x: Tensor, encoder: Encoder, values: Tensor, indices: Tensor, offsets: Tensor) -> Codes:
    bags = Bags(indices, offsets)
    return Codes(_Encode.apply(x, *encoder, values, bags), indices, offsets, bags)


def _placed(x: Tensor, encoder: Encoder, values: Tensor, places: Tensor) -> Codes:
    """Codes at sample x n_latents + latent, given in that order."""
    n = len(encoder.b)
    firsts = torch.arange(0, len(x) * n, n, device=x.device)
    return _with_gradient(x, encoder, values, places % n, torch.searchsorted(places, firsts))
