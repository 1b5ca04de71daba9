"""Loss and gradient of many five-layer networks at once, by hand, into buffers that are reused at every step.

Tensors are [rows, units, samples], so that every layer is one batched product of a small matrix with a wide one.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.ensembles import Layout
from lib.rng import generator
from lib.studies.incidental_polysemanticity.data import N_FEATURES
from lib.studies.incidental_polysemanticity.noise import unit_noise

N_LAYERS = 5
NoiseStream = Callable[[], Tensor]
"""() -> the next step's noise, [seeds, hidden_dim, samples]."""


def network_layout(hidden_dim: int) -> Layout:
    """W0, b0, .. W4, b4 in the order torch's own parameters come in; W_i is [out, in]."""
    sizes = [N_FEATURES, *[hidden_dim] * (N_LAYERS - 1), N_FEATURES]
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        shapes |= {f"W{i}": (n_out, n_in), f"b{i}": (n_out,)}
    return Layout(**shapes)


class Penalties(NamedTuple):
    """Per row, [I, 1]: weight of sum|W|, weight of theta in the gradient, largest gradient norm (None: no clipping)."""

    l1: Tensor
    l2: Tensor
    clip: Tensor | None


class Tile(NamedTuple):
    """Neighbouring rows of the table that share activation and noise: some seeds of one cell, or all of several.

    Their data sets are those of `seeds`, in turn; source: of the noise, or `none`.
    """

    act: str
    source: str
    rows: slice
    seeds: slice


def tiles(cells: Sequence[tuple[str, str]], n_seeds: int, at_most: int) -> list[Tile]:
    """Cut a table [cells, seeds] into tiles of at most `at_most` rows, whose work fits the cache.

    cells: (act, source of noise) of each cell, equal ones next to each other.
    """
    found, first, together = [], 0, max(1, at_most // n_seeds)  # together: cells whose seeds all fit
    for (act, source), members in groupby(cells):
        last = first + len(list(members))
        for cell in range(first, last, together):
            end = min(cell + together, last)
            for seed in range(0, n_seeds, at_most):
                seeds = slice(seed, min(seed + at_most, n_seeds))
                rows = slice(cell * n_seeds + seeds.start, (end - 1) * n_seeds + seeds.stop)
                found.append(Tile(act, source, rows, seeds))
        first = last
    return found


class Gradient:
    """(theta [I, P], grad [I, P]) -> mean squared error [I] under noise; grad gets error, penalties and clipping.

    The order is torch's: the L1 term is part of the loss, the gradient is clipped, and Adam's decay is added last.

    Args:
        x, y: one data set per seed, [S, 8, n]; work: the tiles that make up the table, in its order.
        noise: each source's draws, [S, hidden_dim, n] a step; one draw serves all cells of a seed.
    """

    def __init__(self, hidden_dim: int, x: Tensor, y: Tensor, penalties: Penalties, work: Sequence[Tile], noise: dict):
        self.names, self.penalties, self.noise = network_layout(hidden_dim), penalties, noise
        weights = {k: torch.full(s, float(k[0] == "W"), device=x.device) for k, s in self.names.shapes.items()}
        self.l1 = penalties.l1 * self.names.pack(**weights)  # [I, P]
        shape = max(tile.rows.stop - tile.rows.start for tile in work), hidden_dim, x.shape[2]
        space = [[x.new_empty(shape) for _ in range(k)] for k in (5, 4, 2)]  # shared by tiles: it stays in cache
        residual = x.new_empty(shape[0], N_FEATURES, shape[2])
        self.passes, self.seen = [TilePass(tile, x, y, space, residual) for tile in work], None

    def __call__(self, theta: Tensor, grad: Tensor) -> Tensor:
        if self.seen is not theta:  # the table is updated in place, so its views are made once
            self.seen = theta
            for part in self.passes:
                part.bind(self.names.views(theta[part.tile.rows]), self.names.views(grad[part.tile.rows]))
        drawn = {source: draw() for source, draw in self.noise.items()}
        loss = torch.cat([part(drawn) for part in self.passes])
        grad.addcmul_(theta.sign(), self.l1)
        if self.penalties.clip is not None:
            norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)  # [I, 1]
            grad.mul_((self.penalties.clip / (norm + 1e-6)).clamp_(max=1.0))
        grad.addcmul_(theta, self.penalties.l2)
        return loss


class TilePass:
    """Forward and backward pass of one tile. ReLU works in place; GELU keeps what went in."""

    def __init__(self, tile: Tile, x: Tensor, y: Tensor, space: list[list[Tensor]], residual: Tensor):
        rows, seeds = tile.rows.stop - tile.rows.start, tile.seeds.stop - tile.seeds.start
        self.tile, self.seeds, self.relu = tile, seeds, tile.act == "relu"
        self.x, self.y = (part[tile.seeds].repeat(rows // seeds, 1, 1) if rows > seeds else part[tile.seeds]
                          for part in (x, y))
        self.out, self.pre, self.back = ([buffer[:rows] for buffer in kind] for kind in space)  # fifth out: with noise
        self.residual = residual[:rows]

    def bind(self, at: dict[str, Tensor], into: dict[str, Tensor]) -> None:
        """Parameters to read and gradients to fill, views of the tile's rows."""
        self.W, self.b = ([at[f"W{i}"] for i in range(N_LAYERS)], [at[f"b{i}"].unsqueeze(2) for i in range(N_LAYERS)])
        self.gW, self.gb = ([into[f"{kind}{i}"] for i in range(N_LAYERS)] for kind in "Wb")

    def __call__(self, drawn: dict[str, Tensor]) -> Tensor:
        last = self._hidden(drawn)
        residual, size = torch.bmm(self.W[4], last, out=self.residual).add_(self.b[4]).sub_(self.y), self.y[0].numel()
        loss = torch.linalg.vector_norm(residual, dim=(1, 2)).square_() / size
        d, inputs = residual.mul_(2.0 / size), [self.x, *self.out[:3], last]
        for i in range(N_LAYERS - 1, -1, -1):
            self.gW[i].copy_(torch.bmm(d, inputs[i].mT))
            torch.sum(d, 2, out=self.gb[i])
            if i:
                d = self._slope(torch.bmm(self.W[i].mT, d, out=self.back[i % 2]), i - 1)
        return loss

    def _hidden(self, drawn: dict[str, Tensor]) -> Tensor:
        h = self.x
        for i in range(N_LAYERS - 1):
            pre = torch.bmm(self.W[i], h, out=(self.out if self.relu else self.pre)[i]).add_(self.b[i])
            h = pre.clamp_min_(0) if self.relu else torch.ops.aten.gelu.out(pre, out=self.out[i])
        if self.tile.source == "none":
            return h
        clean, noisy = (part.unflatten(0, (-1, self.seeds)) for part in (h, self.out[4]))
        torch.add(clean, drawn[self.tile.source][self.tile.seeds], out=noisy)
        return self.out[4]

    def _slope(self, d: Tensor, i: int) -> Tensor:
        """d times the slope of activation i, in place; multiplying by a mask would cost the mask too."""
        if self.relu:
            return torch.ops.aten.threshold_backward.grad_input(d, self.out[i], 0, grad_input=d)
        return torch.ops.aten.gelu_backward.grad_input(d, self.pre[i], grad_input=d)


@torch.no_grad()
def hidden_and_output(theta: Tensor, hidden_dim: int, x: Tensor, act: str) -> tuple[Tensor, Tensor]:
    """Last hidden layer [I, hidden_dim, n] and output [I, 8, n] without noise; x [I, 8, n]."""
    at, h = network_layout(hidden_dim).views(theta), x
    for i in range(N_LAYERS):
        pre = torch.baddbmm(at[f"b{i}"].unsqueeze(2), at[f"W{i}"], h)
        if i < N_LAYERS - 1:
            h = pre.relu() if act == "relu" else F.gelu(pre)
    return h, pre


def network_noise(
    kind: str, seeds: Sequence[int], sigma: float, shape: tuple[int, int], device: str | torch.device
) -> NoiseStream:
    """A source of noise for each step, of standard deviation sigma and shape (hidden_dim, samples).

    Each seed has its own stream, (seed, "noise", kind); `positive_kurtosis` is Student's t with 3 degrees of freedom.
    """
    if kind not in ("bipolar", "positive_kurtosis"):
        raise ValueError(f"noise {kind!r} is not bipolar or positive_kurtosis")
    rngs = [generator(seed, "noise", kind, device=device) for seed in seeds]
    ahead = 1 if torch.device(device).type == "cpu" else 32  # a GPU would spend its time on launching small draws

    def steps() -> Iterator[Tensor]:
        while True:
            block = torch.stack([unit_noise(kind, (ahead, *shape), rng) for rng in rngs], 1)  # [ahead, S, h, n]
            yield from block.mul_(sigma)

    return steps().__next__
