"""What training minimises, for every rule: its parts, the moment they are taken at, the way through large batches.

Reconstruction is summed over dimensions and averaged over the batch, mean_b |x̂_b - x_b|^2; penalties are summed over
latents and averaged over the batch, so nothing depends on the batch size.

Large batches never store the [B, n_latents] matrix, but for two: matching_pursuit, and jumprelu with penalty target_l0
in bfloat16.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.sparse_coders import kernels
from lib.sparse_coders.selection import Encoder, chunk_size

if TYPE_CHECKING:
    from lib.sparse_coders.coder import SparseCoder
    from lib.sparse_coders.rule import Weights

FUSED_FROM = 1 << 18
"""B x n_latents from which the losses of dense rules are computed without storing that matrix."""


class Moment(NamedTuple):
    """Where training stands.

    Attributes:
        sparsity: factor on the penalty, 0 to 1 during its warm-up.
        progress: share of training done, 0 to 1.
        dead: ids of dead latents, int64 [n_dead], or None where there can be none yet.
        rng: source of masks and of k per sample, on the coder's device; needed by abs_topk with k_min and stochastic.
        decay: of the running mean of the batch thresholds that inference uses.
        bf16: multiply in bfloat16; only for rules that have it.
    """

    sparsity: float = 1.0
    progress: float = 0.0
    dead: Tensor | None = None
    rng: torch.Generator | None = None
    decay: float = 0.999
    bf16: bool = False


class Terms(NamedTuple):
    """The loss of a batch and its parts, scalars on the coder's device.

    Attributes:
        total: what is minimised, reconstruction + penalty + aux.
        reconstruction, penalty, aux: its parts, weights included.
        fired: on how many samples each latent was active, int64 [n_latents].
    """

    total: Tensor
    reconstruction: Tensor
    penalty: Tensor
    aux: Tensor
    fired: Tensor

    @classmethod
    def of(cls, recons_loss: Tensor, penalty: Tensor | None, fired: Tensor, aux: Tensor | None = None) -> Terms:
        """The parts with their sum; None is 0."""
        penalty, aux = (recons_loss.new_zeros(()) if part is None else part for part in (penalty, aux))
        return cls(recons_loss + penalty + aux, recons_loss, penalty, aux, fired)


def loss(coder: SparseCoder, x: Tensor, y: Tensor | None = None, moment: Moment | None = None) -> Terms:
    """Training loss of a coder on one batch, in its scaled units.

    Args:
        x: scaled input, [B, d_in + context].
        y: scaled target, [B, d_out]; None for an autoencoder, whose target is x without its context.
        moment: where training stands; by default its start, with full sparsity.
    """
    moment = moment or Moment()
    if moment.bf16:
        check_bf16(coder)
    return coder.rule.loss(coder, x, x[:, : coder.d_in] if y is None else y, moment)


def check_bf16(coder: SparseCoder) -> None:
    """Refuse bfloat16 for rules that would ignore it; ValueError says which."""
    if not coder.rule.has_bf16:
        raise ValueError(f"precision='bf16' would do nothing for rule {coder.rule.name}, which chooses its latents in "
                         "full precision; use precision='float32'")


def reconstruction(recons: Tensor, y: Tensor) -> Tensor:
    """mean_b sum_d (ŷ - y)^2 of [B, d_out] tensors."""
    return F.mse_loss(recons, y, reduction="sum") / len(y)


def auxk(
    x: Tensor, encoder: Encoder, W_dec: Tensor, residual: Tensor, dead: Tensor, k: int, absolute: bool = False
) -> Tensor:
    """How badly the k strongest dead latents explain what the living missed, |ê - e|^2 / |e - mean e|^2.

    e = y - ŷ is detached and ê = f_dead W_dec has no bias, so that the gradient reaches dead latents only.

    Args:
        x: scaled input, [B, d_in + context].
        encoder, W_dec: of all latents.
        residual: e, [B, d_out].
        dead: ids of dead latents, [n_dead]; none gives 0, as does a residual that is the same for every sample.
        k: dead latents used per sample, fewer where fewer are dead.
        absolute: latents are signed and chosen by magnitude.
    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", 2.4.
    """
    if not len(dead):
        return residual.new_zeros(())
    W, b, centre = encoder
    e, k = residual.detach(), min(k, len(dead))
    silent = Encoder(W[dead], b[dead], None if centre is None else centre.detach())
    codes = kernels.topk_codes(x, silent, k, absolute=absolute)
    codes = codes if absolute else codes.with_values(codes.values.relu())
    variance, size = (r.square().sum(1).mean() for r in (e - e.mean(0), e))
    variance = torch.where(variance > (8 * torch.finfo(e.dtype).eps) ** 2 * size, variance, torch.inf)
    return (kernels.decode_codes(codes, W_dec[dead]) - e).square().sum(1).mean() / variance


def is_large(w: Weights, x: Tensor) -> bool:
    """Whether the matrix of all latents of x should not be stored."""
    return len(x) * len(w.W_dec) >= FUSED_FROM


def by_chunks(
    terms: Callable[[Weights, Tensor, Tensor, Moment], Terms], coder: SparseCoder, x: Tensor, y: Tensor, moment: Moment
) -> Terms:
    """`terms(weights, x, y, moment)`, a mean over samples, of a large batch: added up chunk by chunk.

    Autograd runs inside each chunk, and one chunk's graph is freed before the next begins. Gradients are those of the
    parameters; where the batch itself wants one, it is taken whole.
    """
    if not is_large(coder, x) or x.requires_grad or y.requires_grad:
        return terms(coder, x, y, moment)
    names, parameters = zip(*coder.named_parameters(), strict=True)

    def part(x_part, y_part, *leaves):
        *found, fired = terms(coder.replaced(dict(zip(names, leaves, strict=True))), x_part, y_part, moment)
        return *(len(x_part) / len(x) * term for term in found), fired

    return Terms(*_Chunked.apply(part, chunk_size(coder.n_latents, x.device), x, y, *parameters))


class _Chunked(torch.autograd.Function):
    """Sums of part(x, y, *parameters) over chunks of samples; the first, the loss, has the parameters' gradient."""

    @staticmethod
    def forward(ctx, part, chunk, x, y, *parameters):
        leaves = [p.detach().requires_grad_() for p in parameters]
        sums, gradients = None, [torch.zeros_like(p) for p in leaves]
        for pieces in zip(x.split(chunk), y.split(chunk), strict=True):
            with torch.enable_grad():
                loss, *statistics = part(*pieces, *leaves)
            for total, new in zip(gradients, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
                total += 0 if new is None else new
            new = [loss.detach(), *(s.detach() for s in statistics)]
            sums = new if sums is None else [a + b for a, b in zip(sums, new, strict=True)]
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(*sums[1:])
        return tuple(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, *_):
        return None, None, None, None, *(t * g for t in ctx.saved_tensors)
