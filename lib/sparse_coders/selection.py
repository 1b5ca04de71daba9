"""Which pre-activations of a batch are kept: searches over chunks of samples that have no gradient."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.sparse_coders.sparse_ops import Bags, dots

SCREEN_SLACK = 8
"""Candidates a bfloat16 screen keeps beyond k."""
NARROW = 384
"""Columns up to which NumPy finds the k largest of a row faster than torch, unless k is a 64th of them or less."""
FLOOR_SLACK = 0.97
"""Fraction of the last threshold that the search for the next one starts from."""


def chunk_size(n_latents: int, device: torch.device) -> int:
    """Samples per chunk: pre-activations of 6 MB in float32 stay in a CPU's cache; a GPU wants large products."""
    return max(64, (1_572_864 if device.type == "cpu" else 1 << 26) // n_latents)


class Encoder(NamedTuple):
    """The affine map h = (x - centre) Wᵀ + b, of one coder or of a table of S.

    Attributes:
        W: [n_latents, d_in], or [S, n_latents, d_in].
        b: [n_latents] or [S, n_latents].
        centre: subtracted from x, [d_in] or [S, d_in]; None for 0. Given here, its gradient costs nothing extra.
    """

    W: Tensor
    b: Tensor
    centre: Tensor | None = None

    @property
    def coders(self) -> int:
        """S, or 1."""
        return len(self.W) if self.W.ndim == 3 else 1

    def pre_acts(self, x: Tensor) -> Iterator[Tensor]:
        """h of x [B, d_in], `chunk_size` samples at a time, [samples, (S) n_latents]."""
        W, b, centre = self
        if W.ndim == 3 and centre is not None:
            b, centre = torch.baddbmm(b.unsqueeze(2), W, centre.unsqueeze(2), alpha=-1).squeeze(2), None  # [S, n]
        W, b = W.flatten(0, -2), b.flatten()
        for part in x.split(chunk_size(len(W), x.device)):
            yield torch.addmm(b, part if centre is None else part - centre, W.T)

    def check(self, x: Tensor) -> None:
        """Refuse shapes and dtypes that do not fit each other and x; ValueError says which."""
        W, b, centre = self
        fits = x.ndim == 2 and W.ndim in (2, 3) and x.shape[1] == W.shape[-1] and b.shape == W.shape[:-1]
        if not fits or len(x) == 0:
            shapes = f"{tuple(x.shape)}, {tuple(W.shape)} and {tuple(b.shape)}"
            wanted = "[B > 0, d], [(S,) n_latents, d] and [(S,) n_latents]"
            raise ValueError(f"x, W_enc and b_enc must be {wanted}, got {shapes}")
        if centre is not None and centre.shape != W.shape[:-2] + x.shape[1:]:
            raise ValueError(f"centre must be {tuple(W.shape[:-2] + x.shape[1:])}, got {tuple(centre.shape)}")
        dtypes = [t.dtype for t in (x, W, b, centre) if t is not None]
        if len(set(dtypes)) > 1:
            raise ValueError(f"x, W_enc, b_enc and centre must have one dtype, got {', '.join(map(str, dtypes))}")


def largest(h: Tensor, k: int, absolute: bool = False, sort: bool = False, groups: int = 8) -> Tensor:
    """Columns of the k largest entries (of |h| if absolute) of each row, [rows, k].

    On a CPU in two stages: the k largest of all lie in the k groups of columns whose maxima are largest.
    """
    h = h.abs() if absolute else h
    rows, n = h.shape
    if h.device.type != "cpu" or n % groups or n < 4 * groups * k:
        return _largest(h, k, sort)
    width = n // groups  # group j is the columns j, j + width, j + 2 width, ...
    best = _largest(h.view(rows, groups, width).amax(1), k)  # [rows, k]
    columns = (best.unsqueeze(1) + torch.arange(0, n, width).unsqueeze(1)).flatten(1)  # [rows, groups k]
    return columns.gather(1, _largest(h.gather(1, columns), k, sort))


def _largest(h: Tensor, k: int, sort: bool = False) -> Tensor:
    n = h.shape[1]
    if sort or h.device.type != "cpu" or not n / 64 < k < n <= NARROW:
        return h.topk(k, sorted=sort).indices
    values = h.detach().float() if h.dtype == torch.bfloat16 else h.detach()
    return torch.from_numpy(np.argpartition(values.numpy(), n - k, axis=1)[:, n - k :])


def sample_largest(x: Tensor, encoder: Encoder, ks: Sequence[int], absolute: bool) -> tuple[Tensor, Tensor]:
    """Values and latents of the ks[s] largest of each sample at coder s of a table, both [B * sum(ks)].

    Latents are rows of the flattened table.
    """
    coders, k = len(ks), max(ks)
    values, columns = [], []
    for h in encoder.pre_acts(x):
        h = h.view(len(h) * coders, -1)
        columns.append(largest(h, k, absolute, sort=min(ks) < k))  # [chunk S, k]
        values.append(h.gather(1, columns[-1]))
    values, columns = (torch.cat(parts).view(-1, coders, k) for parts in (values, columns))
    first = torch.arange(coders, device=x.device) * (encoder.b.numel() // coders)
    indices = columns + first.view(-1, 1)
    if min(ks) == k:
        return values.flatten(), indices.flatten()
    kept = torch.arange(k, device=x.device) < torch.tensor(ks, device=x.device).view(-1, 1)  # [S, k]
    return values[:, kept].flatten(), indices[:, kept].flatten()


def screened_largest(x: Tensor, encoder: Encoder, k: int, absolute: bool) -> tuple[Tensor, Tensor]:
    """What `sample_largest` gives for one coder, from the k + 8 largest in bfloat16, recomputed in full precision.

    A latent among the true k largest is lost only where bfloat16 ranks it below the first k + 8.
    """
    W, b, centre = encoder
    half = Encoder(W.bfloat16(), b.bfloat16())
    x = x if centre is None else x - centre
    n = min(k + SCREEN_SLACK, len(W))
    candidates = torch.cat([largest(h, n, absolute) for h in half.pre_acts(x.bfloat16())])  # [B, n]
    bags = Bags(candidates.flatten(), torch.arange(0, candidates.numel(), n, device=x.device))
    h = (dots(x, W, bags) + b.index_select(0, bags.indices)).view(-1, n)
    best = (h.abs() if absolute else h).topk(k, sorted=False).indices
    return h.gather(1, best).flatten(), candidates.gather(1, best).flatten()


def exceeding(h: Tensor, lowest: Tensor | float) -> tuple[Tensor, Tensor]:
    """What of h exceeds `lowest` (one number or one per column): values, and places, row x columns + column."""
    if h.device.type == "cpu" and h.dtype != torch.bfloat16:  # NumPy has no bfloat16, and is several times as fast
        above = h.numpy() > (lowest.numpy() if isinstance(lowest, Tensor) else lowest)
        places = torch.from_numpy(np.flatnonzero(above))
    else:
        places = (h > lowest).flatten().nonzero()[:, 0]
    return h.flatten().index_select(0, places), places


def batch_largest(x: Tensor, encoder: Encoder, n_keep: int, floor: float) -> tuple[Tensor, Tensor]:
    """Values and places (sample x n_latents + latent) of the `n_keep` largest positive pre-activations of the batch.

    `lowest` only rises: what has been seen so far already rules out everything below its n_keep-th largest. A floor
    that proves too high is dropped and the search repeated, so that the result never depends on it.
    """
    lowest, first = max(floor, 0.0) * FLOOR_SLACK, 0
    found = x.new_empty(0), torch.empty(0, dtype=torch.int64, device=x.device)
    for h in encoder.pre_acts(x):
        values, places = exceeding(h, lowest)
        found = torch.cat([found[0], values]), torch.cat([found[1], places + first])
        first += h.numel()
        if len(found[0]) > 2 * n_keep:
            found = _prune(*found, n_keep)
            lowest = max(lowest, float(found[0].min()))
    if len(found[0]) < n_keep and floor > 0:
        return batch_largest(x, encoder, n_keep, 0.0)
    return _prune(*found, n_keep)


def _prune(values: Tensor, places: Tensor, n_keep: int) -> tuple[Tensor, Tensor]:
    """The n_keep largest values with their places, in the order they had; of equal values the first."""
    if len(values) <= n_keep:
        return values, places
    smallest = values.kthvalue(len(values) - n_keep + 1).values
    keep = values > smallest
    ties = (values == smallest).nonzero().squeeze(1)
    keep[ties[: n_keep - int(keep.sum())]] = True
    return values[keep], places[keep]
