"""Causal importance functions: gates from a component's activation to g, and the two leaky sigmoids of g.

The gate "mlp" gives every component a one-hidden-layer network of its own, g = w2 · gelu(w1 a + b1) + b2, which would
need C x m numbers per position. It is therefore worked out in tiles that fit the cache, in the order (component,
hidden, position), and worked out again on the way back: only the activations are kept.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

GATES = ("mlp", "vector_mlp", "shared_mlp", "linear")
TILES = {"cpu": 2**16, "cuda": 2**26}
"""Numbers of a tile, by kind of device."""


def initial(kind: str, C: int, d_in: int, width: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Parameters of C gates: weights normal with variance 2/fan_in below the GELU and 1/fan_in above, biases 0.

    "mlp" reads a_c through C networks 1 -> width -> 1; "vector_mlp" reads the layer's input through C networks
    d_in -> width -> 1; "shared_mlp" reads it through one network d_in -> width -> C; "linear" is w a_c + b.

    Raises:
        ValueError: unknown kind.
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
    return {name: math.sqrt(var) * torch.randn(shape, generator=rng) for name, (shape, var) in shapes[kind].items()}


def gate(kind: str, parts: dict[str, Tensor], acts: Tensor, vectors: Tensor | None) -> Tensor:
    """g, shaped like acts [..., C] (with panels [S, ..., C], parameters [S, ...]).

    Args:
        vectors: the layer's inputs [..., d_in], for "vector_mlp" and "shared_mlp".
    """
    if kind == "mlp":
        return _MLP.apply(acts, *(parts[name] for name in ("w1", "b1", "w2", "b2")))
    if kind == "linear":
        w, b = (_beside(parts[name], acts) for name in "wb")
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


def _beside(part: Tensor, acts: Tensor) -> Tensor:
    """Insert axes so that [(S,) C] broadcasts against acts [(S,) ..., C]."""
    return part if part.ndim == 1 else part.view(part.shape[0], *[1] * (acts.ndim - 2), part.shape[1])


def _columns(t: Tensor, panels: bool) -> Tensor:
    """[(S,) ..., C] -> [(S) C, positions], contiguous; free for activations of a linear site."""
    rows = t.flatten(1, -2) if panels else t.reshape(-1, t.shape[-1])  # [(S,) positions, C]
    return rows.mT.reshape(-1, rows.shape[-2]).contiguous()


def _from_columns(t: Tensor, like: Tensor, panels: bool) -> Tensor:
    """The reverse of `_columns`, as a view."""
    C = like.shape[-1]
    rows = t.view(len(like), C, -1).mT if panels else t.mT  # [(S,) positions, C]
    return rows.view(like.shape)


def _tiles(K: int, N: int, width: int, device: torch.device):
    """Slices of components and positions whose product with `width` is about a tile."""
    size = TILES.get(device.type, TILES["cuda"])
    n = min(N, max(64, size // width))
    k = max(1, size // (width * n))
    return [(slice(c, c + k), slice(s, s + n)) for c in range(0, K, k) for s in range(0, N, n)]


class _MLP(torch.autograd.Function):
    """g_k = w2_k · gelu(w1_k a_k + b1_k) + b2_k for K components at N positions, tile by tile."""

    @staticmethod
    def forward(ctx, acts, w1, b1, w2, b2):
        ctx.panels = w1.ndim == 3
        a = _columns(acts, ctx.panels)  # [K, N]
        ctx.save_for_backward(acts, w1, b1, w2)
        W1, B1, W2 = (t.reshape(-1, t.shape[-1]) for t in (w1, b1, w2))  # [K, m]
        out = torch.empty_like(a)
        for k, n in _tiles(*a.shape, W1.shape[1], a.device):
            hidden = F.gelu((a[k, None, n] * W1[k, :, None]).add_(B1[k, :, None]))  # [k, m, n]
            torch.bmm(W2[k, None], hidden, out=out[k, None, n])
        out += b2.reshape(-1, 1)
        return _from_columns(out, acts, ctx.panels)

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        acts, *weights = ctx.saved_tensors
        a, g = _columns(acts, ctx.panels), _columns(g, ctx.panels)
        W1, B1, W2 = (t.reshape(-1, t.shape[-1]) for t in weights)
        d_a, d_W1, d_B1, d_W2 = torch.empty_like(a), *(torch.zeros_like(t) for t in (W1, B1, W2))
        for k, n in _tiles(*a.shape, W1.shape[1], a.device):
            pre = (a[k, None, n] * W1[k, :, None]).add_(B1[k, :, None])  # [k, m, n]
            here = g[k, n, None]  # [k, n, 1]
            d_W2[k] += torch.bmm(F.gelu(pre), here).squeeze(2)
            d_pre = torch.ops.aten.gelu_backward(here.mT * W2[k, :, None], pre)
            torch.bmm(W1[k, None], d_pre, out=d_a[k, None, n])
            d_W1[k] += torch.bmm(d_pre, a[k, n, None]).squeeze(2)
            d_B1[k] += d_pre.sum(2)
        shape = weights[0].shape
        d_b2 = g.sum(1).view(shape[:-1])
        return _from_columns(d_a, acts, ctx.panels), d_W1.view(shape), d_B1.view(shape), d_W2.view(shape), d_b2


class _Lower(torch.autograd.Function):
    @staticmethod
    def forward(ctx, g, leak):
        ctx.save_for_backward(g)
        ctx.leak = leak
        return g.clamp(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, d):
        (g,) = ctx.saved_tensors
        return torch.where(g <= 0, ctx.leak * d.clamp(max=0), d * (g <= 1)), None


class _Upper(torch.autograd.Function):
    @staticmethod
    def forward(ctx, g, leak):
        ctx.save_for_backward(g)
        ctx.leak = leak
        return torch.where(g > 1, 1 + leak * (g - 1), g.clamp(min=0))

    @staticmethod
    @once_differentiable
    def backward(ctx, d):
        (g,) = ctx.saved_tensors
        return torch.where(g > 1, ctx.leak * d, d * (g >= 0)), None


def lower_leaky(g: Tensor, leak: float = 0.01) -> Tensor:
    """clamp(g, 0, 1), the importance that masks use; below 0 a gradient of `leak` passes where descent would raise g.

    d/dg is 1 inside, 0 above 1, and for g <= 0 `leak` if what arrives is negative, else 0: a component that was
    switched off can come back, one that should stay off is not pushed further.

    Source: Bushnaq, Braun and Sharkey 2025, appendix on causal importance functions. Chapter: instruments/spd.
    """
    return _Lower.apply(g, leak)


def upper_leaky(g: Tensor, leak: float = 0.01) -> Tensor:
    """clamp(g, 0, 1) + leak (g - 1) above 1, the importance that is penalised; d/dg is 0 below 0 and `leak` above 1.

    Source: as `lower_leaky`. Chapter: instruments/spd.
    """
    return _Upper.apply(g, leak)
