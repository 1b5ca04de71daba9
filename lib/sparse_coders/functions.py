"""Functions that encoder rules are made of: of tensors alone, each differentiable once, if only by an estimate.

A latent counts as active where it is `!= 0`. Sources stand with the rules.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.tensors import WithGradient, widest

LEAK = 0.01


def log_uniform_k(n_samples: int, k_min: int, k_max: int, rng: torch.Generator) -> Tensor:
    """k per sample, floor(2^U) with U uniform on [log2 k_min, log2(k_max + 1)); [n_samples], int64 in k_min..k_max."""
    low, high = math.log2(k_min), math.log2(k_max + 1)
    u = torch.rand(n_samples, generator=rng, device=rng.device, dtype=widest(rng.device))
    return (2 ** (low + (high - low) * u)).floor().long().clamp(k_min, k_max)  # 2^log2(n) may round off n


def jumprelu(pre_acts: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """f = h · 1[h > θ], with dθ estimated by a rectangle kernel: df/dθ = -θ/ε · 1[|h - θ| < ε/2].

    Args:
        pre_acts: h, [B, n_latents].
        threshold: θ >= 0, [n_latents].
        bandwidth: ε.
    """
    def gradient(d: Tensor, h: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        window = (h - theta).abs() < bandwidth / 2
        return d * (h > theta), -(d * window).sum(0) * theta / bandwidth

    return WithGradient.apply(lambda h, theta: h * (h > theta), gradient, pre_acts, threshold)


def step(pre_acts: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    """1[h > θ] of the *pre-activations*, with dθ = -1/ε · 1[|h - θ| < ε/2] and no gradient to h.

    Applied to h - the latents would hide every h just below θ from the kernel.

    Args: as `jumprelu`.
    """
    def gradient(d: Tensor, h: Tensor, theta: Tensor) -> tuple[None, Tensor]:
        window = (h - theta).abs() < bandwidth / 2
        return None, -(d * window).sum(0) / bandwidth

    return WithGradient.apply(lambda h, theta: (h > theta).to(h.dtype), gradient, pre_acts, threshold)


def prolu(projection: Tensor, bias: Tensor, through: bool = True) -> Tensor:
    """f = m · 1[m > 0] · 1[m + b > 0], with gradients made for the bias, which the true one would leave at 0.

    Where f is on, df/dm = df/db = 1, as of max(m + b, 0); or, `through` the gate as if it were m + b itself,
    df/db = m and df/dm = 1 + m.

    Args:
        projection: m, [B, n_latents]; bias: b, [n_latents].
    """
    def on(m: Tensor, b: Tensor) -> Tensor:
        return (m > 0) & (m + b > 0)

    def gradient(d: Tensor, m: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        plain = d * on(m, b)
        gate = plain * m if through else plain
        return plain + gate if through else plain, gate.sum(0)

    return WithGradient.apply(lambda m, b: m * on(m, b), gradient, projection, bias)


def matching_pursuit(x: Tensor, dictionary: Tensor, k: int) -> Tensor:
    """Greedy codes: k times, the atom closest to the residual takes its projection, r <- r - (r·W_j) W_j.

    Args:
        x: [B, d].
        dictionary: W, unit rows, [n_latents, d].
    Returns:
        signed latents [B, n_latents]; an atom chosen twice adds up.
    """
    residual, latents = x, x.new_zeros(len(x), len(dictionary))
    for _ in range(k):
        products = residual @ dictionary.T  # [B, n_latents]
        best = products.detach().abs().argmax(1, keepdim=True)  # [B, 1]
        amount = products.gather(1, best)
        latents = latents.scatter_add(1, best, amount)
        residual = residual - amount * dictionary[best[:, 0]]
    return latents


def causal_importance(pre_acts: Tensor, gate_scale: Tensor, b_gate: Tensor) -> Tensor:
    """ci = clamp(a · h + c, 0, 1), with a leak of .01 outside so that a gate that is closed can open again.

    The leak lets through only a gradient whose descent leads back inside.

    Args:
        pre_acts: h, [B, n_latents].
        gate_scale, b_gate: a and c, [n_latents].
    Returns:
        [B, n_latents] in [0, 1]; exactly 0 where closed.
    """
    def gradient(d: Tensor, g: Tensor) -> tuple[Tensor]:
        leads_back = ((g < 0) & (d < 0)) | ((g > 1) & (d > 0))  # where descent does
        return (torch.where((g >= 0) & (g <= 1), d, LEAK * d * leads_back),)

    return WithGradient.apply(lambda g: g.clamp(0, 1), gradient, pre_acts * gate_scale + b_gate)


def sample_mask(importance: Tensor, rng: torch.Generator, sampling: str = "noise") -> Tensor:
    """Random mask m = ci + (1 - ci) u with u ~ U(0, 1): what is important stays, the rest is ablated at random.

    Its gradient to ci is 1 - u; a Bernoulli draw has none at all.

    Args:
        importance: ci in [0, 1], [B, n_latents].
        rng: the source of u, on the device of `importance`.
        sampling: "noise", or "bernoulli": m = 1[u < ci], which has no gradient to ci and is here to show that.
    """
    u = torch.rand(importance.shape, generator=rng, device=importance.device, dtype=importance.dtype)
    return importance + (1 - importance) * u if sampling == "noise" else (u < importance).to(importance.dtype)


def power(sizes: Tensor, exponent: float) -> Tensor:
    """s^p where s > 0, else 0; the gradient of s^p has no limit at 0."""
    return sizes.clamp_min(1e-8).pow(exponent) * (sizes.detach() > 0)


@torch.no_grad()
def follow(average: Tensor, threshold: Tensor, decay: float) -> None:
    """Move a running mean of thresholds (negative: none yet) towards this batch's; 0 or inf: it had none."""
    threshold = threshold.to(average.dtype)
    moved = torch.where(average < 0, threshold, decay * average + (1 - decay) * threshold)
    average.copy_(torch.where((threshold > 0) & threshold.isfinite(), moved, average))
