"""Layers written as sums of components: W = sum_c u_c v_cᵀ + Δ, for linear maps, convolutions and embeddings.

A target is a module whose forward sends every weight it wants decomposed through an operation given to it,

    def forward(self, x, op=plain):
        return op("fc2", self.fc2, op("fc1", self.fc1, x).relu())

so that the masked network is the same plain function with another `op`. A site is one such weight. It reads an input
with V, writes an output with U, and knows how its weight acts; a component's activation has the shape of the positions
a weight is applied at: [B] for vectors, [B, H', W'] for images, [B, T] for tokens.

Source: Bushnaq, Braun and Sharkey 2025, "Stochastic parameter decomposition".
"""
from __future__ import annotations

import inspect
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.activations.hooks import unwrapped


def plain(name: str, module: nn.Module, x: Tensor) -> Tensor:
    """The operation of an undecomposed target: the module itself."""
    return module(x)


class TiedLinear(nn.Module):
    """The transpose of another linear layer's weight, y = x W (+ bias): the two share one parameter.

    Args:
        source: the layer that owns W, [n_hidden, n_features]; this one maps n_hidden to n_features.
        bias: [n_features] or None.
    """

    def __init__(self, source: nn.Module, bias: Tensor | None = None):
        super().__init__()
        self._source = [source]  # in a list, so that W is registered once
        self.bias = None if bias is None else nn.Parameter(bias)

    @property
    def weight(self) -> Tensor:
        """Wᵀ, [d_out, d_in]."""
        return self._source[0].weight.T

    def forward(self, x: Tensor) -> Tensor:
        """y = x W + bias."""
        return F.linear(x, self.weight, self.bias)


class Routed(nn.Sequential):
    """A sequence of modules whose weights of two and more axes go through `op` by their names: not those of norms."""

    def forward(self, x: Tensor, op=plain) -> Tensor:
        """The last module's output."""
        for name, module in self.named_children():
            x = op(name, module, x) if getattr(getattr(module, "weight", None), "ndim", 0) > 1 else module(x)
        return x

    @torch.no_grad()
    def behind(self, name: str, x: Tensor, batch: int = 1000) -> tuple[Routed, Tensor]:
        """The modules from `name` on, and what they are given where the whole is given x [N, ...], batch by batch.

        Sites of that tail can be decomposed on these inputs as in the whole, and many seeds side by side.
        """
        parts = list(self.named_children())
        if name not in (names := [part for part, _ in parts]):
            raise ValueError(f"there is no module {name!r}; there are {', '.join(names)}")
        cut = names.index(name)
        head = nn.Sequential(OrderedDict(parts[:cut]))
        return Routed(OrderedDict(parts[cut:])), torch.cat([head(part) for part in x.split(batch)])


def routed(target: nn.Module) -> nn.Module:
    """`target`, where its forward sends weights through `op`; a plain Sequential, which does not, as a `Routed` one.

    Raises:
        TypeError: its forward has no place for `op`; says how it is given one.
    """
    inner = unwrapped(target)
    if type(inner) is nn.Sequential:
        return Routed(OrderedDict(inner.named_children()))
    takes = inspect.signature(inner.forward).parameters.values()
    if sum(2 if each.kind is each.VAR_POSITIONAL else each.kind is not each.KEYWORD_ONLY for each in takes) < 2:
        raise TypeError(f"{type(inner).__name__}.forward has no second argument: give it `op=lib.spd.plain`, and "
                        'write op("name", self.layer, x) where it calls a layer to decompose, self.layer(x)')
    return target


class Linear:
    """y = x Wᵀ + bias; V [d_in, C] reads, a = x V, and U [C, d_out] writes, so that Ŵ = (V U)ᵀ.

    With a leading axis of panels V is [S, d_in, C], x [S, ..., d_in]: S decompositions of one target side by side.

    Attributes:
        d_in, d_out: rows of V and columns of U.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.d_in, self.d_out = self.sizes()

    @property
    def weight(self) -> Tensor:
        """The target's, as the module has it now."""
        return self.module.weight

    @property
    def bias(self) -> Tensor | None:
        """The target's, or None."""
        return getattr(self.module, "bias", None)

    def sizes(self) -> tuple[int, int]:
        """Rows of V and columns of U, as the weight has them."""
        return self.weight.shape[1], self.weight.shape[0]

    def check(self, C: int) -> None:
        """Refuse a number of components this site cannot have."""

    def apply(self, x: Tensor) -> Tensor:
        """x Wᵀ, without the bias."""
        return F.linear(x, self.weight)

    def acts(self, x: Tensor, V: Tensor) -> Tensor:
        """Activations a_c = x · v_c, [..., C], stored component after component, as the gates read them."""
        if V.ndim == 2:
            return torch.mm(V.T, x.reshape(-1, x.shape[-1]).T).T.view(*x.shape[:-1], V.shape[1])
        rows = x.reshape(len(V), -1, x.shape[-1])  # [S, positions, d_in]
        return torch.bmm(V.mT, rows.mT).mT.view(*x.shape[:-1], V.shape[2])

    def write(self, acts: Tensor, U: Tensor) -> Tensor:
        """sum_c a_c u_c: acts [..., C] -> what `apply` gives."""
        if U.ndim == 2:
            return acts @ U
        return torch.bmm(acts.flatten(1, -2), U).view(*acts.shape[:-1], U.shape[2])

    def compose(self, V: Tensor, U: Tensor) -> Tensor:
        """Ŵ, shaped like the weight (behind the panels, if any)."""
        return (V @ U).mT

    def scale(self, out: Tensor, mask: Tensor) -> Tensor:
        """`out` times one number per position, mask [...]."""
        return out * mask.unsqueeze(-1)

    def add_bias(self, out: Tensor) -> Tensor:
        """`out` plus the target's bias."""
        return out if self.bias is None else out + self.bias

    def vectors(self, x: Tensor) -> Tensor:
        """What V reads at each position, [..., d_in]."""
        return x


class Conv2d(Linear):
    """A convolution; V [d_in, C] holds one filter per component, d_in = (C_in/groups) kh kw in the order of `unfold`.

    Activations are [B, H', W', C]. With g groups, component c lies in group c // (C/g), and U is [C, C_out/g].
    """

    def sizes(self) -> tuple[int, int]:
        """Entries of a filter, and output channels of a group."""
        return self.weight[0].numel(), self.weight.shape[0] // self.module.groups

    def check(self, C: int) -> None:
        """Refuse a number of components that does not divide into the groups, and padding other than with zeros."""
        if C % self.module.groups:
            raise ValueError(f"{C} components cannot be shared out evenly among {self.module.groups} groups")
        if self.module.padding_mode != "zeros":
            raise ValueError(f"padding_mode {self.module.padding_mode!r} is not supported: pad before the convolution")

    def _conv(self, x: Tensor, filters: Tensor) -> Tensor:
        m = self.module
        return F.conv2d(x, filters, None, m.stride, m.padding, m.dilation, m.groups)

    def apply(self, x: Tensor) -> Tensor:
        """The convolution without its bias, [B, C_out, H', W']."""
        return self._conv(x, self.weight)

    def acts(self, x: Tensor, V: Tensor) -> Tensor:
        """Responses of the components' filters, [B, H', W', C]."""
        filters = V.T.reshape(V.shape[1], *self.weight.shape[1:])  # [C, C_in/g, kh, kw]
        return self._conv(x, filters).permute(0, 2, 3, 1)

    def write(self, acts: Tensor, U: Tensor) -> Tensor:
        """acts [B, H', W', C] -> [B, C_out, H', W']: a 1 x 1 convolution within each group."""
        filters = U.unflatten(0, (self.module.groups, -1)).mT.flatten(0, 1)  # [C_out, C/g]
        return F.conv2d(acts.permute(0, 3, 1, 2), filters[..., None, None], groups=self.module.groups)

    def compose(self, V: Tensor, U: Tensor) -> Tensor:
        """Ŵ, [C_out, C_in/g, kh, kw]."""
        groups = self.module.groups
        V, U = V.T.unflatten(0, (groups, -1)), U.unflatten(0, (groups, -1))  # [g, C/g, d_in], [g, C/g, d_out]
        return (U.mT @ V).reshape(self.weight.shape)

    def scale(self, out: Tensor, mask: Tensor) -> Tensor:
        """`out` [B, C_out, H', W'] times mask [B, H', W']."""
        return out * mask.unsqueeze(1)

    def add_bias(self, out: Tensor) -> Tensor:
        """`out` plus the target's bias, one per channel."""
        return out if self.bias is None else out + self.bias[:, None, None]

    def vectors(self, x: Tensor) -> Tensor:
        """The patch under the filter at each position, [B, H', W', C_in kh kw]; all groups together."""
        m = self.module
        if isinstance(m.padding, str):
            raise ValueError(f"a gate that reads patches needs padding in numbers, got {m.padding!r}")
        patches = F.unfold(x, m.kernel_size, m.dilation, m.padding, m.stride)  # [B, C_in kh kw, H' W']
        sizes = zip(x.shape[2:], m.padding, m.dilation, m.kernel_size, m.stride, strict=True)
        size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in sizes]
        return patches.mT.unflatten(1, size)


class Embedding(Linear):
    """Rows of a table, y = W[token]; V [vocab, C] and U [C, d], so that Ŵ = V U. Activations are [B, T, C]."""

    def sizes(self) -> tuple[int, int]:
        """Tokens of the vocabulary, and width of a row."""
        return self.weight.shape[0], self.weight.shape[1]

    def apply(self, x: Tensor) -> Tensor:
        """W[token], [..., d]."""
        return F.embedding(x, self.weight)

    def acts(self, x: Tensor, V: Tensor) -> Tensor:
        """V[token], [..., C]."""
        return F.embedding(x, V)

    def compose(self, V: Tensor, U: Tensor) -> Tensor:
        """Ŵ, [vocab, d]."""
        return V @ U

    def vectors(self, x: Tensor) -> Tensor:
        """None to read: refused."""
        raise ValueError('an embedding reads tokens, not vectors: use gate "mlp" or "linear"')


def site_of(name: str, module: nn.Module) -> Linear:
    """The site of a module: a convolution, an embedding, or anything else with a weight [d_out, d_in]."""
    if isinstance(module, nn.Conv2d):
        return Conv2d(module)
    if isinstance(module, nn.Embedding):
        return Embedding(module)
    if getattr(getattr(module, "weight", None), "ndim", 0) != 2:
        raise TypeError(f"{name}: {type(module).__name__} has no weight [d_out, d_in] and cannot be decomposed")
    return Linear(module)
