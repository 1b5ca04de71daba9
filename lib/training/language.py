"""`train_language`: training of causal language models on windows of tokens, with the recipe and loop of `train`."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.checkpoints import content_digest
from lib.schedules import EpochOrder
from lib.tensors import device_named, own_session
from lib.training.recipe import Recipe
from lib.training.steps import History, ModelTraining
from lib.training.trainer import Running


@own_session()
def train_language(model: nn.Module, tokens: np.ndarray, recipe: Recipe, seed: int, **options: Any) -> History:
    """Train a model in place to predict every next token of windows, mean cross-entropy in nats.

    Args:
        model: tokens [B, T] -> logits [B, T, vocabulary]; moved to the device.
        tokens: ints [n, T], as `lib.data.text.windows` gives them.
        recipe: how; it counts windows where it says images, and its `augment` and `image_size` do not apply.
        seed: of the order of windows and of dropout.
        options: of `lib.training.trainer.Running`, checkpoint among them.
    """
    running, where = Running(**options), device_named(options.get("device", "auto"))
    if recipe.augment or recipe.image_size:
        raise ValueError("tokens are not augmented: leave augment and image_size out of the recipe")
    if tokens.ndim != 2 or tokens.shape[1] < 2 or tokens.dtype.kind not in "iu":
        raise ValueError(f"tokens must be whole numbers [n, T], T at least 2, got {tokens.dtype} {list(tokens.shape)}")
    recipe.steps_per_epoch(len(tokens))
    model.to(where)
    training = ModelTraining(_Flat(model), TokenBatches(tokens, recipe, seed, where))
    return training.run(recipe.total_steps(len(tokens)), running)


class TokenBatches:
    """`batches[step]` -> (tokens [b, T - 1], the ones after them [b (T - 1)]), on the device."""

    def __init__(self, tokens: np.ndarray, recipe: Recipe, seed: int, device: torch.device):
        self.recipe, self.seed = recipe, seed
        self.labels = torch.as_tensor(tokens).long().to(device)
        self.order = EpochOrder(len(tokens), recipe.batch, seed, "order", device)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rows = self.labels[self.order[step]]
        return rows[:, :-1], rows[:, 1:].flatten()

    def digest(self) -> str:
        """SHA-256 of the tokens."""
        return content_digest(self.labels)


class _Flat(nn.Module):
    """Logits of all positions as a batch of their own, [B T, vocabulary], as `ModelTraining` takes them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens).flatten(0, 1)
