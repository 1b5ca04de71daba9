"""Stochastic sparse autoencoders: latents switched by random masks that ablate what is not causally important.

The gradient of a mask m = ci + (1 - ci) u with respect to ci is 1 - u. A Bernoulli draw has none at all.
"""
from __future__ import annotations

import torch
from torch import Tensor

LEAK = 0.01


def causal_importance(pre_acts: Tensor, gate_scale: Tensor, b_gate: Tensor) -> Tensor:
    """ci = clamp(a · h + c, 0, 1), with a leak of .01 outside so that a gate that is closed can open again.

    Args:
        pre_acts: h, [B, n_latents].
        gate_scale, b_gate: a and c, [n_latents].
    Returns:
        [B, n_latents] in [0, 1]; exactly 0 where closed.
    Source: Bushnaq et al. 2025, "Stochastic parameter decomposition".
    """
    return _LeakyClamp.apply(pre_acts * gate_scale + b_gate)


class _LeakyClamp(torch.autograd.Function):
    """clamp(g, 0, 1); outside, the leak lets through only a gradient whose descent leads back inside."""

    @staticmethod
    def forward(ctx, g):
        ctx.save_for_backward(g)
        return g.clamp(0, 1)

    @staticmethod
    def backward(ctx, grad):
        (g,) = ctx.saved_tensors
        leads_back = ((g < 0) & (grad < 0)) | ((g > 1) & (grad > 0))
        return torch.where((g >= 0) & (g <= 1), grad, LEAK * grad * leads_back)


def sample_mask(importance: Tensor, rng: torch.Generator, sampling: str = "noise") -> Tensor:
    """Random mask m = ci + (1 - ci) u with u ~ U(0, 1): what is important stays, the rest is ablated at random.

    Args:
        importance: ci in [0, 1], [B, n_latents].
        rng: the source of u, on the device of `importance`.
        sampling: "noise", or "bernoulli": m = 1[u < ci], which has no gradient to ci and is here to show that.
    """
    u = torch.rand(importance.shape, generator=rng, device=importance.device, dtype=importance.dtype)
    return importance + (1 - importance) * u if sampling == "noise" else (u < importance).to(importance.dtype)
