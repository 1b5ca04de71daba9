"""The published network, autoencoder and loops in plain torch, one run at a time: what the batched code must equal."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.studies.incidental_polysemanticity.kernels import network_layout
from lib.studies.incidental_polysemanticity.network import Cell


def network(row: Tensor, cell: Cell) -> nn.Sequential:
    """Linear and activation modules that hold one row of a table."""
    at, layers = network_layout(cell.hidden_dim).views(row), []
    for i in range(5):
        linear = nn.Linear(*at[f"W{i}"].T.shape, dtype=row.dtype)
        with torch.no_grad():
            linear.weight.copy_(at[f"W{i}"])
            linear.bias.copy_(at[f"b{i}"])
        layers += [linear, nn.ReLU() if cell.act == "relu" else nn.GELU()]
    return nn.Sequential(*layers[:-1])


def train_network(net: nn.Sequential, cell: Cell, x: Tensor, y: Tensor, noise: list[Tensor]) -> None:
    """Full-batch Adam, one step per draw of noise [n, hidden_dim]."""
    decay = cell.penalty if cell.reg == "L2" else 0
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=decay)
    for draw in noise:
        adam.zero_grad()
        hidden = net[:-1](x)
        loss = F.mse_loss(net[-1](hidden + draw if cell.noise != "none" else hidden), y)
        if cell.reg == "L1":
            loss = loss + cell.penalty * sum(p.abs().sum() for p in net.parameters() if p.dim() > 1)
        loss.backward()
        if cell.clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), cell.clip)
        adam.step()


class SharedSAE(nn.Module):
    """The published autoencoder: the encoder's weight is set to a view of the decoder's."""

    def __init__(self, decoder: Tensor, bias: Tensor):
        """decoder: [d, n_latents], of unit columns; bias: [n_latents]."""
        super().__init__()
        d, n_latents = decoder.shape
        self.encoder = nn.Linear(d, n_latents)
        self.decoder = nn.Linear(n_latents, d, bias=False)
        with torch.no_grad():
            self.decoder.weight.copy_(decoder)
            self.encoder.weight.data = self.decoder.weight.data.t()
            self.encoder.bias.copy_(bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.leaky_relu(self.encoder(x), 0.01)
        return self.decoder(hidden), hidden


def train_shared(sae: SharedSAE, acts: Tensor, steps: int, penalty: float = 1e-4) -> None:
    """Full-batch Adam on mean squared error + penalty * sum|hidden|."""
    adam = torch.optim.Adam(sae.parameters(), lr=1e-3)
    for _ in range(steps):
        adam.zero_grad()
        recons, hidden = sae(acts)
        (F.mse_loss(recons, acts) + penalty * hidden.abs().sum()).backward()
        adam.step()
