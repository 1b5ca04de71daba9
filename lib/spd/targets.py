"""A network whose parameter decomposition is known: the toy model of superposition.

It sends its weights through `op` (see `lib.spd.components`), so that the masked network is the same plain function.

Source: Bushnaq, Braun and Sharkey 2025, section 3.1.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lib.data.sparse_features import sparse_features
from lib.models.toy_training import train_grid
from lib.rng import generator
from lib.spd.components import TiedLinear, plain

DENSITY = 0.05
"""P(feature is non-zero) of the inputs the source uses."""


class ToyModel(nn.Module):
    """The toy model of superposition as a target, x' = ReLU(Wᵀ W x + b); linear2 is linear1's transpose.

    Args:
        W: [n_hidden, n_features]; b: [n_features].
    """

    def __init__(self, W: Tensor, b: Tensor):
        super().__init__()
        self.linear1 = nn.Linear(*reversed(W.shape), bias=False, device="meta")
        self.linear1.weight = nn.Parameter(W.detach().clone().contiguous())
        self.linear2 = TiedLinear(self.linear1, b.clone())

    def forward(self, x: Tensor, op=plain) -> Tensor:
        """x [..., n_features] -> x', shaped like x."""
        return op("linear2", self.linear2, op("linear1", self.linear1, x)).relu()


def toy_draw(n_features: int, density: float = DENSITY) -> Callable[[torch.Generator, int], Tensor]:
    """Draws of independent features, 0 or U(0, 1), [samples, n_features]."""
    return lambda rng, samples: sparse_features((samples, n_features), density, rng)


def train_toy_model(
    n_features: int, n_hidden: int, seed: int, restarts: int = 64, steps: int = 2000, batch: int = 512,
    lr: float = 0.005, device: str | torch.device = "cpu",
) -> ToyModel:
    """The best of many toy models trained side by side, by their loss on the same held-out samples."""
    rng = generator(seed, "spd target", n_features, n_hidden, device=device)
    density, importance = torch.tensor([DENSITY], device=device), torch.ones(n_features, device=device)
    grid = train_grid(density, importance, n_hidden, restarts, steps, batch, rng, lr=lr)
    W, b = grid.best()
    return ToyModel(W[0], b[0])
