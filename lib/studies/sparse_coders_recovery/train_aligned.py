"""What trains toy models of several widths and sparsities, and two coders on each: all seeds in one program.

Weights are small and are what is kept; nothing here measures.
"""
from __future__ import annotations

from itertools import product

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from lib.data.sparse_features import sparse_features
from lib.ensembles import Layout, by_autograd, train_ensemble
from lib.models.published_toy import legacy_toy_data, train_published_toy
from lib.models.toy_training import train_grid
from lib.rng import stream_seed
from lib.studies.sparse_coders_recovery import published_alone
from lib.studies.sparse_coders_recovery.worlds import SLUG, Common, stream
from lib.tensors import as_array, device_named

WIDTHS = ((10, 5, 10), (20, 5, 20), (30, 5, 30), (5, 5, 10), (5, 5, 20), (5, 5, 30))
"""Features, dimensions and latents: those of the source, and one model that has a dimension for every feature, with a
coder of each size."""
RUNS = 2
"""Coders of each model; they differ in initial weights and in the order of samples."""
POOL = 8192
"""Samples of a model that its coders are trained on."""

Weights = dict[str, np.ndarray]


class Grid(Common):
    """Toy models of every width: one per sparsity and seed."""

    seeds: int = Field(ge=1, le=100, description="ground truths per world, each with its own coders")
    align_sparsities: tuple[float, ...] = Field(min_length=2, description="S of the toy models of SP-6 and SP-7")


class Aligned(Grid):
    """Trained until they are good."""

    toy_steps: int = Field(ge=50, le=20000, description="steps that train a toy model (batch 256, cosine)")
    align_steps: int = Field(ge=10, description="steps that train their coders (batch 64)")
    align_l1: tuple[float, ...] = Field(min_length=1, description="weights of their L1 penalty, in units of sqrt(d)")


class Alone(Grid):
    """Trained as published, one sample at a time."""

    alone_samples: int = Field(ge=100, le=10000, description="samples of their batch-1 arm (theirs 10000)")
    alone_passes: int = Field(ge=0, le=10, description="passes over them, 0: not run (theirs 10)")


def aligned(params: Aligned, width: tuple[int, int, int]) -> dict[str, Weights]:
    """Toy models and their coders, one pair of coders per model: at the largest weight that still reconstructs.

    Args:
        width: features n, dimensions m and latents; the models of one n and m are the same for every number of latents.
    Returns:
        toy: W [S, seeds, m, n]; coder: W_enc and W_dec [S, seeds, RUNS, latents, m], b_enc [.., latents],
        b_dec [.., m]; scale [S, seeds], by which the coder's input is multiplied.
    """
    (n, m, latents), device = width, device_named(params.device)
    rng = stream(params, "aligned", n, m, device=device)
    density = 1 - torch.tensor(params.align_sparsities, device=device)
    importance = torch.tensor(0.7 ** (20 / n * np.arange(n)), dtype=torch.float32, device=device)
    W = train_grid(density, importance, m, params.seeds, params.toy_steps, 256, rng).W
    models = W.flatten(0, 1)  # [S seeds, m, n]
    p = density.repeat_interleave(params.seeds)[:, None, None]
    h = torch.stack([sparse_features((POOL, n), float(each), rng) @ own.T for each, own in zip(p, models, strict=True)])
    scale = (m / h.square().sum(2).mean(1)).sqrt()
    weights = [weight * m**0.5 for weight in sorted(params.align_l1)]
    found = _coders(h * scale[:, None, None], latents, weights, params.align_steps, rng)
    shape = (*W.shape[:2], RUNS)
    coder = {name: as_array(value.unflatten(0, shape)) for name, value in found.items()}
    return {"toy": {"W": as_array(W)}, "coder": coder | {"scale": as_array(scale.unflatten(0, shape[:2]))}}


def _coders(x: Tensor, n_latents: int, l1: list[float], steps: int, rng: torch.Generator) -> dict[str, Tensor]:
    """RUNS ReLU coders with an L1 penalty and unit decoder rows for each model, x [models, samples, m].

    Of each, all weights in l1 (rising) are trained; kept is the largest at which fvu is at most 0.05, else the first.
    """
    models, _, m = x.shape
    names = Layout(W_enc=(n_latents, m), b_enc=(n_latents,), W_dec=(n_latents, m), b_dec=(m,))
    twins, device = models * RUNS, x.device
    rows = normalize(torch.randn(twins, n_latents, m, generator=rng, device=device), dim=2)
    start = names.pack(W_enc=rows, b_enc=x.new_zeros(twins, n_latents), W_dec=rows,
                       b_dec=x.mean(1).repeat_interleave(RUNS, 0)).repeat(len(l1), 1)  # [weights models RUNS, P]
    weight, done = torch.tensor(l1, device=device).repeat_interleave(twins), 0

    def terms(theta: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        at = names.views(theta)
        latents = encoded(part, at["W_enc"], at["b_enc"], at["b_dec"])
        recons = latents @ normalize(at["W_dec"], dim=2) + at["b_dec"].unsqueeze(1)
        return (recons - part).square().sum(2).mean(1), latents.sum(2).mean(1)

    def loss(theta: Tensor) -> Tensor:
        nonlocal done
        done += 1
        order = torch.randint(x.shape[1], (RUNS, 64), generator=rng, device=device)
        part = torch.stack([x[:, ids] for ids in order], 1).flatten(0, 1)  # [models RUNS, 64, m]
        error, size = terms(theta, part.repeat(len(l1), 1, 1))
        return error + weight * min(1.0, done / (steps / 5)) * size

    theta = train_ensemble(by_autograd(loss), start, steps, 0.005, "cosine").theta.unflatten(0, (len(l1), twins))
    tried = x[:, :1024].repeat_interleave(RUNS, 0)
    variance = (tried - tried.mean(1, keepdim=True)).square().sum(2).mean(1)
    good = torch.stack([terms(each, tried)[0] <= 0.05 * variance for each in theta])  # [weights, models RUNS]
    place = (good * torch.arange(len(l1), device=device)[:, None]).amax(0)
    at = names.views(theta[place, torch.arange(twins, device=device)])
    return {**at, "W_dec": normalize(at["W_dec"], dim=2)}


def encoded(x: Tensor, W_enc: Tensor, b_enc: Tensor, b_dec: Tensor) -> Tensor:
    """Latents of samples, relu((x - b_dec) W_encᵀ + b_enc), [..., samples, n_latents]."""
    return torch.relu((x - b_dec.unsqueeze(-2)) @ W_enc.mT + b_enc.unsqueeze(-2))


def alone(params: Alone, width: tuple[int, int, int]) -> dict[str, Weights]:
    """As `aligned`, by the published recipe: batch-1 Adam over one data set in its order, coders without constraints.

    Source: Ilube, branch master, simple_comprehensive_experiment.py (lambda .01, rates .01 and .001, 10 epochs each).
    """
    (n, m, latents), device = width, device_named(params.device)
    first = 1000 * params.seed  # root 0 has the source's way of seeding from 0 on
    cells = list(product(params.align_sparsities, range(first, first + params.seeds)))
    data = params.alone_samples, params.alone_passes
    W = train_published_toy(cells, n, m, 0.7 ** np.arange(n), *data, device).W  # [S seeds, m, n]
    x = torch.empty(params.alone_samples, m, len(cells), RUNS, device=device)
    for i, (sparsity, seed) in enumerate(cells):
        features = torch.from_numpy(legacy_toy_data(seed, n, sparsity, params.alone_samples)).to(W)
        x[:, :, i] = (features @ W[i].T).unsqueeze(2)
    starts = [start_of(seed, run) for _, seed in cells for run in range(RUNS)]
    found = published_alone.train_coders(x.flatten(2), starts, latents, params.alone_passes)
    shape = (len(params.align_sparsities), params.seeds)
    coder = {name: as_array(value.unflatten(0, (*shape, RUNS))) for name, value in found.items()}
    return {"toy": {"W": as_array(W.unflatten(0, shape))}, "coder": coder | {"scale": np.ones(shape)}}


def start_of(seed: int, run: int) -> int:
    """Legacy NumPy seed of a coder's initial weights: for run 0 the model's, as published; for others no model's."""
    return seed if run == 0 else stream_seed(seed, SLUG, "another start", run) % 2**32
