"""Losses of densely active coders in one pass over chunks of samples, without storing the batch x latents matrix.

Where most latents are on, sparse codes would cost more than the matrix. Here a chunk's pre-activations, latents and
gradients live in cache, and the gradients of all parameters are summed chunk by chunk during the forward pass; backward
only scales them. Arithmetic: 10 B d n_latents operations, the same as forward and backward of the plain loss.

Below 12 % density (read off 64 samples of the batch) the same losses are taken from sparse codes instead.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.sparse_coders import rules
from lib.sparse_coders.chunks import Pass, add_columns
from lib.sparse_coders.kernels import Codes, check_encoder, decode_codes, threshold_codes
from lib.sparse_coders.selection import pre_acts

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
    x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, coefficient: float, *,
    target: Tensor | None = None, centre: Tensor | None = None, weights: Tensor | None = None, path: str = "auto",
    chunk: int | None = None,
) -> L1Loss:
    """Loss of a ReLU coder, mean over the batch of |f W_dec + b_dec - y|^2 + coefficient sum_i weights_i f_i.

    f = ReLU((x - centre) W_encᵀ + b_enc). The coefficient enters here, because one product gives the encoder's gradient
    of both terms.

    Args:
        x: [B, d_in].
        W_enc: [n_latents, d_in]; b_enc: [n_latents].
        W_dec: [n_latents, d_out]; b_dec: [d_out].
        coefficient: of the penalty; a float without gradient.
        target: y, [B, d_out]; x itself if None.
        centre: subtracted from x, [d_in]; an SAE passes its b_dec.
        weights: of the latents in the penalty, [n_latents], such as the lengths of their decoder rows; 1 if None.
        path: "dense" or "sparse" forces a way of computing it; "auto" takes the faster one.
        chunk: samples whose pre-activations exist at one time; None chooses by the device's cache.
    Returns:
        L1Loss; loss is differentiable in all tensors above, in all at once or in some.
    Source: Bricken et al. 2023, "Towards monosemanticity".
    """
    y = _residual_target(x, W_enc, b_enc, W_dec, b_dec, target, centre)
    if _is_sparse(path, x, W_enc, b_enc, centre, 0.0):
        codes = threshold_codes(x, W_enc, b_enc, centre=centre, chunk=chunk)
        weighted = codes.values if weights is None else codes.values * weights.index_select(0, codes.indices)
        recon, penalty = _squared_error(codes, W_dec, y), weighted.sum() / len(x)
        loss = recon + coefficient * penalty
        return L1Loss(loss, recon.detach(), penalty.detach(), codes.indices.bincount(minlength=len(W_enc)))
    return L1Loss(*_DenseL1.apply(x, y, W_enc, b_enc, W_dec, centre, weights, coefficient, chunk))


def jumprelu_loss(
    x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, b_dec: Tensor, threshold: Tensor, width: float, *,
    target: Tensor | None = None, centre: Tensor | None = None, path: str = "auto", chunk: int | None = None,
) -> JumpReLULoss:
    """Losses of a JumpReLU coder, means over the batch of |f W_dec + b_dec - y|^2 and of L0 = sum_i 1[h_i > θ_i].

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
    y = _residual_target(x, W_enc, b_enc, W_dec, b_dec, target, centre)
    if threshold.shape != b_enc.shape or not width > 0:
        shape = tuple(threshold.shape)
        raise ValueError(f"jumprelu_loss: threshold must be [{len(b_enc)}] and width positive, got {shape} and {width}")
    theta = threshold.clamp(min=0)
    if _is_sparse(path, x, W_enc, b_enc, centre, theta - width / 2):
        codes = threshold_codes(x, W_enc, b_enc, theta, width=width, centre=centre, chunk=chunk)
        h, theta = codes.values.unsqueeze(0), theta.index_select(0, codes.indices)  # [1, nnz], [nnz]
        on = rules.step(h, theta, width)[0]
        codes = codes.with_values(rules.jumprelu(h, theta, width)[0])
        fired = codes.indices[on.detach() > 0].bincount(minlength=len(W_enc))
        return JumpReLULoss(_squared_error(codes, W_dec, y), on.sum() / len(x), fired)
    return JumpReLULoss(*_DenseJumpReLU.apply(x, y, W_enc, b_enc, W_dec, centre, theta, width, chunk))


class _DenseL1(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, W_enc, b_enc, W_dec, centre, weights, coefficient, chunk):
        walk = Pass(x, y, W_enc, b_enc, W_dec, centre, chunk, wants_x=ctx.needs_input_grad[0])
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
        g_weights = None if weights is None else (f_sum * (coefficient / len(x))).to(weights.dtype)
        ctx.save_for_backward(*walk.gradients(), g_weights)
        recon, penalty, fired = walk.recon.to(x.dtype), weighted.to(x.dtype), on_sum.long()
        ctx.mark_non_differentiable(recon, penalty, fired)
        return recon + coefficient * penalty, recon, penalty, fired

    @staticmethod
    @once_differentiable
    def backward(ctx, g, *_):
        return *(None if t is None else t * g for t in ctx.saved_tensors), None, None


class _DenseJumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, W_enc, b_enc, W_dec, centre, theta, width, chunk):
        walk = Pass(x, y, W_enc, b_enc, W_dec, centre, chunk, wants_x=ctx.needs_input_grad[0])
        on_sum, window_sum, pull_sum = walk.zeros(), walk.zeros(), walk.zeros()
        for part, h in walk:
            beyond = h - theta
            on = (beyond > 0).to(h.dtype)
            window = (beyond.abs_() < width / 2).to(h.dtype)
            f = h.mul_(on)
            walk.reconstruct(part, f)
            pull = torch.mm(walk.g, W_dec.T, out=f)  # of recon on f
            add_columns(on_sum, on)
            add_columns(window_sum, window)
            add_columns(pull_sum, window.mul_(pull))
            walk.pull_back(part, pull.mul_(on))
        of_recon, of_l0 = -pull_sum * theta / width, -window_sum / (width * len(x))
        ctx.save_for_backward(*walk.gradients(), of_recon.to(theta.dtype), of_l0.to(theta.dtype))
        fired = on_sum.long()
        ctx.mark_non_differentiable(fired)
        return walk.recon.to(x.dtype), (on_sum.sum() / len(x)).to(x.dtype), fired

    @staticmethod
    @once_differentiable
    def backward(ctx, g_recon, g_l0, _):
        *common, of_recon, of_l0 = ctx.saved_tensors
        return *(None if t is None else t * g_recon for t in common), of_recon * g_recon + of_l0 * g_l0, None, None


def _squared_error(codes: Codes, W_dec: Tensor, y: Tensor) -> Tensor:
    return (decode_codes(codes, W_dec) - y).pow(2).sum() / len(y)


def _residual_target(x, W_enc, b_enc, W_dec, b_dec, target, centre) -> Tensor:
    """y - b_dec, which the latents have to add up to, [B, d_out]."""
    check_encoder(x, W_enc, b_enc, centre)
    y = x if target is None else target
    if W_enc.ndim != 2 or W_dec.shape != (len(W_enc), y.shape[-1]) or b_dec.shape != y.shape[1:] or len(y) != len(x):
        shapes = ", ".join(str(tuple(t.shape)) for t in (W_enc, W_dec, b_dec, y))
        raise ValueError(f"W_enc, W_dec, b_dec and target do not fit one coder and {len(x)} samples: {shapes}")
    return y - b_dec


@torch.no_grad()
def _is_sparse(path: str, x, W_enc, b_enc, centre, lowest: Tensor | float) -> bool:
    """Whether few enough pre-activations exceed `lowest`."""
    if path not in ("auto", "dense", "sparse"):
        raise ValueError(f'path must be "auto", "dense" or "sparse", got {path!r}')
    if path != "auto":
        return path == "sparse"
    probe = x[:: -(-len(x) // PROBE)]
    return float((next(pre_acts(probe, W_enc, b_enc, centre, PROBE)) > lowest).float().mean()) < SPARSE_BELOW
