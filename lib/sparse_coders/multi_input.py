"""Multi-Input coders: the encoder sees several sites at once, the decoder writes the primary one.

    x = join_sites(mlp_out, residual)                       # [B, 64 + 32]
    coder = SparseCoder(d_in=64, n_latents=512, context=32)  # any rule
    fit(coder, x)

Whether context helps is judged beside `shuffled_context`, which has the same columns and no relation to the primary.
"""
from __future__ import annotations

import torch
from torch import Tensor

from lib.tensors import widest


def join_sites(primary: Tensor, *others: Tensor) -> Tensor:
    """Activations of several sites side by side, the primary first.

    Every other site is rescaled by one number so that its columns have the primary's mean square: a louder site would
    decide the common `scale`, and with it the strength of every penalty.

    Args:
        primary: [n_samples, d_in].
        others: each [n_samples, width].
    Returns:
        [n_samples, d_in + context].
    """
    sites = [torch.as_tensor(site) for site in (primary, *others)]
    shapes = ", ".join(str(tuple(site.shape)) for site in sites)
    if len(sites) < 2 or any(site.ndim != 2 or len(site) != len(sites[0]) for site in sites):
        raise ValueError(f"join_sites needs matrices of as many samples from two sites or more, got {shapes}")
    sizes = [site.to(widest(site.device)).square().mean().sqrt() for site in sites]
    if not all(size > 0 for size in sizes):
        raise ValueError("join_sites: a site is zero everywhere; leave it out")
    return torch.cat([site * float(sizes[0] / size) for site, size in zip(sites, sizes, strict=True)], 1)


def shuffled_context(x: Tensor, d_in: int, rng: torch.Generator) -> Tensor:
    """The control: x with its context columns taken from another sample, so that they tell nothing about the primary.

    Args:
        x: as `join_sites` returns it, [n_samples, d_in + context].
        d_in: width of the primary site.
        rng: decides the permutation, the same for all context columns.
    """
    if x.ndim != 2 or not 1 <= d_in < x.shape[1]:
        raise ValueError(f"x {tuple(x.shape)} has no context columns after the first {d_in}")
    order = torch.randperm(len(x), generator=rng, device=rng.device).to(x.device)
    return torch.cat([x[:, :d_in], x[order, d_in:]], 1)
