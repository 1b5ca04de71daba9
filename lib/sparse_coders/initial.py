"""What a coder starts training from: the data's scale, a geometric median, decoder rows of length 1."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.sparse_coders.coder import SparseCoder


@torch.no_grad()
def unit_rows(coder: SparseCoder) -> None:
    """Bring the rows of a trained decoder to length 1, where training keeps them, without changing recons.

    One common length undoes `fold_scale`, and latents keep their values. Rows of several lengths n_j give theirs to
    their latents, f_j -> n_j f_j, where that does not change which latents are on.
    """
    lengths = coder.W_dec.norm(dim=1)
    if not coder.has_unit_rows or torch.allclose(lengths, torch.ones_like(lengths), atol=1e-4):
        return
    if torch.allclose(lengths, lengths.mean().expand_as(lengths), rtol=1e-3):
        _unfold(coder, lengths.mean())
    elif coder.rule in ("relu", "p_anneal", "gated", "jumprelu") and (lengths > 0).all():
        coder.W_dec.div_(lengths[:, None])
        coder.W_enc.mul_(lengths[:, None])
        for name in ("b_enc", "threshold", "b_mag"):
            if hasattr(coder, name):
                getattr(coder, name).mul_(lengths)
    else:
        said = f"{float(lengths.min()):.3g} to {float(lengths.max()):.3g}"
        raise ValueError(f"decoder rows are {said} long; rule {coder.rule} trains rows of length 1, and rescaling them "
                         "would change which latents are on")


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
        raise ValueError(f"the first {len(x)} samples of {name} are all zero; there is nothing to reconstruct")
    return math.sqrt(x.shape[1] / square)


def geometric_median(x: Tensor, steps: int = 100) -> Tensor:
    """The point of least summed distance to the rows of x [n, d], by Weiszfeld's iteration; [d]."""
    at = x.mean(0)
    for _ in range(steps):
        weight = 1 / (x - at).norm(dim=1).clamp_min(1e-12)  # [n]
        at = (x * weight[:, None]).sum(0) / weight.sum()
    return at
