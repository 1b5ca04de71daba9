"""TopoLoss: the units of a layer on a cortical sheet, and the loss that makes neighbours on it alike.

    topo = TopoLoss(model, "blocks.*.attn.proj", factor=8)
    loss = task_loss + topo_weight * topo(model)

A sheet is shrunk by `factor` and grown back. Both are bilinear and fixed, so together they are one linear map S = U D
of the units, of rank r = number of anchors. The loss asks each unit i to point where the map puts it,

    L = 1 - mean_i cos(W_i, (S W)_i),    W [n, e], D [r, n], U [n, r],

and needs only C = D W [r, e]: num_i = (W Cᵀ ∘ U) 1, |(S W)_i|² = (U C Cᵀ ∘ U) 1. S W [n, e] is never formed.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lib.activations.hooks import match_modules, unwrapped
from lib.rng import generator
from lib.tensors import own_session

Factor = float | tuple[float, float]

EPS = 1e-8
"""Shorter rows count as this long, so a zero row has cosine 0 and not NaN."""


def sheet_shape(n: int) -> tuple[int, int]:
    """Height and width of the sheet of n units: h = largest divisor of n with h <= sqrt(n), w = n / h.

    384 units make 16 x 24, 128 make 8 x 16, a prime number a single row. Unit i lies at row i // w, column i % w.

    Source: Deb, Deb & Murty 2025, section 3; the authors' code.
    """
    if n < 1:
        raise ValueError(f"a sheet needs at least one unit, got {n}")
    h = next(h for h in range(math.isqrt(n), 0, -1) if n % h == 0)
    return h, n // h


def anchors(h: int, w: int, factor: Factor) -> tuple[int, int]:
    """Rows and columns of the shrunk sheet, floor(h · (1 / factor_h)) and floor(w · (1 / factor_w)).

    The floor is taken in floating point, as interpolation takes it: 49 · (1 / 49) lies just below 1 and leaves nothing.
    """
    factors = factor if isinstance(factor, tuple) else (factor, factor)
    if len(factors) != 2 or not all(isinstance(f, Real) and 1 <= f < math.inf for f in factors):
        raise ValueError(f"factor must be a number of at least 1, or two in a tuple, got {factor!r}")
    rows, cols = (int(n * (1 / f)) for n, f in zip((h, w), factors, strict=True))
    if not rows or not cols:
        most = [max(f for f in range(1, n + 1) if int(n * (1 / f))) for n in (h, w)]
        remedy = f"take at most {min(most)}" if h > 1 else f"a single row shrinks along itself: take (1, {most[1]})"
        raise ValueError(f"factor {factor} shrinks the {h} x {w} sheet to {rows} x {cols} anchors; {remedy} or less")
    return rows, cols


def operator_rank(h: int, w: int, factor: Factor) -> int:
    """Rank of S, the number of anchors, rows · columns of the shrunk sheet."""
    rows, cols = anchors(h, w, factor)
    return rows * cols


def operator(h: int, w: int, factor: Factor) -> tuple[Tensor, Tensor]:
    """D and U with S = U D: what shrinking an h x w sheet by `factor` and growing it back does to its units.

    Each row of D picks one anchor: a unit, or the mean of the two or four nearest to a point. Each row of U blends the
    anchors around one unit. Both are products of one operator per axis, read off by interpolating unit vectors.
    `factor` is one number or (factor_h, factor_w); D [r, h·w] and U [h·w, r] are float64.
    """
    rows, cols = anchors(h, w, factor)
    factor_h, factor_w = factor if isinstance(factor, tuple) else (factor, factor)
    (down_h, up_h), (down_w, up_w) = _axis(h, rows, factor_h), _axis(w, cols, factor_w)
    return _kron(down_h, down_w), _kron(up_h, up_w)  # [r, h·w], [h·w, r]


def topo_loss(W: Tensor, D: Tensor, U: Tensor) -> Tensor:
    """L = 1 - mean_i cos(W_i, (U D W)_i), in its closed low-rank form, with its closed gradient.

    0 where every unit agrees with its anchors, about 1 for units that have nothing in common with them. L(cW) = L(W),
    so the gradient is orthogonal to W and falls as 1 / |W|.

    Args:
        W: [..., n, e], row i what unit i is compared by.
        D, U: [..., r, n] and [..., n, r] from `operator`, in W's dtype and on its device.
    Returns:
        [...]; differentiable once in W, and not in D and U. Leading axes take the place of torch.vmap, refused here.
    Source: Deb, Deb & Murty 2025, section 3, rewritten.
    """
    return _LowRank.apply(W, D, U)


def interpolated_loss(W: Tensor, h: int, w: int, factor: Factor) -> Tensor:
    """The same L as published: the sheet interpolated down by 1 / factor and back up.

    Args, Returns: as `topo_loss`; `factor` as in `operator`.
    Source: Deb, Deb & Murty 2025, section 3.
    """
    anchors(h, w, factor)
    factor_h, factor_w = factor if isinstance(factor, tuple) else (factor, factor)
    sheet = W.reshape(-1, h, w, W.shape[-1]).permute(0, 3, 1, 2)  # [layers, e, h, w]
    down = F.interpolate(sheet, scale_factor=(1 / factor_h, 1 / factor_w), mode="bilinear")
    up = F.interpolate(down, size=(h, w), mode="bilinear").permute(0, 2, 3, 1).reshape(W.shape)  # [..., n, e]
    return 1 - _cosines((W * up).sum(-1), W.square().sum(-1), up.square().sum(-1))[1].mean(-1)


class TopoLoss:
    """The mean topographic loss of chosen layers of a model, L = mean_layers (1 - mean_i cos(W_i, (S W)_i)).

    Layers of one shape are computed together. Weights are read at each call, in float32 at least.

    Args:
        model: holds the layers; the loss may be called with any model in which they have the same shapes.
        layers: dotted module name or names whose parts may be globs; all must be Linear or Conv2d. Their output units
            lie on the sheet, rows of the weight [out, in] or [out, in·kh·kw].
        factor: by which sheets shrink, one number or (factor_h, factor_w).
        permute: None, or a seed: each layer's units are laid on the sheet in a fixed random order of its own (stream
            "topoloss", "places", name). Every layer is pressed to the same rank and no units are neighbours, but layers
            that write into one stream no longer share a subspace there: together they keep more dimensions.
        shared: with `permute`, one order for all layers of n units (stream "topoloss", "places", "shared", n). Where
            the units of a stream have no order of their own, this is plain training with the units renamed. So it is
            the exact null for where things lie on the sheet, and what asks for no places cannot depend on locality.
    Attributes:
        names: of the layers, in the model's order.
        places: name -> int64 [n], where on the sheet each unit lies, row · w + column.
        shapes: name -> (height, width) of the sheet.
    Source: Deb, Deb & Murty 2025, "TopoNets".
    """

    @own_session()
    def __init__(
        self, model: nn.Module, layers: str | Sequence[str], factor: Factor = 8.0, *, permute: int | None = None,
        shared: bool = False,
    ) -> None:
        self.factor = factor
        found = match_modules(unwrapped(model), *([layers] if isinstance(layers, str) else layers))
        self.names = list(found)
        self.places: dict[str, Tensor] = {}
        self.shapes: dict[str, tuple[int, int]] = {}
        self._groups: dict[tuple[int, int], list[str]] = {}
        for name, layer in found.items():
            n, e = _sheet(name, layer).shape
            if e == 1:
                raise ValueError(f"{name} has one weight per unit, whose cosine is only a sign; choose another layer")
            self.shapes[name] = sheet_shape(n)
            try:
                anchors(*self.shapes[name], factor)
            except ValueError as error:
                raise ValueError(f"{name} ({n} units): {error}") from None
            self.places[name] = torch.arange(n) if permute is None else _order(n, permute, "shared" if shared else name)
            self._groups.setdefault((n, e), []).append(name)
        self._is_permuted = permute is not None
        self._operators: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __repr__(self) -> str:
        sheets = ", ".join(f"{name} on {h} x {w}" for name, (h, w) in self.shapes.items())
        permuted = ", permuted" * self._is_permuted
        return f"TopoLoss({sheets}; factor {self.factor}{permuted})"

    def __call__(self, model: nn.Module) -> Tensor:
        """The loss of `model`, a scalar with its graph."""
        return torch.cat(self._losses(model)).mean()

    @torch.no_grad()
    def per_layer(self, model: nn.Module) -> dict[str, Tensor]:
        """The loss of each layer by name, scalars without a graph."""
        names = [name for group in self._groups.values() for name in group]
        values = dict(zip(names, torch.cat(self._losses(model)), strict=True))
        return {name: values[name] for name in self.names}

    def _losses(self, model: nn.Module) -> list[Tensor]:
        """Losses of each group of layers of one shape, [layers] each."""
        losses, model = [], unwrapped(model)
        for group in self._groups.values():
            W = torch.stack([_sheet(name, model.get_submodule(name)) for name in group])  # [layers, n, e]
            with torch.autocast(W.device.type, enabled=False):
                W = W.to(torch.promote_types(W.dtype, torch.float32))
                if (key := (*W.shape[1:], W.device, W.dtype)) not in self._operators:
                    self._operators[key] = self._operator(group, W)
                losses.append(topo_loss(W, *self._operators[key]))
        return losses

    @own_session()
    def _operator(self, group: list[str], W: Tensor) -> tuple[Tensor, Tensor]:
        """D and U of a group, [layers, r, n] and [layers, n, r] where permuted."""
        D, U = operator(*self.shapes[group[0]], self.factor)
        if self._is_permuted:
            places = torch.stack([self.places[name] for name in group])  # [layers, n]
            D, U = D.T[places].mT.contiguous(), U[places]
        return D.to(W.device, W.dtype), U.to(W.device, W.dtype)


def _axis(n: int, n_anchors: int, factor: float) -> tuple[Tensor, Tensor]:
    """One axis of D and U: [n_anchors, n] and [n, n_anchors]."""
    down = F.interpolate(torch.eye(n, dtype=torch.float64)[None], scale_factor=1 / factor, mode="linear")[0].T
    up = F.interpolate(torch.eye(n_anchors, dtype=torch.float64)[None], size=n, mode="linear")[0].T
    return down, up


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """a ⊗ b of [m, n] and [p, q], [m·p, n·q]; torch.kron refuses some of the strides that transposing leaves."""
    return torch.einsum("mn,pq->mpnq", a, b).reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])


class _LowRank(torch.autograd.Function):
    """L and its gradient, four passes over W where automatic differentiation takes a dozen.

    With y = U C, a_i = 1 / (|W_i| |y_i|), c_i = cos(W_i, y_i) and Z = a W - (c / |y|²) y (both factors along rows),
    dL/dW = -(a y - (c / |W|²) W + Dᵀ Uᵀ Z) / n, where Uᵀ Z = (a U)ᵀ W - Uᵀ (c / |y|²) U C is only [r, e].
    """

    @staticmethod
    def forward(ctx: Any, W: Tensor, D: Tensor, U: Tensor) -> Tensor:
        C = D @ W  # [..., r, e]
        num = ((W @ C.mT) * U).sum(-1)  # [..., n]
        y_square = ((U @ (C @ C.mT)) * U).sum(-1)  # [..., n]
        x_square = torch.linalg.vector_norm(W, dim=-1).square()  # [..., n]
        a, c, x_square, y_square = _cosines(num, x_square, y_square)  # [..., n]
        c = c.clamp(-1, 1)  # where S W nearly cancels, rounding alone would leave this range
        aU = a.unsqueeze(-1) * U  # [..., n, r]
        UZ = aU.mT @ W - (U.mT @ ((c / y_square).unsqueeze(-1) * U)) @ C  # [..., r, e]
        ctx.save_for_backward(W, C, UZ, aU, c / x_square, D)
        return 1 - c.mean(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        W, C, UZ, aU, shrink, D = ctx.saved_tensors
        scale = upstream.unsqueeze(-1) / shrink.shape[-1]  # [..., 1]
        left = torch.cat([aU, D.mT.expand_as(aU)], -1) * scale.unsqueeze(-1)  # [..., n, 2r]
        along = W * (shrink * scale).unsqueeze(-1)  # [..., n, e]
        if W.ndim == 3:
            return along.baddbmm_(left, torch.cat([C, UZ], -2), alpha=-1), None, None
        return along - left @ torch.cat([C, UZ], -2), None, None


def _cosines(num: Tensor, x_square: Tensor, y_square: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1 / (|x| |y|), num / (|x| |y|), |x|² and |y|², all [..., n]."""
    x_square, y_square = x_square.clamp_min(EPS**2), y_square.clamp_min(EPS**2)
    a = (x_square * y_square).rsqrt()
    return a, num * a, x_square, y_square


def _order(n: int, seed: int, name: str) -> Tensor:
    """A fixed random order of n units, int64 [n]: of a layer by its name, or "shared" by all layers of n units."""
    labels = (name, n) if name == "shared" else (name,)
    return torch.randperm(n, generator=generator(seed, "topoloss", "places", *labels), device="cpu")


def _sheet(name: str, layer: nn.Module) -> Tensor:
    """What the loss compares of one layer, [n, e]: row i belongs to unit i."""
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        raise ValueError(f"{name} is a {type(layer).__name__}; a cortical sheet needs a Linear or a Conv2d")
    return layer.weight.flatten(1)  # [out, in·kh·kw]
