"""Encoder rules: which latents of a sample are on, given its pre-activations. Plain functions of tensors.

Every rule is differentiable in `pre_acts`; a latent counts as active where it is `!= 0`.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.sparse_coders.kernels import Codes


def relu(pre_acts: Tensor) -> Tensor:
    """f = max(h, 0) of pre-activations h [B, n_latents]."""
    return pre_acts.relu()


def topk(pre_acts: Tensor, k: int) -> Tensor:
    """f = ReLU of the k largest pre-activations h [B, n_latents] of each sample, 0 elsewhere.

    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders".
    """
    values, indices = pre_acts.topk(k, sorted=False)  # [B, k]
    return torch.zeros_like(pre_acts).scatter(-1, indices, values.relu())


def abs_topk(pre_acts: Tensor, k: int | Tensor) -> Tensor:
    """f = the k pre-activations of largest magnitude with their signs, 0 elsewhere.

    Args:
        pre_acts: h, [B, n_latents].
        k: one number, or one per sample, [B].
    Source: Zhu et al. 2025, "AbsTopK: rethinking sparse autoencoders for bidirectional features".
    """
    largest = k if isinstance(k, int) else int(k.max())
    indices = pre_acts.abs().topk(largest, sorted=True).indices  # [B, k]
    values = pre_acts.gather(-1, indices)
    if not isinstance(k, int):
        values = values * (torch.arange(largest, device=k.device) < k[:, None])
    return torch.zeros_like(pre_acts).scatter(-1, indices, values)


def log_uniform_k(n_samples: int, k_min: int, k_max: int, rng: torch.Generator) -> Tensor:
    """k per sample, floor(2^U) with U uniform on [log2 k_min, log2(k_max + 1)); [n_samples], int64 in k_min..k_max."""
    low, high = math.log2(k_min), math.log2(k_max + 1)
    u = torch.rand(n_samples, generator=rng, device=rng.device, dtype=torch.float64)
    return (2 ** (low + (high - low) * u)).floor().long().clamp(k_min, k_max)  # 2^log2(n) may round off n


def batch_topk(pre_acts: Tensor, n_keep: int) -> tuple[Tensor, Tensor]:
    """f = the n_keep largest positive pre-activations of the whole batch, and the smallest value kept.

    Args:
        pre_acts: h, [B, n_latents].
        n_keep: k·B; where fewer pre-activations are positive, all of them are kept.
    Returns:
        latents [B, n_latents], and the threshold: the smallest kept value, or +inf where nothing is positive.
    Source: Bussmann, Leask & Nanda 2024, "BatchTopK sparse autoencoders".
    """
    values, indices = pre_acts.flatten().topk(n_keep, sorted=False)
    latents = torch.zeros_like(pre_acts.flatten()).scatter(0, indices, values.relu()).view_as(pre_acts)
    kept = values.detach()
    return latents, torch.where(kept > 0, kept, math.inf).min()


def above(pre_acts: Tensor, threshold: Tensor | float) -> Tensor:
    """f = h where h > threshold, else 0; the threshold carries no gradient."""
    return pre_acts * (pre_acts > threshold)


def jumprelu(pre_acts: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """f = h · 1[h > θ], with dθ estimated by a rectangle kernel: df/dθ = -θ/ε · 1[|h - θ| < ε/2].

    Args:
        pre_acts: h, [B, n_latents].
        threshold: θ >= 0, [n_latents].
        bandwidth: ε.
    Source: Rajamanoharan et al. 2024, "Jumping ahead", section 3.
    """
    return _Jump.apply(pre_acts, threshold, bandwidth)


def step(pre_acts: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1[h > θ] of the *pre-activations*, with dθ = -1/ε · 1[|h - θ| < ε/2] and no gradient to h.

    Applied to h - the latents would hide every h just below θ from the kernel.

    Args: as `jumprelu`.
    """
    return _Step.apply(pre_acts, threshold, bandwidth)


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, threshold, bandwidth):
        ctx.save_for_backward(h, threshold)
        ctx.bandwidth = bandwidth
        return h * (h > threshold)

    @staticmethod
    def backward(ctx, grad):
        h, threshold = ctx.saved_tensors
        window = (h - threshold).abs() < ctx.bandwidth / 2
        return grad * (h > threshold), -(grad * window).sum(0) * threshold / ctx.bandwidth, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, threshold, bandwidth):
        ctx.save_for_backward(h, threshold)
        ctx.bandwidth = bandwidth
        return (h > threshold).to(h.dtype)

    @staticmethod
    def backward(ctx, grad):
        h, threshold = ctx.saved_tensors
        window = (h - threshold).abs() < ctx.bandwidth / 2
        return None, -(grad * window).sum(0) / ctx.bandwidth, None


def gated(pre_acts: Tensor, b_gate: Tensor, log_scale: Tensor, b_mag: Tensor) -> Tensor:
    """f = 1[h + b_gate > 0] · ReLU(e^r h + b_mag): one projection decides whether, a rescaled one how much.

    Args:
        pre_acts: h without bias, [B, n_latents].
        b_gate, log_scale (r), b_mag: [n_latents].
    Source: Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders".
    """
    return (pre_acts + b_gate > 0) * (pre_acts * log_scale.exp() + b_mag).relu()


def matching_pursuit(x: Tensor, dictionary: Tensor, k: int) -> Tensor:
    """Greedy codes: k times, the atom closest to the residual takes its projection, r <- r - (r·W_j) W_j.

    Args:
        x: [B, d].
        dictionary: W, unit rows, [n_latents, d].
    Returns:
        signed latents [B, n_latents]; an atom chosen twice adds up.
    Source: Costa et al. 2025, "From flat to hierarchical: extracting sparse representations with matching pursuit".
    """
    residual, latents = x, x.new_zeros(len(x), len(dictionary))
    for _ in range(k):
        products = residual @ dictionary.T  # [B, n_latents]
        best = products.detach().abs().argmax(1, keepdim=True)  # [B, 1]
        amount = products.gather(1, best)
        latents = latents.scatter_add(1, best, amount)
        residual = residual - amount * dictionary[best[:, 0]]
    return latents


def sparse(latents: Tensor) -> Codes:
    """The non-zero entries of dense latents [B, n_latents] as codes."""
    rows, indices = latents.detach().nonzero(as_tuple=True)
    counts = (latents.detach() != 0).sum(1)
    return Codes(latents[rows, indices], indices, counts.cumsum(0) - counts)
