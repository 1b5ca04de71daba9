"""Encoder rules as plain functions of all pre-activations h [B, n_latents], to compare the library's with."""
import math

import torch
from torch import Tensor


def topk(h: Tensor, k: int) -> Tensor:
    """ReLU of the k largest of each sample."""
    values, indices = h.topk(k)
    return torch.zeros_like(h).scatter(1, indices, values.relu())


def abs_topk(h: Tensor, k: int | Tensor) -> Tensor:
    """The k (one number, or one per sample) of largest magnitude, with their signs."""
    rank = h.abs().argsort(1, descending=True).argsort(1)
    return h * (rank < torch.as_tensor(k).reshape(-1, 1))


def batch_topk(h: Tensor, n_keep: int) -> tuple[Tensor, float]:
    """The n_keep largest positive ones of the batch, and the smallest of them."""
    lowest = h.detach().flatten().topk(n_keep).values.min()
    latents = h * ((h >= lowest) & (h > 0))
    return latents, latents[latents != 0].min().item() if (latents != 0).any() else math.inf
