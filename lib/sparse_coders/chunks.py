"""Losses added up over chunks of samples, with their gradients, at the memory of one chunk.

Sums over a batch are kept in float32 at least, whatever the dtype of the data.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.sparse_coders.selection import chunk_size, pre_acts


def chunked_loss(
    part: Callable[..., tuple[Tensor, ...]], batch: tuple[Tensor, ...], parameters: tuple[Tensor, ...], chunk: int
) -> tuple[Tensor, ...]:
    """Sum of any loss over chunks of samples, with gradients, at the memory of one chunk.

    For encoder rules that are dense and have no kernel of their own. Autograd runs inside each chunk, and one chunk's
    graph is freed before the next begins.

    Args:
        part: called as part(*chunk of each of batch, *parameters); returns its loss, a scalar that adds up over chunks
            (divide by the batch's size, not the chunk's), and statistics that add up too.
        batch: tensors whose first dimension is the samples; they get no gradient.
        parameters: what gets the gradient.
        chunk: samples per chunk; `chunk_size(n_latents, device)` fits the cache.
    Returns:
        The loss, differentiable in the parameters, and the sums of the statistics.
    """
    if len({len(t) for t in batch}) != 1 or len(batch[0]) == 0:
        raise ValueError(f"chunked_loss: batch needs as many samples everywhere, got {[len(t) for t in batch]}")
    return _Chunked.apply(part, chunk, len(batch), *batch, *parameters)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part, chunk, n_batch, *tensors):
        batch, leaves = tensors[:n_batch], [p.detach().requires_grad_() for p in tensors[n_batch:]]
        sums, gradients = None, [torch.zeros_like(p) for p in leaves]
        for pieces in zip(*(t.split(chunk) for t in batch), strict=True):
            with torch.enable_grad():
                loss, *statistics = part(*pieces, *leaves)
            for total, new in zip(gradients, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
                total += 0 if new is None else new
            new = [loss.detach(), *(s.detach() for s in statistics)]
            sums = new if sums is None else [a + b for a, b in zip(sums, new, strict=True)]
        ctx.save_for_backward(*gradients)
        ctx.before = 3 + n_batch
        ctx.mark_non_differentiable(*sums[1:])
        return tuple(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, *_):
        return *[None] * ctx.before, *(t * g for t in ctx.saved_tensors)


class Pass:
    """One pass over a batch in chunks, adding up the reconstruction error and every gradient it has.

    Iterating gives (the chunk's samples, its pre-activations to be overwritten). Sums are float32 at least.
    """

    def __init__(self, x, y, W_enc, b_enc, W_dec, centre, chunk, wants_x: bool):
        self.x, self.y, self.W_enc, self.b_enc, self.W_dec, self.centre = x, y, W_enc, b_enc, W_dec, centre
        self.chunk = chunk or chunk_size(len(W_enc), x.device)
        self.wide = torch.promote_types(x.dtype, torch.float32)
        self.recon, self.g_b = x.new_zeros((), dtype=self.wide), self.zeros()
        self.g_enc, self.g_dec = (torch.zeros_like(W, dtype=self.wide) for W in (W_enc, W_dec))
        self.g_y, self.g_x, self.g = torch.empty_like(y), torch.empty_like(x) if wants_x else None, None

    def zeros(self) -> Tensor:
        """One sum per latent, [n_latents]."""
        return self.x.new_zeros(len(self.W_enc), dtype=self.wide)

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        first = 0
        for h in pre_acts(self.x, self.W_enc, self.b_enc, self.centre, self.chunk):
            yield slice(first, first + len(h)), h
            first += len(h)

    def reconstruct(self, part: slice, f: Tensor) -> None:
        """Decode latents [chunk, n_latents]; leaves d recon / d x̂ in `g`, [chunk, d_out]."""
        error = torch.mm(f, self.W_dec).sub_(self.y[part])
        self.recon += error.to(self.wide).pow(2).sum() / len(self.x)
        self.g = error.mul_(2 / len(self.x))
        torch.neg(self.g, out=self.g_y[part])
        add_product(self.g_dec, f.T, self.g)

    def pull_back(self, part: slice, g_h: Tensor) -> None:
        """Take the gradient of the pre-activations, [chunk, n_latents], back to the encoder."""
        add_product(self.g_enc, g_h.T, self.x[part])
        add_columns(self.g_b, g_h)
        if self.g_x is not None:
            torch.mm(g_h, self.W_enc, out=self.g_x[part])

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of x, y, W_enc, b_enc, W_dec and centre."""
        dtype, g_centre = self.x.dtype, None
        if self.centre is not None:
            self.g_enc -= torch.outer(self.g_b, self.centre)  # the sums above took x, not x - centre
            g_centre = -(self.g_b.to(dtype) @ self.W_enc)
        return self.g_x, self.g_y, self.g_enc.to(dtype), self.g_b.to(dtype), self.g_dec.to(dtype), g_centre


def add_columns(total: Tensor, matrix: Tensor) -> None:
    """total += the sums of the matrix's columns; as a product with ones this is several times faster than `sum(0)`."""
    if total.dtype == matrix.dtype:
        total.addmv_(matrix.T, matrix.new_ones(len(matrix)))
    else:
        total += matrix.sum(0, dtype=total.dtype)


def add_product(total: Tensor, A: Tensor, B: Tensor) -> None:
    """total += A B, added up in total's dtype."""
    if total.dtype == A.dtype:
        total.addmm_(A, B)
    else:
        total += A @ B
