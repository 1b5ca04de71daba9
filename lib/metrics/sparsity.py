"""What a sparse coder costs and keeps: unexplained variance, active latents, dead latents, shrinkage.

x and recons are [n_samples, d], latents [n_samples, n_latents]; NumPy or torch, any float type, sums in float64.
Activity is `!= 0` throughout, so signed latents count like positive ones.
"""
from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor


def fvu(x: ArrayLike, recons: ArrayLike) -> float:
    """Fraction of variance unexplained, sum |x - x̂|^2 / sum |x - x̄|^2 with x̄ the mean of each dimension.

    0 for a perfect reconstruction, 1 for predicting the mean, above 1 for doing worse than that. Over data too large
    for memory: the summed errors divided by n · var.sum() of `lib.activations.Statistics`.

    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders".
    """
    x, recons = _pair(x, recons)
    total = (x - x.mean(0)).square().sum()
    if not total > 1e-24 * x.square().sum():
        raise ValueError("fvu is undefined: x is the same for every sample, so there is no variance to explain")
    return float((x - recons).square().sum() / total)


def l0(latents: ArrayLike) -> float:
    """Mean number of non-zero latents per sample, mean_n #{j: f_nj != 0}; a count, not a fraction."""
    return float((_matrix(latents, "latents") != 0).sum(1, dtype=torch.float64).mean())


def l1(latents: ArrayLike) -> float:
    """Mean over samples of the latents' absolute sum, mean_n sum_j |f_nj|; independent of the number of samples."""
    return float(_matrix(latents, "latents").double().abs().sum(1).mean())


def samples_since_fired(latents: ArrayLike) -> Tensor:
    """Samples seen after each latent was last active, n_samples if it never was; int64 [n_latents].

    The rows of latents stand in the order they were seen.
    """
    active = _matrix(latents, "latents") != 0
    seen_from_the_end = active.flip(0).int().argmax(0)  # the first maximum; 0 as well where nothing is active
    return torch.where(active.any(0), seen_from_the_end, len(active))


def dead_fraction(since_fired: ArrayLike, window: int) -> float:
    """Share of latents silent for the last `window` samples, mean_j [since_fired_j >= window].

    Every dead fraction belongs to its window: report them together. A record shorter than the window finds nothing
    dead; over a finite evaluation the window is its size, `dead_fraction(samples_since_fired(f), len(f))`.

    since_fired is [n_latents], as `samples_since_fired` counts them.
    """
    since = torch.as_tensor(since_fired)
    if window < 1:
        raise ValueError(f"dead_fraction: window must be at least 1 sample, got {window}")
    if since.ndim != 1 or not since.numel() or since.is_floating_point() or bool((since < 0).any()):
        raise ValueError(
            f"dead_fraction needs samples since each latent fired, integers [n_latents], got {since.dtype} "
            f"{tuple(since.shape)}; densities have no window: give samples_since_fired(latents)"
        )
    return float((since >= window).double().mean())


def shrinkage(x: ArrayLike, recons: ArrayLike) -> float:
    """Relative reconstruction bias, γ = sum |x̂|^2 / sum x̂·x = argmin_γ sum |x̂/γ - x|^2.

    1 when no rescaling improves the reconstruction (a projection, a least-squares decoder), .8 when every
    reconstruction should be 1/.8 times longer, as under an L1 penalty. Subtract b_dec from both for a coder whose
    bias is far from 0.

    Source: Rajamanoharan et al. 2024, "Improving Dictionary Learning with Gated Sparse Autoencoders".
    """
    x, recons = _pair(x, recons)
    overlap = (x * recons).sum()
    if not overlap > 0:
        raise ValueError(f"shrinkage is undefined: sum x̂·x = {float(overlap):.3g}, no rescaling helps")
    return float(recons.square().sum() / overlap)


def _pair(x: ArrayLike, recons: ArrayLike) -> tuple[Tensor, Tensor]:
    x, recons = _matrix(x, "x").double(), _matrix(recons, "recons").double()
    if x.shape != recons.shape:
        raise ValueError(f"x and recons must have one shape, got {tuple(x.shape)} and {tuple(recons.shape)}")
    return x, recons


def _matrix(values: ArrayLike, name: str) -> Tensor:
    """`values` as a detached, non-empty, finite matrix."""
    values = torch.as_tensor(values).detach()
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"{name} must be [n_samples, width] and not empty, got shape {tuple(values.shape)}")
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} has {int((~torch.isfinite(values)).sum())} non-finite values")
    return values
