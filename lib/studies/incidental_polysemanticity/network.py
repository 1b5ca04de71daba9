"""A five-layer network on correlated features, every cell of a factorial and every seed trained as one program.

Linear(8, h), act, 3 x [Linear(h, h), act], Linear(h, 8); noise on the last hidden layer while training; full batch.
Cells share data, starts and noise of a seed, so that any two of them are a pair of runs that differ in the cell alone.
Weights are kept, so that what is measured of networks can change without training them again.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from lib.ensembles import train_ensemble
from lib.press.runs import reuse
from lib.rng import generator
from lib.studies.incidental_polysemanticity import kernels
from lib.studies.incidental_polysemanticity.data import TRAIN, Samples, grouped_samples
from lib.studies.incidental_polysemanticity.groups import Networks, Positive
from lib.studies.incidental_polysemanticity.kernels import network_layout
from lib.tensors import as_array, device_named

Init = Literal["random", "orthogonal"]


@dataclass(frozen=True)
class Cell:
    """One setting of every factor.

    Attributes:
        init: `random` is U(±1/sqrt(fan_in)); `orthogonal` has gain sqrt(2) and zero biases.
        noise: on the last hidden layer: `bipolar` ±sigma, or `positive_kurtosis`, t(3) of standard deviation sigma.
        reg: `L1` adds penalty * sum|W| over weights to the loss; `L2` penalty * theta (biases too) to the gradient.
        act: `relu` or `gelu` (erf).
        clip: largest Euclidean norm of a model's gradient, or None for no clipping.
    """

    init: Init = "random"
    noise: Literal["none", "bipolar", "positive_kurtosis"] = "none"
    reg: Literal["L1", "L2", "none"] = "none"
    act: Literal["relu", "gelu"] = "relu"
    penalty: Annotated[float, Field(ge=0)] = 1e-4
    hidden_dim: Annotated[int, Field(ge=1)] = 12
    clip: Positive | None = None


PUBLISHED = (
    Cell("random", "bipolar", "L1", "relu"), Cell("orthogonal", "bipolar", "L1", "relu"),
    Cell("random", "positive_kurtosis", "L1", "relu"), Cell("random", "bipolar", "L2", "gelu"),
    Cell("orthogonal", "bipolar", "L2", "gelu"), Cell("orthogonal", "positive_kurtosis", "L1", "relu"),
    Cell("random", "positive_kurtosis", "L2", "relu"), Cell("orthogonal", "positive_kurtosis", "L2", "gelu"),
)
"""The eight published combinations, 1 to 8."""


class Trained(NamedTuple):
    """Networks of C cells x S seeds.

    Attributes:
        weights: W0 .. W4 [C, S, out, in] and b0 .. b4 [C, S, out].
        train_mse, val_mse: mean squared error without noise or penalty, [C, S].
        acts, val_acts: last hidden layer without noise on the train and validation samples, [C, S, n, hidden_dim].
        features, val_features: the samples' true features, [S, n, 8]. theta: the weights, a row per model, [C, S, P].
    """

    weights: dict[str, Tensor]
    train_mse: Tensor
    val_mse: Tensor
    acts: Tensor
    val_acts: Tensor
    features: Tensor
    val_features: Tensor
    theta: Tensor


def trained(params: Networks, cells: Sequence[Cell], seeds: range, untrained: bool = False) -> Trained:
    """The `networks` and what they compute; trains those that are not there yet."""
    plain, steps, device = [astuple(cell) for cell in cells], 0 if untrained else params.steps, params.device
    theta = torch.tensor(reuse(networks, plain, seeds, steps, params.lr, device)["theta"], device=device_named(device))
    return read(theta, cells, grouped_samples(seeds, device=theta.device))


def networks(cells: list[tuple], seeds: range, steps: int, lr: float, device: str) -> dict:
    """Train every cell, the fields of a `Cell` each, on every seed; theta [C, S, P], their weights alone."""
    return {"theta": as_array(train([Cell(*cell) for cell in cells], seeds, steps, device_named(device), lr).theta)}


def train(
    cells: Sequence[Cell], seeds: Sequence[int], steps: int = 2000, device: str | torch.device = "cpu",
    lr: float = 1e-3, tile_rows: int | None = None,
) -> Trained:
    """Train every cell on every seed by full-batch Adam, mean squared error on the first 820 of 1024 samples.

    Data, starts and noise (of size .1) come from the streams (seed, "data"), (seed, "init", init) and (seed, "noise",
    noise): a model's draws depend on its seed and its own factors only, not on what else is trained.

    Args:
        cells: all of one hidden_dim; seeds: distinct; steps: Adam updates, 0 gives the untrained networks.
        tile_rows: models whose work is done together within a step; by default 16 on a CPU, whose cache is small.
    Source: ngugi_taming, main.py and models.py.
    """
    widths = {cell.hidden_dim for cell in cells}
    if len(widths) != 1 or not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"train needs cells of one hidden_dim and distinct seeds, got {sorted(widths)}, {list(seeds)}")
    data, width = grouped_samples(seeds, device=device), widths.pop()
    start = torch.stack([initial(cell.init, seeds, width) for cell in cells]).to(device)  # [C, S, P]
    kinds = sorted({cell.noise for cell in cells} - {"none"})
    noise = {kind: kernels.network_noise(kind, seeds, 0.1, (width, TRAIN), device) for kind in kinds}
    return train_rows(cells, start, data, noise, steps, lr, tile_rows=tile_rows)


def train_rows(
    cells: Sequence[Cell], start: Tensor, data: Samples, noise: dict[str, kernels.NoiseStream], steps: int,
    lr: float = 1e-3, sources: Sequence[str] | None = None, tile_rows: int | None = None,
) -> Trained:
    """Train given starts on given data with given noise.

    Args:
        start: [C, S, P], rows as in `kernels.network_layout`; data: one data set per seed, its first 820 for training.
        noise: for each source but `none`, what gives one step's draws, [S, hidden_dim, 820].
        sources: each cell's source, a key of `noise` or `none`; by default its kind of noise.
    """
    (n_cells, n_seeds), width = start.shape[:2], cells[0].hidden_dim
    sources = sources or [cell.noise for cell in cells]
    order = sorted(range(n_cells), key=lambda c: (cells[c].act != "relu", sources[c]))  # ReLU first, noises together
    theta = start[order].flatten(0, 1)  # [C*S, P]
    if steps:
        x, y = (part[:, :TRAIN].mT.contiguous() for part in (data.x, data.y))  # [S, 8, n]
        at_once = tile_rows or (16 if theta.device.type == "cpu" else len(theta))
        work = kernels.tiles([(cells[c].act, sources[c]) for c in order], n_seeds, at_once)
        gradient = kernels.Gradient(width, x, y, _penalties([cells[c] for c in order], n_seeds, theta), work, noise)
        theta = train_ensemble(gradient, theta, steps, lr).theta
    back = torch.tensor(order).argsort().to(theta.device)
    return read(theta.unflatten(0, (-1, n_seeds))[back], cells, data)


def read(theta: Tensor, cells: Sequence[Cell], data: Samples) -> Trained:
    """What networks with the weights theta [C, S, P] compute without noise, one cell at a time."""
    found, parts = [], data.split()
    for part in parts:
        passes = [kernels.hidden_and_output(rows, cell.hidden_dim, part.x.mT, cell.act)
                  for cell, rows in zip(cells, theta, strict=True)]
        found.append(torch.stack([(output - part.y.mT).square().mean((1, 2)) for _, output in passes]))
        found.append(torch.stack([hidden.mT for hidden, _ in passes]))
    error, acts, val_error, val_acts = found
    weights = network_layout(cells[0].hidden_dim).views(theta)
    return Trained(weights, error, val_error, acts, val_acts, *(part.x for part in parts), theta)


def initial(init: Init, seeds: Sequence[int], hidden_dim: int) -> Tensor:
    """Starting rows [S, P] of each seed, from the stream (seed, "init", init)."""
    return torch.stack([initial_row(init, hidden_dim, generator(seed, "init", init)) for seed in seeds])


def initial_row(init: Init, hidden_dim: int, rng: torch.Generator) -> Tensor:
    """One starting row [P], drawn as torch draws five Linear layers and then, if asked, orthogonal weights."""
    shapes = network_layout(hidden_dim).shapes
    at = {name: torch.empty(shape) for name, shape in shapes.items()}
    for i in range(5):
        bound = shapes[f"W{i}"][1] ** -0.5
        at[f"W{i}"].uniform_(-bound, bound, generator=rng)
        at[f"b{i}"].uniform_(-bound, bound, generator=rng)
    if init == "orthogonal":
        for i in range(5):
            torch.nn.init.orthogonal_(at[f"W{i}"], gain=2**0.5, generator=rng)
            at[f"b{i}"].zero_()
    return network_layout(hidden_dim).pack(**at)


def _penalties(cells: Sequence[Cell], n_seeds: int, like: Tensor) -> kernels.Penalties:
    by_cell = [[c.penalty * (c.reg == "L1"), c.penalty * (c.reg == "L2"), c.clip or torch.inf] for c in cells]
    l1, l2, clip = like.new_tensor(by_cell).repeat_interleave(n_seeds, 0).split(1, dim=1)  # [C*S, 1] each
    return kernels.Penalties(l1, l2, clip if any(cell.clip for cell in cells) else None)
