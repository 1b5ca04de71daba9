"""Low-rank adapters: a model is fine-tuned by a few directions of every linear layer of its blocks, all else frozen.

    tuned = low_rank(copy.deepcopy(model), rank=4, seed=0)
    train_language(tuned, tokens, recipe, seed=0)
    merged(tuned)                                            # a model as before, its matrices changed
Source: Hu et al. 2021, "LoRA: low-rank adaptation of large language models", arXiv:2106.09685.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lib.models.causal_lm import CausalLM
from lib.rng import generator


class LowRank(nn.Module):
    """A matrix [n_out, n_in] plus `up` [n_out, rank] times `down` [rank, n_in]; up begins at 0."""

    def __init__(self, like: Tensor, rank: int, rng: torch.Generator):
        super().__init__()
        n_out, n_in = like.shape
        if not 1 <= rank <= min(n_out, n_in):
            raise ValueError(f"rank must be 1 to {min(n_out, n_in)} for a matrix of {n_out} x {n_in}, got {rank}")
        self.down = nn.Parameter((torch.randn(rank, n_in, generator=rng) / n_in**0.5).to(like))
        self.up = nn.Parameter(like.new_zeros(n_out, rank))

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix + self.up @ self.down


def low_rank(model: CausalLM, rank: int, seed: int) -> CausalLM:
    """Give every linear layer of the blocks an adapter, in place; only adapters want gradients from here on."""
    rng = generator(seed, "low rank")
    model.requires_grad_(False)
    for layer in _layers(model):
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, rng))
    return model


def merged(model: CausalLM) -> CausalLM:
    """Take adapters into the matrices, in place; nothing wants gradients."""
    for layer in _layers(model):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return model.requires_grad_(False)


def _layers(model: CausalLM) -> list[nn.Linear]:
    return [module for module in model.blocks.modules() if isinstance(module, nn.Linear)]
