"""Networks whose parameter decomposition is known: toy models of superposition and residual MLPs.

Each sends its weights through `op` (see `lib.spd.components`), so that a masked network is the same plain function.

Source: Bushnaq, Braun and Sharkey 2025, sections 3.1-3.2.
"""
from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.sparse_features import sparse_features
from lib.models.toy_training import train_grid
from lib.rng import generator
from lib.spd.components import TiedLinear, plain

DENSITY = {"tms": 0.05, "resid_mlp": 0.01}
"""P(feature is non-zero) of the inputs the sources use."""


class ToyModel(nn.Module):
    """The toy model of superposition as a target, x' = ReLU(Wᵀ (H ... H) W x + b); linear2 is linear1's transpose.

    Args:
        W: [n_hidden, n_features]; b: [n_features].
        identity_layers: linear maps H on the hidden units, all the identity; named hidden0, hidden1, ...
    """

    def __init__(self, W: Tensor, b: Tensor, identity_layers: int = 0):
        super().__init__()
        n_hidden, n_features = W.shape
        self.linear1 = _linear(W)
        self.hidden = nn.ModuleList(_linear(torch.eye(n_hidden).to(W)) for _ in range(identity_layers))
        self.linear2 = TiedLinear(self.linear1, b.clone())

    def forward(self, x: Tensor, op=plain) -> Tensor:
        """x [..., n_features] -> x', shaped like x."""
        h = op("linear1", self.linear1, x)
        for i, layer in enumerate(self.hidden):
            h = op(f"hidden{i}", layer, h)
        return op("linear2", self.linear2, h).relu()


class ResidualMLP(nn.Module):
    """y = W_Eᵀ-readout of a residual stream: r <- r + W_out ReLU(W_in r) per layer, r_0 = x W_E, y = r W_Eᵀ.

    Args:
        n_features, d_embed, d_mlp: widths; d_mlp units per layer.
        rng: draws the fixed unit-norm rows of W_E and the initial weights.
    """

    def __init__(self, n_features: int, d_embed: int, d_mlp: int, n_layers: int, rng: torch.Generator):
        super().__init__()
        W_E = F.normalize(torch.randn(n_features, d_embed, generator=rng, device=rng.device), dim=1)
        self.register_buffer("W_E", W_E)
        self.layers = nn.ModuleList()
        for _ in range(n_layers):
            W_in = (2 / d_embed) ** 0.5 * torch.randn(d_mlp, d_embed, generator=rng, device=rng.device)
            W_out = d_mlp**-0.5 * torch.randn(d_embed, d_mlp, generator=rng, device=rng.device)
            self.layers.append(nn.ModuleDict({"mlp_in": _linear(W_in), "mlp_out": _linear(W_out)}))

    def forward(self, x: Tensor, op=plain) -> Tensor:
        """x [..., n_features] -> y, shaped like x; sites layers.0.mlp_in, layers.0.mlp_out, ..."""
        residual = x @ self.W_E
        for i, layer in enumerate(self.layers):
            hidden = op(f"layers.{i}.mlp_in", layer["mlp_in"], residual).relu()
            residual = residual + op(f"layers.{i}.mlp_out", layer["mlp_out"], hidden)
        return residual @ self.W_E.T


def _linear(W: Tensor) -> nn.Linear:
    layer = nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(W.detach().clone().contiguous())
    return layer


def toy_draw(n_features: int, density: float = DENSITY["tms"]) -> Callable[[torch.Generator, int], Tensor]:
    """Draws of independent features, 0 or U(0, 1), [samples, n_features]."""
    return lambda rng, samples: sparse_features((samples, n_features), density, rng)


def signed_draw(n_features: int, density: float = DENSITY["resid_mlp"]) -> Callable[[torch.Generator, int], Tensor]:
    """Draws of independent features, 0 or U(-1, 1), [samples, n_features]."""

    def draw(rng: torch.Generator, samples: int) -> Tensor:
        u = sparse_features((samples, n_features), density, rng)
        return torch.where(u > 0, 2 * u - 1, 0)

    return draw


def train_toy_model(
    n_features: int,
    n_hidden: int,
    seed: int,
    restarts: int = 64,
    steps: int = 2000,
    batch: int = 512,
    lr: float = 0.005,
    identity_layers: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[ToyModel, Tensor]:
    """The best of many toy models trained side by side, by their loss on the same held-out samples.

    Returns:
        The model, and the held-out loss of every restart over the zero predictor's, [restarts].
    """
    rng = generator(seed, "spd target", n_features, n_hidden, device=device)
    density, importance = torch.tensor([DENSITY["tms"]], device=device), torch.ones(n_features, device=device)
    grid = train_grid(density, importance, n_hidden, restarts, steps, batch, rng, lr=lr)
    W, b = grid.best()
    return ToyModel(W[0], b[0], identity_layers), grid.loss[0]


def train_residual_mlp(
    n_layers: int,
    seed: int,
    n_features: int = 100,
    d_embed: int = 1000,
    d_mlp: int | None = None,
    steps: int = 1000,
    batch: int = 2048,
    lr: float = 3e-3,
    device: str | torch.device = "cpu",
) -> tuple[ResidualMLP, float]:
    """A residual MLP trained to give x + ReLU(x), 50 hidden units shared out among its layers.

    Returns:
        The model, and its mean squared error on held-out samples over that of giving x back.
    Source: Bushnaq, Braun and Sharkey 2025, section 3.2.
    """
    rng = generator(seed, "spd target", "resid_mlp", n_layers, device=device)
    model = ResidualMLP(n_features, d_embed, d_mlp or 50 // n_layers, n_layers, rng)
    draw, trained = signed_draw(n_features), list(model.parameters())
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = draw(rng, batch)
        optimizer.zero_grad()
        (model(x) - x - x.relu()).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        x = draw(rng, 4 * batch)
        error = (model(x) - x - x.relu()).square().mean() / x.relu().square().mean()
    return model.requires_grad_(False), float(error)
