"""Losses of densely active coders in one pass over chunks of samples, without storing the batch x latents matrix.

Where most latents are on, sparse codes would cost more than the matrix. Here a chunk's pre-activations, latents and
gradients live in cache, and the gradients of all parameters are summed chunk by chunk during the forward pass; backward
only scales them. Arithmetic: 10 B d n_latents operations, the same as forward and backward of the plain loss.

Below 12 % density (read off 64 samples of the batch) the same losses are taken from sparse codes instead.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.sparse_coders import functions
from lib.sparse_coders.kernels import Codes, decode_codes, threshold_codes
from lib.sparse_coders.selection import Encoder

SPARSE_BELOW = 0.12
"""Fraction of active latents below which sparse codes are the faster way."""
PROBE = 64
"""Samples of the batch on which that fraction is measured."""


class L1Loss(NamedTuple):
    """What `l1_loss` returns: loss carries the gradient; recon, penalty and fired (firings per latent) do not."""

    loss: Tensor
    recon: Tensor
    penalty: Tensor
    fired: Tensor


class JumpReLULoss(NamedTuple):
    """What `jumprelu_loss` returns: recon and l0 carry gradients of their own; fired (firings per latent) does not."""

    recon: Tensor
    l0: Tensor
    fired: Tensor


def l1_loss(
    x: Tensor, y: Tensor, encoder: Encoder, W_dec: Tensor, coefficient: float, weights: Tensor | None = None
) -> L1Loss:
    """Loss of a ReLU coder, mean over the batch of |f W_dec - y|^2 + coefficient sum_i weights_i f_i.

    f = ReLU(h). The coefficient enters here, because one product gives the encoder's gradient of both terms.

    Args:
        x: [B, d_in]; y: what the latents have to add up to, the target less the decoder's bias, [B, d_out].
        encoder, W_dec: of one coder; coefficient: of the penalty, a float without gradient.
        weights: of the latents in the penalty, [n_latents], such as the lengths of their decoder rows; 1 if None.
    Returns:
        L1Loss; loss is differentiable in all tensors above, in all at once or in some.
    Source: Bricken et al. 2023, "Towards monosemanticity".
    """
    _check(x, y, encoder, W_dec)
    if _is_sparse(x, encoder, 0.0):
        codes = threshold_codes(x, encoder)
        weighted = codes.values if weights is None else codes.values * weights.index_select(0, codes.indices)
        recon, penalty = _squared_error(codes, W_dec, y), weighted.sum() / len(x)
        loss = recon + coefficient * penalty
        return L1Loss(loss, recon.detach(), penalty.detach(), codes.indices.bincount(minlength=len(W_dec)))
    return L1Loss(*_DenseL1.apply(x, y, *encoder, W_dec, weights, coefficient))


def jumprelu_loss(
    x: Tensor, y: Tensor, encoder: Encoder, W_dec: Tensor, threshold: Tensor, width: float
) -> JumpReLULoss:
    """Losses of a JumpReLU coder, means over the batch of |f W_dec - y|^2 and of L0 = sum_i 1[h_i > θ_i].

    f = h · 1[h > θ] with θ = max(threshold, 0). Their gradients for θ are estimated from the pre-activations within
    width / 2 of it: df/dθ = -θ/width, d1[h > θ]/dθ = -1/width there, 0 elsewhere. L0 has no gradient but θ's.

    Args:
        threshold: raw θ, [n_latents]; below 0 it counts as 0 and gets no gradient.
        width: of the rectangle kernel.
        The others: as `l1_loss`.
    Returns:
        JumpReLULoss; build any penalty from l0, such as coefficient * l0 or (l0 / wanted - 1)^2.
    Source: Rajamanoharan et al. 2024, "Jumping ahead".
    """
    _check(x, y, encoder, W_dec)
    if threshold.shape != encoder.b.shape or not width > 0:
        given = f"{tuple(threshold.shape)} and {width}"
        raise ValueError(f"jumprelu_loss: threshold must be [{len(W_dec)}] and width positive, got {given}")
    theta = threshold.clamp(min=0)
    if _is_sparse(x, encoder, theta - width / 2):
        codes = threshold_codes(x, encoder, theta, width=width)
        h, theta = codes.values.unsqueeze(0), theta.index_select(0, codes.indices)  # [1, nnz], [nnz]
        on = functions.step(h, theta, width)[0]
        codes = codes.with_values(functions.jumprelu(h, theta, width)[0])
        fired = codes.indices[on.detach() > 0].bincount(minlength=len(W_dec))
        return JumpReLULoss(_squared_error(codes, W_dec, y), on.sum() / len(x), fired)
    return JumpReLULoss(*_DenseJumpReLU.apply(x, y, *encoder, W_dec, theta, width))


class _DenseL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, W_enc, b_enc, centre, W_dec, weights, coefficient):
        walk = Pass(x, y, Encoder(W_enc, b_enc, centre), W_dec, wants_x=ctx.needs_input_grad[0])
        on_sum, f_sum = walk.zeros(), walk.zeros()
        slope = W_dec.new_ones(len(W_enc)) if weights is None else weights
        for part, h in walk:
            f = h.relu_()
            walk.reconstruct(part, f)
            on = f.sign()
            add_columns(on_sum, on)
            add_columns(f_sum, f)
            pull = torch.addmm(slope * (coefficient / len(x)), walk.g, W_dec.T, out=f)  # of recon and penalty on f
            walk.pull_back(part, pull.mul_(on))
        weighted = (f_sum * slope).sum() / len(x)
        g_weights = None if weights is None else f_sum * (coefficient / len(x))
        ctx.save_for_backward(*walk.gradients(), g_weights)
        recon, fired = walk.recon, on_sum.long()
        ctx.mark_non_differentiable(recon, weighted, fired)
        return recon + coefficient * weighted, recon, weighted, fired

    @staticmethod
    @once_differentiable
    def backward(ctx, g, *_):
        return *(None if t is None else t * g for t in ctx.saved_tensors), None


class _DenseJumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, W_enc, b_enc, centre, W_dec, theta, width):
        walk = Pass(x, y, Encoder(W_enc, b_enc, centre), W_dec, wants_x=ctx.needs_input_grad[0])
        on_sum, window_sum, pull_sum = walk.zeros(), walk.zeros(), walk.zeros()
        for part, h in walk:
            beyond = h - theta
            on = torch.gt(beyond, 0, out=torch.empty_like(h))  # as numbers at once, where `>` would be cast
            window = beyond.abs_().lt_(width / 2)
            f = h.mul_(on)
            walk.reconstruct(part, f)
            pull = torch.mm(walk.g, W_dec.T, out=f)  # of recon on f
            add_columns(on_sum, on)
            add_columns(window_sum, window)
            add_columns(pull_sum, window.mul_(pull))
            walk.pull_back(part, pull.mul_(on))
        of_recon, of_l0 = -pull_sum * theta / width, -window_sum / (width * len(x))
        ctx.save_for_backward(*walk.gradients(), of_recon, of_l0)
        fired = on_sum.long()
        ctx.mark_non_differentiable(fired)
        return walk.recon, on_sum.sum() / len(x), fired

    @staticmethod
    @once_differentiable
    def backward(ctx, g_recon, g_l0, _):
        *common, of_recon, of_l0 = ctx.saved_tensors
        return *(None if t is None else t * g_recon for t in common), of_recon * g_recon + of_l0 * g_l0, None


class Pass:
    """One pass over a batch in chunks, adding up the reconstruction error and every gradient it has.

    Iterating gives (the chunk's samples, its pre-activations to be overwritten).
    """

    def __init__(self, x: Tensor, y: Tensor, encoder: Encoder, W_dec: Tensor, wants_x: bool):
        self.x, self.y, self.encoder, self.W_dec = x, y, encoder, W_dec
        self.recon, self.g_b = x.new_zeros(()), self.zeros()
        self.g_enc, self.g_dec = torch.zeros_like(encoder.W), torch.zeros_like(W_dec)
        self.g_y, self.g_x, self.g = torch.empty_like(y), torch.empty_like(x) if wants_x else None, None

    def zeros(self) -> Tensor:
        """One sum per latent, [n_latents]."""
        return self.x.new_zeros(len(self.W_dec))

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        first = 0
        for h in self.encoder.pre_acts(self.x):
            yield slice(first, first + len(h)), h
            first += len(h)

    def reconstruct(self, part: slice, f: Tensor) -> None:
        """Decode latents [chunk, n_latents]; leaves d recon / d x̂ in `g`, [chunk, d_out]."""
        error = torch.mm(f, self.W_dec).sub_(self.y[part])
        self.recon += error.pow(2).sum() / len(self.x)
        self.g = error.mul_(2 / len(self.x))
        torch.neg(self.g, out=self.g_y[part])
        self.g_dec.addmm_(f.T, self.g)

    def pull_back(self, part: slice, g_h: Tensor) -> None:
        """Take the gradient of the pre-activations, [chunk, n_latents], back to the encoder."""
        self.g_enc.addmm_(g_h.T, self.x[part])
        add_columns(self.g_b, g_h)
        if self.g_x is not None:
            torch.mm(g_h, self.encoder.W, out=self.g_x[part])

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Of x, y, W_enc, b_enc, centre and W_dec."""
        (W, _, centre), g_centre = self.encoder, None
        if centre is not None:
            self.g_enc -= torch.outer(self.g_b, centre)  # the sums above took x, not x - centre
            g_centre = -(self.g_b @ W)
        return self.g_x, self.g_y, self.g_enc, self.g_b, g_centre, self.g_dec


def add_columns(total: Tensor, matrix: Tensor) -> None:
    """total += the sums of the matrix's columns; as a product with ones this is several times faster than `sum(0)`."""
    total.addmv_(matrix.T, matrix.new_ones(len(matrix)))


def _squared_error(codes: Codes, W_dec: Tensor, y: Tensor) -> Tensor:
    return (decode_codes(codes, W_dec) - y).pow(2).sum() / len(y)


def _check(x: Tensor, y: Tensor, encoder: Encoder, W_dec: Tensor) -> None:
    encoder.check(x)
    if encoder.W.ndim != 2 or W_dec.shape != (len(encoder.W), y.shape[-1]) or len(y) != len(x):
        shapes = ", ".join(str(tuple(t.shape)) for t in (encoder.W, W_dec, y))
        raise ValueError(f"W_enc, W_dec and target do not fit one coder and {len(x)} samples: {shapes}")


@torch.no_grad()
def _is_sparse(x: Tensor, encoder: Encoder, lowest: Tensor | float) -> bool:
    """Whether few enough pre-activations exceed `lowest`."""
    probe = x[:: -(-len(x) // PROBE)]
    return float((next(encoder.pre_acts(probe)) > lowest).float().mean()) < SPARSE_BELOW
