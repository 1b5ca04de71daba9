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
from lib.press.runs import reuse
from lib.rng import numpy_generator
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry
from lib.studies.incidental_polysemanticity.groups import Autoencoders, Draws, Penalised, Positive, Seeds, Several
from lib.studies.incidental_polysemanticity.leaky_sae import autoencoded, initial, sae_layout, scaled
from lib.studies.incidental_polysemanticity.network import PUBLISHED, Cell, trained
from lib.studies.incidental_polysemanticity.report import judged, matched_cosine, table, z_scored

INITS, NOISES = ("random", "orthogonal"), ("none", "bipolar", "positive_kurtosis")
REGS, ACTS = ("L1", "L2"), ("relu", "gelu")


class Swept(Penalised):
    """The penalties at which every network is trained."""

    l1_penalties: Several = Field(description="weights of L1 swept; equal validation error needs two or more")
    l2_penalties: Several = Field(description="weights of L2 swept; equal validation error needs two or more")

    def sweep(self, cell: Cell) -> list[Cell]:
        """A cell at every penalty of its regularisation."""
        levels = self.l1_penalties if cell.reg == "L1" else self.l2_penalties
        return [replace(cell, penalty=level) for level in levels]


class Factorial(Swept):
    """What the factorial takes."""

    seeds: Seeds


class Ends(Factorial):
    """What combinations 1 and 8 take."""

    pair_seeds: int = Field(ge=2, le=1000, description="seeds of combinations 1 and 8, compared with each other")


class Nothing(Penalised):
    """What the readings of nothing take."""

    seeds: Seeds
    null_draws: Draws


class Strengths(Autoencoders):
    """What the sweep of the autoencoders' penalty takes."""

    seeds: Seeds
    sae_penalties: Several = Field(description="rising penalties for dead latents and for fidelity at matched l0")


class Widths(Penalised):
    """What the networks of other widths take."""

    null_draws: Draws
    widths: tuple[Annotated[int, Field(ge=2, le=64)], ...] = Field(
        min_length=1, description="hidden units; IP-7 needs 8, 9 and another")
    width_seeds: int = Field(ge=2, description="networks per width")


class Clipping(Penalised):
    """What the clipped networks take."""

    seeds: Seeds
    clips: tuple[Positive, ...] = Field(description="largest gradient norms; IP-7 needs the source's 1")


def factorial(params: Factorial) -> dict:
    """The full factorial init x noise x reg x act, each cell at every penalty of its regularisation.

    runs: DataFrame, one row per (cell, seed): init, noise, reg, act, penalty, seed, train_mse, val_mse, what `judged`
    measures.
    """
    cells = [cell for levels in product(INITS, NOISES, REGS, ACTS) for cell in params.sweep(Cell(*levels))]
    return {"runs": _runs(params, cells, params.first(params.seeds))}


def ends(params: Ends) -> dict:
    """Combinations 1 and 8, which differ in all four factors, at every penalty on seeds of their own number.

    runs: DataFrame as `factorial` has it, whose seeds are not trained again.
    """
    ends, chosen = [PUBLISHED[0], PUBLISHED[7]], params.first(params.pair_seeds)
    there = reuse(factorial, params)["runs"].merge(pd.DataFrame(ends)[["init", "noise", "reg", "act"]])
    more = range(params.first(params.seeds).stop, chosen.stop)
    cells = [cell for end in ends for cell in params.sweep(end)]
    frames = [there[there.seed.isin(chosen)], *([_runs(params, cells, more)] if more else [])]
    return {"runs": pd.concat(frames, ignore_index=True)}


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

    runs: DataFrame, one row per (slope, bias, penalty, seed) as `judged` has it, variant (slope and bias in words), and
    dead_before: share of latents that never exceed 0 before training.
    """
    seeds, frames = params.first(params.seeds), []
    network = trained(params, [PUBLISHED[7]], seeds)
    for slope, bias, penalty in product((0.01, 0.0), (0.1, 0.0), params.sae_penalties):
        sae = autoencoded(params, [PUBLISHED[7]], seeds, penalty, slope=slope, bias=bias)
        before = sae._replace(**sae_layout(12).views(initial(12, seeds, bias).to(sae.W_dec)))
        found = judged(sae, network) | {"dead_before": judged(before, network)["dead"]}
        variant = f"{'leaky' if slope else 'ReLU'}, bias {'> 0' if bias else 0}"
        rows = table([PUBLISHED[7]], seeds, found)
        frames.append(rows.assign(variant=variant, slope=slope, bias=bias, sae_penalty=penalty))
    return {"runs": pd.concat(frames, ignore_index=True)}


def widths(params: Widths) -> dict:
    """Combination 8 with other numbers of hidden units, 16 latents each; beside it random directions of the same width.

    Returns:
        runs: DataFrame, one row per (width, seed): val_mse and what `judged` measures.
        null: interference of random directions, [widths, draws].
    """
    rng, frames, null = numpy_generator(params.seed, "random directions of each width"), [], []
    for width in sorted(set(params.widths)):
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
    own = {"train_mse": network.train_mse.flatten(), "val_mse": network.val_mse.flatten()}
    return table(cells, seeds, own | judged(sae, network))
