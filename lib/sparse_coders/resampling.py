"""A second chance for dead latents: a loss that revives them, or a new start at samples badly reconstructed."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.sparse_coders import kernels
from lib.sparse_coders.coder import SparseCoder


def auxk(
    x: Tensor, W_enc: Tensor, b_enc: Tensor, W_dec: Tensor, centre: Tensor | None, residual: Tensor, dead: Tensor,
    k: int, absolute: bool = False,
) -> Tensor:
    """How badly the k strongest dead latents explain what the living missed, |ê - e|^2 / |e - mean e|^2.

    e = y - ŷ is detached and ê = f_dead W_dec has no bias, so that the gradient reaches dead latents only.

    Args:
        x, W_enc, b_enc, W_dec: scaled input [B, d_in] and the parameters of all latents.
        centre: subtracted from x, [d_in], or None.
        residual: e, [B, d_out].
        dead: ids of dead latents, [n_dead]; none gives 0.
        k: dead latents used per sample, fewer where fewer are dead.
        absolute: latents are signed and chosen by magnitude.
    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", 2.4.
    """
    if not len(dead):
        return residual.new_zeros(())
    e, centre = residual.detach(), None if centre is None else centre.detach()
    k = min(k, len(dead))
    codes = kernels.topk_codes(x, W_enc[dead], b_enc[dead], k, centre=centre, absolute=absolute)
    codes = codes if absolute else codes.with_values(codes.values.relu())
    variance = (e - e.mean(0)).square().sum(1).mean().clamp_min(torch.finfo(e.dtype).tiny)
    return (kernels.decode_codes(codes, W_dec[dead]) - e).square().sum(1).mean() / variance


@torch.no_grad()
def resample(
    coder: SparseCoder, optimizer: torch.optim.Adam, dead: Tensor, x: Tensor, y: Tensor | None, rng: torch.Generator
) -> None:
    """Reinitialise dead latents and zero their Adam moments.

    Each is given a sample drawn with probability proportional to its squared loss: the decoder row becomes the
    direction of the sample's residual, the encoder row the same (for a transcoder the sample's own direction) at a
    fifth of the mean length of living encoder rows, the bias 0 and what the rule adds its initial value.

    Args:
        dead: their ids, [n_dead].
        x, y: scaled samples, [B, d_in + context] and [B, d_out] or None.
    Source: Bricken et al. 2023, "Towards monosemanticity", neuron resampling.
    """
    if not len(dead):
        return
    residual = (x[:, : coder.d_in] if y is None else y) - coder._decode(coder._latents(x), x)
    weight = residual.square().sum(1).square()
    drawn = torch.multinomial(weight + 1e-30, len(dead), replacement=True, generator=rng)
    coder.W_dec[dead] = F.normalize(residual[drawn], dim=1)
    if coder.W_enc is not None:
        alive = torch.ones(coder.n_latents, dtype=torch.bool, device=x.device).index_fill_(0, dead, False)
        length = coder.W_enc[alive].norm(dim=1).mean() if alive.any() else coder.W_enc.new_ones(())
        rows = x[drawn] if coder.is_transcoder else F.pad(residual[drawn], (0, coder.context))
        coder.W_enc[dead] = 0.2 * length * F.normalize(rows, dim=1)
        coder.b_enc[dead] = 0
    for name, value in coder.per_latent.items():
        getattr(coder, name)[dead] = value
    _forget(coder, optimizer, dead)


def _forget(coder: SparseCoder, optimizer: torch.optim.Adam, dead: Tensor) -> None:
    names = ("W_enc", "b_enc", "W_dec", *coder.per_latent)
    for parameter in filter(lambda p: p is not None, (getattr(coder, name) for name in names)):
        for moment in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][moment][dead] = 0
