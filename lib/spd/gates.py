"""Causal importance functions: gates from a component's activation to g, and the two leaky sigmoids of g.

The gate "mlp" gives every component a one-hidden-layer network of its own, g = w2 · gelu(w1 a + b1) + b2, which would
need C x m numbers per position. It is therefore worked out in tiles that fit the cache, in the order (component,
hidden, position), and worked out again on the way back: only the activations are kept.
"""
from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.tensors import WithGradient

aten = torch.ops.aten

GATES = ("mlp", "vector_mlp", "shared_mlp", "linear")
TILES = {"cpu": 2**17, "cuda": 2**24}
"""Numbers of a tile, by kind of device."""


def initial(kind: str, C: int, d_in: int, width: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Parameters of C gates: weights normal with variance 2/fan_in below the GELU and 1/fan_in above, biases 0.

    "mlp" reads a_c through C networks 1 -> width -> 1; "vector_mlp" reads the layer's input through C networks
    d_in -> width -> 1; "shared_mlp" reads it through one network d_in -> width -> C; "linear" is w a_c + b.
    """
    above = {"b1": ((C, width), 0.0), "w2": ((C, width), 1 / width), "b2": ((C,), 0.0)}
    shared = {"b1": ((width,), 0.0), "w2": ((width, C), 1 / width), "b2": ((C,), 0.0)}
    shapes = {
        "mlp": {"w1": ((C, width), 2.0), **above},
        "vector_mlp": {"w1": ((C, d_in, width), 2 / d_in), **above},
        "shared_mlp": {"w1": ((d_in, width), 2 / d_in), **shared},
        "linear": {"w": ((C,), 1.0), "b": ((C,), 0.0)},
    }
    if kind not in shapes:
        raise ValueError(f"gate {kind!r} is not one of {', '.join(GATES)}")
    return {name: math.sqrt(var) * torch.randn(shape, generator=rng, device=rng.device)
            for name, (shape, var) in shapes[kind].items()}


def gate(kind: str, parts: dict[str, Tensor], acts: Tensor, vectors: Tensor | None) -> Tensor:
    """g, shaped like acts [..., C] (with panels [S, ..., C], parameters [S, ...]).

    Args:
        vectors: the layer's inputs [..., d_in], for "vector_mlp" and "shared_mlp".
    """
    if kind == "mlp":
        return _MLP.apply(acts, *(parts[name] for name in ("w1", "b1", "w2", "b2")))
    if kind == "linear":
        lead = parts["w"].shape[:-1] + (1,) * (acts.ndim - parts["w"].ndim)  # [(S,) C] beside [(S,) ..., C]
        w, b = (parts[name].view(*lead, -1) for name in "wb")
        return acts * w + b
    w1, b1, w2, b2 = (parts[name] for name in ("w1", "b1", "w2", "b2"))
    panels = b2.ndim - 1
    x = vectors.flatten(panels, -2)  # [(S,) positions, d_in]
    if kind == "shared_mlp":
        g = F.gelu(x @ w1 + b1.unsqueeze(-2)) @ w2 + b2.unsqueeze(-2)
    else:
        hidden = F.gelu(x.unsqueeze(-3) @ w1 + b1.unsqueeze(-2))  # [(S,) C, positions, width]
        g = (hidden @ w2.unsqueeze(-1)).squeeze(-1).mT + b2.unsqueeze(-2)
    return g.reshape(acts.shape)


def _columns(t: Tensor, panels: bool) -> Tensor:
    """[(S,) ..., C] -> [(S) C, positions], contiguous; free for activations of a linear site."""
    rows = t.flatten(1, -2) if panels else t.reshape(-1, t.shape[-1])  # [(S,) positions, C]
    return rows.mT.reshape(-1, rows.shape[-2]).contiguous()


def _from_columns(t: Tensor, like: Tensor, panels: bool) -> Tensor:
    """The reverse of `_columns`, as a view."""
    C = like.shape[-1]
    rows = t.view(len(like), C, -1).mT if panels else t.mT  # [(S,) positions, C]
    return rows.view(like.shape)


def _tiles(width: int, *tensors: Tensor) -> Iterator[list[Tensor]]:
    """Tensors [K, N] cut alike into parts [k, 1, n], and [K, m, 1] into [k, m, 1], so that k x width x n is a tile."""
    K, N = tensors[0].shape
    size = TILES.get(tensors[0].device.type, TILES["cuda"])
    n = min(N, max(64, size // width))
    k = max(1, size // (width * n))
    for parts in zip(*(t.split(k) for t in tensors), strict=True):
        parts = [t.unsqueeze(1) if t.ndim == 2 else t for t in parts]
        for start in range(0, N, n):
            yield [t if t.shape[2] != N or n == N else t.narrow(2, start, min(n, N - start)) for t in parts]


class _MLP(torch.autograd.Function):
    """g_k = w2_k · gelu(w1_k a_k + b1_k) + b2_k for K components at N positions, tile by tile."""

    @staticmethod
    def forward(ctx, acts, w1, b1, w2, b2):
        ctx.panels = w1.ndim == 3
        a = _columns(acts, ctx.panels)  # [K, N]
        ctx.save_for_backward(acts, w1, b1, w2)
        W1, B1, W2 = (t.reshape(-1, t.shape[-1], 1) for t in (w1, b1, w2))  # [K, m, 1]
        out = torch.empty_like(a)
        for x, y, u, c, v in _tiles(W1.shape[1], a, out, W1, B1, W2):
            torch.bmm(v.mT, F.gelu((x * u).add_(c)), out=y)  # [k, 1, n]
        out += b2.reshape(-1, 1)
        return _from_columns(out, acts, ctx.panels)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        acts, *weights = ctx.saved_tensors
        a, g = _columns(acts, ctx.panels), _columns(g, ctx.panels)
        W1, B1, W2 = (t.reshape(-1, t.shape[-1], 1) for t in weights)
        d_a, d_W1, d_B1, d_W2 = torch.empty_like(a), *(torch.zeros_like(t) for t in (W1, B1, W2))
        for x, here, d_x, u, c, v, d_u, d_c, d_v in _tiles(W1.shape[1], a, g, d_a, W1, B1, W2, d_W1, d_B1, d_W2):
            pre = (x * u).add_(c)  # [k, m, n]
            d_v.mT.baddbmm_(here, F.gelu(pre).mT)  # a column on the right takes ten times as long
            d_pre = aten.gelu_backward(here * v, pre)
            torch.bmm(u.mT, d_pre, out=d_x)  # [k, 1, n]
            d_u.mT.baddbmm_(x, d_pre.mT)
            d_c += d_pre.sum(2, keepdim=True)
        shape = weights[0].shape
        d_b2 = g.sum(1).view(shape[:-1])
        return _from_columns(d_a, acts, ctx.panels), d_W1.view(shape), d_B1.view(shape), d_W2.view(shape), d_b2


def upper_backward(d: Tensor, g: Tensor, leak: float) -> Tensor:
    """Gradient of `upper_leaky` in g, given d of its value. (`torch.where` costs ten times as much on a CPU.)"""
    return aten.hardtanh_backward(d, g, 0, 1).add_(aten.threshold_backward(d, g, 1), alpha=leak)


def lower_leaky(g: Tensor, leak: float = 0.01) -> Tensor:
    """clamp(g, 0, 1), the importance that masks use; below 0 a gradient of `leak` passes where descent would raise g.

    d/dg is 1 inside, 0 from 1 on, and for g <= 0 `leak` if what arrives is negative, else 0: a component that was
    switched off can come back, one that should stay off is not pushed further.

    Source: Bushnaq, Braun and Sharkey 2025, appendix on causal importance functions.
    """
    def gradient(d: Tensor, g: Tensor) -> tuple[Tensor]:
        down = d.clamp(max=0)
        below = down - aten.threshold_backward(down, g, 0)  # where g <= 0
        return (aten.hardtanh_backward(d, g, 0, 1).add_(below, alpha=leak),)

    return WithGradient.apply(lambda g: g.clamp(0, 1), gradient, g)


def upper_leaky(g: Tensor, leak: float = 0.01) -> Tensor:
    """clamp(g, 0, 1) + leak (g - 1) above 1, the importance that is penalised; d/dg is 0 below 0 and `leak` above 1.

    Source: as `lower_leaky`.
    """
    def value(g: Tensor) -> Tensor:
        return g.clamp(0, 1).add_((g - 1).clamp_(min=0), alpha=leak)

    return WithGradient.apply(value, lambda d, g: (upper_backward(d, g, leak),), g)
