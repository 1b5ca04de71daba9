"""What a latent is worth to the loss: by its gradient, by taking it away, and by the source's scores.

loss maps latents [n_tokens, n_latents] to a number, as that of the model whose activations they reconstruct.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import spearmanr
from torch import Tensor

from lib.metrics.nulls import null_distribution
from lib.tensors import as_array, finite, matrix

Loss = Callable[[Tensor], Tensor]


def gradient_times_activation(loss: Loss, latents: Tensor) -> np.ndarray:
    """First-order estimate of how much the loss rises without a latent, -Σ_t f_tj ∂L/∂f_tj; [n_latents].

    Source: Shrikumar et al. 2017, "Learning important features through propagating activation differences".
    """
    f = latents.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(f), f)
    return as_array(-(f * gradient).sum(0, dtype=torch.float64))


@torch.no_grad()
def ablation_effects(loss: Loss, latents: Tensor, which: Iterable[int] | None = None) -> np.ndarray:
    """How much the loss rises when a latent is 0 on every token, the others as they are; one evaluation each.

    Args:
        which: latents to ablate; None: all.
    Returns:
        [number of `which`].
    """
    base, effects = float(loss(latents)), []
    for latent in range(latents.shape[1]) if which is None else which:
        without = latents.clone()
        without[:, latent] = 0
        effects.append(float(loss(without)) - base)
    return np.array(effects)


def agreement(scores: ArrayLike, effects: ArrayLike) -> float:
    """Rank correlation over latents of a score with the ablation effect."""
    return float(spearmanr(finite(scores, "scores"), finite(effects, "effects")).statistic)


def agreement_null(scores: ArrayLike, effects: ArrayLike, n: int, rng: np.random.Generator) -> np.ndarray:
    """`agreement` with the scores permuted over latents, [n]."""
    scores = finite(scores, "scores")
    return null_distribution(lambda own: agreement(own, effects), lambda r: r.permutation(scores), n, rng)


def published_scores(W_enc: ArrayLike, latents: ArrayLike) -> dict[str, np.ndarray]:
    """The source's three scores, [n_latents] each: none asks what a latent does to the model.

    importance: mean |entry| of the encoder's row; sensitivity: mean |f| on one batch; specificity: their product.
    """
    importance, sensitivity = np.abs(matrix(W_enc, "W_enc")).mean(1), np.abs(matrix(latents, "latents")).mean(0)
    return {"importance": importance, "sensitivity": sensitivity, "specificity": importance * sensitivity}
