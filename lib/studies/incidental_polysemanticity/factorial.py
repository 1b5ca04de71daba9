"""Networks and their rigorous autoencoders: factorial, readings of nothing, penalties, widths and clipping.

Results are DataFrames with one row per network and autoencoder, both kept by what trains them; `judged` measures
what an autoencoder is judged by on held-out samples.
"""
from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from lib.metrics import recovery
from lib.rng import numpy_generator
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry
from lib.studies.incidental_polysemanticity.groups import Autoencoders, Draws, Pair, Penalised, Positive, Seeds
from lib.studies.incidental_polysemanticity.leaky_sae import autoencoded, initial, sae_layout, scaled
from lib.studies.incidental_polysemanticity.network import PUBLISHED, Cell, trained
from lib.studies.incidental_polysemanticity.report import judged, matched_cosine, table, z_scored
from lib.studies.incidental_polysemanticity.units import polysemantic_units

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
    clips: tuple[Positive, ...] = Field(description="largest gradient norms, the source's 1 among them")


def factorial(params: Factorial) -> dict:
    """The full factorial init x noise x reg x act, each cell at every penalty of its regularisation.

    runs: DataFrame, one row per (cell, seed): init, noise, reg, act, penalty, seed, train_mse, val_mse, what `judged`
    measures, and polysemantic: share of first-layer units with two weights or more in [.8, 1.2].
    """
    sweeps = {"L1": params.l1_penalties, "L2": params.l2_penalties}
    factors = product(INITS, NOISES, sweeps.items(), ACTS)
    cells = [Cell(init, noise, reg, act, level) for init, noise, (reg, levels), act in factors for level in levels]
    return {"runs": _runs(params, cells, params.first(params.seeds))}


def nothing(params: Nothing) -> dict:
    """What the metrics read where there is nothing: random directions, untrained networks, shuffled activations.

    Returns:
        interference, macs: of 16 random directions in R^12, [draws].
        untrained, shuffled: DataFrames as `factorial` has them; shuffled is judged on the true activations.
        recovery: mean matched cosine of 16 random directions with the features of a trained network, [draws].
    """
    seeds, rng = params.first(params.seeds), numpy_generator(params.seed, "random directions")
    metrics = {"interference": geometry.weighted_overlap, "macs": geometry.macs}
    random = {name: geometry.random_direction_null(metrics[name], params.null_draws, rng=rng) for name in metrics}
    cells, blank = [PUBLISHED[0], PUBLISHED[7]], [Cell(init, act=act) for init, act in product(INITS, ACTS)]
    network = trained(params, cells, seeds)
    sae = autoencoded(params, cells, seeds, params.sae_penalty, of="shuffled")
    dictionary = geometry.feature_directions(network.features, scaled(network.acts))[0, 0].cpu().numpy()
    draws = recovery.random_dictionary_null(dictionary, 16, rng, params.null_draws, matched_cosine)
    shuffled, untrained = table(cells, seeds, judged(sae, network)), _runs(params, blank, seeds, untrained=True)
    return random | {"untrained": untrained, "recovery": draws, "shuffled": shuffled}


def strengths(params: Strengths) -> dict:
    """Autoencoders of combination 8 at every sae_penalty: leaky or ReLU, biases started at U(0, .1) or at 0.

    runs: DataFrame, one row per (slope, bias, penalty, seed) as `judged` has it, and dead_before: share of latents that
    never exceed 0 before training.
    """
    seeds, frames = params.first(params.seeds), []
    network = trained(params, [PUBLISHED[7]], seeds)
    for slope, bias, penalty in product((0.01, 0.0), (0.1, 0.0), params.sae_penalties):
        sae = autoencoded(params, [PUBLISHED[7]], seeds, penalty, slope=slope, bias=bias)
        before = sae._replace(**sae_layout(12).views(initial(12, seeds, bias).to(sae.W_dec)))
        found = judged(sae, network) | {"dead_before": judged(before, network)["dead"]}
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
    """The four published combinations with heavy-tailed noise, gradients clipped and not, otherwise alike.

    runs: DataFrame, one row per (clip, cell, seed), clip inf for none: val_mse, what `judged` measures, and sae_mse,
    the error on z-scored activations, which the source reports.
    """
    seeds, frames = params.first(params.seeds), []
    heavy = [cell for cell in PUBLISHED if cell.noise == "positive_kurtosis"]
    for clip in (None, *params.clips):
        cells = [replace(cell, clip=clip) for cell in heavy]
        network, sae = trained(params, cells, seeds), autoencoded(params, cells, seeds, params.sae_penalty)
        z = z_scored(network.acts.flatten(0, 1))
        found = judged(sae, network) | {"val_mse": network.val_mse.flatten()}
        found["sae_mse"] = (sae.decode(sae.encode(z)) - z).square().mean((1, 2))
        frames.append(table(heavy, seeds, found).assign(clip=clip or np.inf))
    return {"runs": pd.concat(frames, ignore_index=True)}


def _runs(params: Penalised, cells: list[Cell], seeds: range, untrained: bool = False) -> pd.DataFrame:
    network = trained(params, cells, seeds, untrained)
    sae = autoencoded(params, cells, seeds, params.sae_penalty, of="untrained" if untrained else "trained")
    units = polysemantic_units(network.weights["W0"].mT).flatten()  # a row per feature, a column per unit
    own = {"train_mse": network.train_mse.flatten(), "val_mse": network.val_mse.flatten()}
    own["polysemantic"] = units / cells[0].hidden_dim
    return table(cells, seeds, own | judged(sae, network))
