"""Networks and their rigorous autoencoders: factorial, readings of nothing, penalties, widths and clipping.

Results are DataFrames with one row per trained network and autoencoder. The rigorous autoencoder sees activations
scaled to E|a|^2 = d, pays its penalty per sample and keeps decoder rows at unit length; `judged` measures what it is
judged by on held-out samples.
"""
from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from lib.metrics import recovery
from lib.rng import generator, numpy_generator
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry
from lib.studies.incidental_polysemanticity.groups import Autoencoders, Draws, Networks, Pair, Penalised, Seeds
from lib.studies.incidental_polysemanticity.leaky_sae import LeakySAE, initial, sae_layout, train_sae
from lib.studies.incidental_polysemanticity.network import PUBLISHED, Cell, Trained, train
from lib.studies.incidental_polysemanticity.report import judged, matched_cosine, scaled, table, z_scored
from lib.studies.incidental_polysemanticity.units import polysemantic_units
from lib.tensors import device_named

INITS, NOISES, ACTS = ("random", "orthogonal"), ("none", "bipolar", "positive_kurtosis"), ("relu", "gelu")


class Factorial(Penalised):
    """What the factorial takes."""

    seeds: Seeds
    l1_penalties: Pair = Field(description="weights of L1 swept, the published 1e-4 among them")
    l2_penalties: Pair = Field(description="weights of L2 swept, the published 1e-4 among them")


class Nothing(Penalised):
    """What the readings of nothing take."""

    seeds: Seeds
    null_draws: Draws


class Strengths(Autoencoders):
    """What the sweep of the autoencoders' penalty takes."""

    seeds: Seeds
    sae_penalties: Pair = Field(description="rising penalties for dead latents and for fidelity at matched l0")


class Widths(Penalised):
    """What the networks of other widths take."""

    null_draws: Draws
    widths: tuple[Annotated[int, Field(ge=2, le=64)], ...] = Field(min_length=4, description="hidden units")
    width_seeds: int = Field(ge=2, description="networks per width")


class Clipping(Penalised):
    """What the clipped networks take."""

    seeds: Seeds
    clip: float = Field(gt=0, description="largest gradient norm of the clipped networks")


class Judged(Factorial, Nothing, Strengths, Widths, Clipping):
    """What the stages of this file take together."""


def factorial(params: Factorial) -> dict:
    """The full factorial init x noise x reg x act, each cell at every penalty of its regularisation.

    Returns:
        runs: DataFrame, one row per (cell, seed): init, noise, reg, act, penalty, seed, train_mse, val_mse and what
            `judged` measures, and polysemantic: share of first-layer units with two weights or more in [.8, 1.2].
    """
    sweeps = {"L1": params.l1_penalties, "L2": params.l2_penalties}
    factors = product(INITS, NOISES, sweeps.items(), ACTS)
    cells = [Cell(init, noise, reg, act, level) for init, noise, (reg, levels), act in factors for level in levels]
    return {"runs": _runs(params, cells, params.first(params.seeds))}


def nothing(params: Nothing) -> dict:
    """What the metrics read where there is nothing: random directions, untrained networks, shuffled activations.

    Returns:
        interference, macs: of 16 random directions in R^12, [draws].
        untrained, shuffled: DataFrames as `factorial` has them. Shuffled: each unit's activations in an order of their
            own, which keeps every unit and no relation between them; judged on the true activations.
        recovery: mean matched cosine of 16 random directions with the features of a trained network, [draws].
    """
    seeds, rng = params.first(params.seeds), numpy_generator(params.seed, "random directions")
    random = {
        name: geometry.random_direction_null(metric, params.null_draws, rng=rng)
        for name, metric in (("interference", geometry.weighted_overlap), ("macs", geometry.macs))
    }
    cells, blank = [PUBLISHED[0], PUBLISHED[7]], [Cell(init, act=act) for init, act in product(INITS, ACTS)]
    network = _train(params, cells, seeds)
    acts = scaled(network.acts)
    order = torch.rand(acts.shape, generator=generator(params.seed, "shuffle")).argsort(2).to(acts.device)
    sae = _autoencoders(params, acts.gather(2, order), seeds, params.sae_penalty)
    dictionary = geometry.feature_directions(network.features, acts)[0, 0].cpu().numpy()
    draws = recovery.random_dictionary_null(dictionary, 16, rng, params.null_draws, matched_cosine)
    shuffled, untrained = table(cells, seeds, judged(sae, network, acts)), _runs(params, blank, seeds, steps=0)
    return random | {"untrained": untrained, "recovery": draws, "shuffled": shuffled}


def strengths(params: Strengths) -> dict:
    """Autoencoders of combination 8 at every sae_penalty: leaky or ReLU, biases started at U(0, .1) or at 0.

    Returns:
        runs: DataFrame, one row per (slope, bias, penalty, seed) as `judged` has it, and dead_before: share of latents
            that never exceed 0 before training.
    """
    seeds, frames = params.first(params.seeds), []
    network = _train(params, [PUBLISHED[7]], seeds)
    acts = scaled(network.acts)
    for slope, bias, penalty in product((0.01, 0.0), (0.1, 0.0), params.sae_penalties):
        sae = _autoencoders(params, acts, seeds, penalty, slope, bias)
        before = LeakySAE(**sae_layout(12).views(initial(12, seeds, bias).to(acts)), slope=slope, loss=sae.loss)
        found = judged(sae, network, acts) | {"dead_before": judged(before, network, acts)["dead"]}
        frames.append(table([PUBLISHED[7]], seeds, found).assign(slope=slope, bias=bias, sae_penalty=penalty))
    return {"runs": pd.concat(frames, ignore_index=True)}


def widths(params: Widths) -> dict:
    """Combination 8 with other numbers of hidden units, 16 latents each; beside it random directions of the same width.

    Returns:
        runs: DataFrame, one row per (width, seed): val_mse and what `judged` measures.
        null: interference of random directions, [widths, draws].
    """
    rng, frames, null = numpy_generator(params.seed, "random directions of each width"), [], []
    for width in params.widths:
        runs = _runs(params, [replace(PUBLISHED[7], hidden_dim=width)], params.first(params.width_seeds))
        frames.append(runs.assign(width=width))
        null.append(geometry.random_direction_null(geometry.weighted_overlap, params.null_draws, width, rng=rng))
    return {"runs": pd.concat(frames, ignore_index=True), "null": np.stack(null)}


def clipping(params: Clipping) -> dict:
    """The four published combinations with heavy-tailed noise, gradients clipped and not, otherwise the same draws.

    Returns:
        runs: DataFrame, one row per (clipped, cell, seed): val_mse, what `judged` measures, and sae_mse, the error on
            z-scored activations, which the source reports.
    """
    seeds, frames = params.first(params.seeds), []
    heavy = [cell for cell in PUBLISHED if cell.noise == "positive_kurtosis"]
    for clip in (None, params.clip):
        network = _train(params, [replace(cell, clip=clip) for cell in heavy], seeds)
        acts = scaled(network.acts)
        sae, z = _autoencoders(params, acts, seeds, params.sae_penalty), z_scored(network.acts.flatten(0, 1))
        found = judged(sae, network, acts) | {"val_mse": network.val_mse.flatten()}
        found["sae_mse"] = (sae.decode(sae.encode(z)) - z).square().mean((1, 2))
        frames.append(table(heavy, seeds, found).assign(clipped=clip is not None))
    return {"runs": pd.concat(frames, ignore_index=True)}


def _runs(params: Penalised, cells: list[Cell], seeds: range, steps: int | None = None) -> pd.DataFrame:
    network = _train(params, cells, seeds, steps)
    acts = scaled(network.acts)
    units = polysemantic_units(network.weights["W0"].mT).flatten()  # a row per feature, a column per unit
    own = {"train_mse": network.train_mse.flatten(), "val_mse": network.val_mse.flatten()}
    own["polysemantic"] = units / cells[0].hidden_dim
    return table(cells, seeds, own | judged(_autoencoders(params, acts, seeds, params.sae_penalty), network, acts))


def _train(params: Networks, cells: list[Cell], seeds: range, steps: int | None = None) -> Trained:
    return train(cells, seeds, params.steps if steps is None else steps, device_named(params.device), params.lr)


def _autoencoders(
    params: Autoencoders, acts: Tensor, seeds: range, penalty: float, slope: float = 0.01, bias: float = 0.1
) -> LeakySAE:
    """One rigorous autoencoder per network, acts [C, S, n, d]; equal seeds start alike."""
    start, own = initial(acts.shape[-1], list(seeds) * len(acts), bias), {"per": "sample", "unit_decoder": True}
    return train_sae(acts.flatten(0, 1), start, params.sae_steps, "none", penalty, slope=slope, lr=params.sae_lr, **own)
