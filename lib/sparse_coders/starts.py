"""What a coder starts training from, and what a dead latent starts from again."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.rng import generator
from lib.sparse_coders.coder import SparseCoder
from lib.tensors import widest

if TYPE_CHECKING:
    from lib.sparse_coders.trainee import FitOptions


@torch.no_grad()
def start(coder: SparseCoder, x: Tensor, y: Tensor | None, options: FitOptions) -> None:
    """Measure scale and b_dec on samples of the data; a coder that was trained before keeps its own.

    Args:
        x, y: samples in the data's units, [n, d_in + context] and [n, d_out] or None.
        options: `normalise` and `b_dec` of them; for a transcoder `target_scale` is measured likewise.
    """
    if coder.trained_on > 0:
        if options.normalise == "sample" and not coder.per_sample:
            raise ValueError('this coder was trained without normalise="sample", which would change what its latents '
                             "mean; leave it out, or train a new coder")
        unit_rows(coder)
        return
    device = coder.W_dec.device
    x, y = (None if part is None else part.to(device, widest(device)) for part in (x, y))
    if options.normalise == "sample":
        coder.sizes = coder.sizes.replace(per_sample=True)
    coder.scale.fill_(unit_scale(x, "data") if options.normalise else 1)
    coder.target_scale.fill_(coder.scale if y is None else unit_scale(y, "target") if options.normalise else 1)
    x, factor = coder.scaled(x)
    y = x[:, : coder.d_in] if y is None else y * factor
    coder.b_dec.copy_(y.mean(0) if options.b_dec == "mean" else torch.zeros_like(y[0]))


@torch.no_grad()
def unit_rows(coder: SparseCoder) -> None:
    """Bring the rows of a trained decoder to length 1, where training keeps them, without changing recons.

    One common length undoes `fold_scale`, and latents keep their values. Rows of several lengths n_j give theirs to
    their latents, f_j -> n_j f_j, where that does not change which latents are on.
    """
    lengths = coder.W_dec.norm(dim=1)
    if not coder.rule.has_unit_rows or torch.allclose(lengths, torch.ones_like(lengths), atol=1e-4):
        return
    common = torch.allclose(lengths, lengths.mean().expand_as(lengths), rtol=1e-3) and lengths.mean() > 0
    if common and coder.W_enc is not None and (coder.is_transcoder or not coder.per_sample):
        _unfold(coder, lengths.mean())
    elif coder.rule.in_units:  # a row of length 0 adds nothing: its latent falls silent, and may point anywhere
        anywhere = torch.randn(coder.W_dec.shape, generator=generator(0, "rows of length 0")).to(coder.W_dec)
        coder.W_dec.copy_(F.normalize(torch.where(lengths[:, None] > 0, coder.W_dec, anywhere), dim=1))
        coder.W_enc.mul_(lengths[:, None])
        for name in coder.rule.in_units:
            getattr(coder, name).mul_(lengths)
    else:
        said = f"{float(lengths.min()):.3g} to {float(lengths.max()):.3g}"
        raise ValueError(f"decoder rows are {said} long; {coder.rule.owner} trains rows of length 1, and rescaling "
                         "them would change which latents are on; give a coder whose rows are of length 1")


def _unfold(coder: SparseCoder, length: Tensor) -> None:
    coder.W_dec.div_(length)
    coder.b_dec.div_(length)
    coder.target_scale.div_(length)
    if not coder.is_transcoder:
        coder.scale.div_(length)
        coder.W_enc.mul_(length)
    elif coder.W_skip is not None:
        coder.W_skip.div_(length)


def unit_scale(x: Tensor, name: str) -> float:
    """The factor that makes E|x|^2 the width of x [n, d]."""
    square = float(x.square().sum(1).mean())
    if not square > 0:
        raise ValueError(f"{len(x)} samples drawn from {name} are all zero; there is nothing to reconstruct")
    return math.sqrt(x.shape[1] / square)


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
    residual = (x[:, : coder.d_in] if y is None else y) - coder.reconstruct(coder.rule.latents(coder, x), x)
    weight = residual.square().sum(1).square()
    drawn = torch.multinomial(weight + 1e-30, len(dead), replacement=True, generator=rng)
    coder.W_dec[dead] = F.normalize(residual[drawn], dim=1)
    if coder.W_enc is not None:
        alive = torch.ones(coder.n_latents, dtype=torch.bool, device=x.device).index_fill_(0, dead, False)
        length = coder.W_enc[alive].norm(dim=1).mean() if alive.any() else coder.W_enc.new_ones(())
        rows = x[drawn] if coder.is_transcoder else F.pad(residual[drawn], (0, coder.context))
        coder.W_enc[dead] = 0.2 * length * F.normalize(rows, dim=1)
        coder.b_enc[dead] = 0
    for name, value in coder.rule.per_latent.items():
        getattr(coder, name)[dead] = value
    _forget(coder, optimizer, dead)


def _forget(coder: SparseCoder, optimizer: torch.optim.Adam, dead: Tensor) -> None:
    names = ("W_enc", "b_enc", "W_dec", *coder.rule.per_latent)
    for parameter in filter(lambda p: p is not None, (getattr(coder, name) for name in names)):
        for moment in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][moment][dead] = 0
