"""One run of everything the superposition_phases chapter shows: parameters and protocol, plain data out.

Every function takes `Params` and, where a chapter may want to change it, its axis; it returns NumPy arrays in a dict
(or a DataFrame with one row per run). R counts restarts or seeds, m = n_hidden, n = n_features, S = P(feature = 0).
"best" means lowest loss over restarts. Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

Arrays = dict[str, np.ndarray]


class Params(BaseModel):
    """Every knob of the study; the values per profile stand in params/superposition_phases."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    profile: str = Field(pattern="^(smoke|quick|full)$", description="which parameter file these values come from")
    seed: int = Field(ge=0, description="root of every random stream of the rigorous parts")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where the ensembles run")
    sparsities: tuple[float, ...] = Field(description="S of the published sweep and its well-trained twin")
    seeds: int = Field(ge=1, le=200, description="models per sparsity, both arms; seeds 0 .. seeds-1")
    published_samples: int = Field(ge=100, le=10000, description="samples of the published data set (theirs 10000)")
    published_epochs: int = Field(ge=1, le=10, description="passes over them (theirs 10)")
    variant_samples: int = Field(ge=100, le=10000, description="the same for the other architectures and importances")
    variant_epochs: int = Field(ge=1, le=10, description="passes in those")
    trained_steps: int = Field(ge=50, le=20000, description="steps of the well-trained twin (batch 128, cosine)")
    restarts: int = Field(ge=1, le=64, description="restarts of the zoo, the plane and the other small models")
    steps: int = Field(ge=50, le=20000, description="steps of each of those")
    batch: int = Field(ge=16, le=8192, description="samples per step in those")
    zoo_sparsities: tuple[float, ...] = Field(description="S of the linear-against-ReLU zoo")
    plane_sparsities: tuple[float, ...] = Field(description="S of the five features drawn in the plane")
    phase_grid: int = Field(ge=4, le=96, description="cells per side of each phase diagram")
    phase_restarts: int = Field(ge=2, le=64, description="restarts per cell")
    phase_steps: int = Field(ge=100, le=10000, description="exact-gradient steps per cell")
    staircase_features: int = Field(ge=8, le=400, description="n of the dimensions-per-feature staircase")
    staircase_hidden: int = Field(ge=2, le=60, description="its m")
    staircase_points: int = Field(ge=3, le=64, description="values of 1/(1-S), spaced evenly in the logarithm")
    staircase_restarts: int = Field(ge=1, le=16, description="models per value")
    staircase_steps: int = Field(ge=100, le=50000, description="steps of each")
    varied_factors: int = Field(ge=3, le=41, description="values of the varied feature's density or importance")
    attack_norm: float = Field(gt=0, le=1, description="L2 norm of the adversarial perturbation")
    attack_inputs: int = Field(ge=16, le=4096, description="inputs attacked per model")
    abs_features: int = Field(ge=5, le=100, description="n of the absolute-value model (the source's 100)")
    abs_hidden: int = Field(ge=5, le=40, description="its m (the source's 40)")
    abs_steps: int = Field(ge=50, le=20000, description="its steps")
    abs_sparsities: tuple[float, ...] = Field(description="its S")


def published_sweep(params: Params, sparsities: tuple[float, ...] | None = None, seeds: range | None = None) -> dict:
    """The published programme as it stands: batch-1 Adam at lr .01, n=20, k=5, I_i = .7^i; model and data seed equal.

    Args:
        sparsities: S values; default params.sparsities (the published single-seed sweeps: (.1,.3,.7), (.82,.85,.87)).
        seeds: legacy NumPy seeds; default range(params.seeds).
    Returns:
        runs: DataFrame, one row per (sparsity, seed), columns sparsity, seed, last_epoch_loss (training, as printed),
            heldout_loss (fresh data), zero_loss (sum(I)(1-S)/3), n_learned (features with |W_i| > .5),
            n_missed (of the k most important, those not learned).
        W [runs, k, n], b [runs, n]; epoch_loss [runs, epochs].
    """
    raise NotImplementedError


def trained_sweep(params: Params, sparsities: tuple[float, ...] | None = None, seeds: range | None = None) -> dict:
    """The same model trained well: fresh batches of 128, cosine lr, params.trained_steps; returns as `published_sweep`.

    `last_epoch_loss` is absent and `epoch_loss` is replaced by steps [T] and loss [T, runs].
    """
    raise NotImplementedError


def published_architectures(params: Params, architectures: tuple[tuple[int, int], ...] | None = None) -> dict:
    """The published n-k-n list ((10,5), (20,5), (30,5), ... (8,3)) at every params.sparsities, one seed, their training.

    Returns:
        runs: DataFrame as in `published_sweep` plus n_features, n_hidden; weights: dict (n, k) -> W [S, k, n].
    """
    raise NotImplementedError


def published_importances(params: Params, patterns: tuple[str, ...] | None = None) -> dict:
    """The published importance patterns (see lib.models.toy_superposition.IMPORTANCES), n=20, k=5, one seed, theirs.

    Returns:
        runs: DataFrame as in `published_sweep` plus pattern; W [patterns, S, k, n]; importance [patterns, n].
    """
    raise NotImplementedError


def zoo(params: Params, sparsities: tuple[float, ...] | None = None) -> Arrays:
    """Part 1: linear and ReLU output, n=20, m=5, I_i = .7^i, best of restarts per sparsity.

    Returns:
        sparsity [S]; W [2, S, m, n] and b [2, S, n], first axis (linear, relu); loss [2, S, R], normalised by the zero
        predictor; norm, D, interference [2, S, n].
    """
    raise NotImplementedError


def plane(params: Params, sparsities: tuple[float, ...] | None = None, n_features: int = 5, n_hidden: int = 2) -> Arrays:
    """Part 2 (and the interactive figure, with n_hidden 2 or 3): a few features drawn in their hidden space, I_i = .9^i.

    Returns:
        sparsity [S]; W [S, m, n], b [S, n] of the best restart; loss [S, R], normalised; D [S, n].
        Each W is rotated so that feature 0 lies on the first axis.
    """
    raise NotImplementedError


def phase_diagram(params: Params, n_features: int = 2, n_hidden: int = 1) -> Arrays:
    """Part 3: importance x density grid (G x G), exact expected loss, params.phase_restarts per cell; n,m = 2,1 or 3,2.

    Returns:
        density [G] in [.01, 1]; importance [G] of the last ("extra") feature in [.1, 10], the others 1;
        all below are [density, importance, ...]: loss [G, G, R]; W [G, G, m, n] best; norm [G, G, n] of it;
        phase [G, G] measured and theory [G, G], both indices into lib.metrics.superposition_theory.PHASES;
        theory_loss [G, G, phases]; agreeing [G, G], the share of restarts that end within 2 % of the best loss.
    """
    raise NotImplementedError


def staircase(params: Params, inverse_densities: np.ndarray | None = None) -> dict:
    """Part 4: many equal features, dimensions per feature against 1/(1-S).

    Returns:
        inverse_density [A] = 1/(1-S), default log-spaced in [1, 100]; W [A, R, m, n], b [A, R, n]; loss [A, R];
        dstar [A, R] = m/|W|_F^2; D [A, R, n];
        components: DataFrame, one row per connected component: inverse_density, restart, component, n_vertices, rank,
            dimensionality (mean D), polytope (name), features (tuple of indices).
    """
    raise NotImplementedError


def varied_feature(params: Params, what: str = "density", factors: np.ndarray | None = None) -> Arrays:
    """Part 5: n=5, m=2, one feature's density or importance multiplied by a factor, from both known minima.

    Each factor is trained from the pentagon and from two antipodal pairs that leave the varied feature out.

    Returns:
        factor [F]; start names ["pentagon", "pairs"]; W [F, 2, m, n], b [F, 2, n], loss [F, 2] (exact, over the zero
        predictor's); n_represented [F, 2] features with |W_i| > .5, so that a start that left its basin shows.
    """
    raise NotImplementedError


def correlated_pairs(params: Params, densities: np.ndarray | None = None) -> Arrays:
    """Part 6: two pairs of features (n=4, m=2) that are independent, active together, or never active together.

    Returns:
        density [A] of a feature; kind ["independent", "correlated", "anticorrelated"]; W [3, A, R, m, n]; loss [3, A, R],
        over the zero predictor's; cosine_within [3, A, R] mean cosine of the two features of a pair, cosine_between
        [3, A, R] mean |cosine| across pairs; collapsed [3, A, R] share of pairs drawn on one direction (cosine > .9).
    """
    raise NotImplementedError


def dynamics(params: Params) -> Arrays:
    """Part 7: one learning curve per restart with D_i at every logged step, n=5, m=2, equal importance, S=.95... .

    Returns:
        step [T]; loss [T, R], over the zero predictor's; D [T, R, n]; W [T, R, m, n].
    """
    raise NotImplementedError


def adversarial(params: Params, stairs: dict) -> Arrays:
    """Part 8: how much the loss rises under the strongest found L2 attack, for the models of `staircase`.

    Args:
        stairs: what `staircase` returned.
    Returns:
        inverse_dstar [A, R] = |W|_F^2/m; attacked, clean [A, R] mean squared error; vulnerability [A, R] = mean rise,
        over the rise of the model at the first inverse density.
    """
    raise NotImplementedError


def privileged_basis(params: Params, sparsities: tuple[float, ...] | None = None) -> Arrays:
    """Part 9: h = ReLU(Wx), x' = ReLU(W^T h + b), n=10, m=5, I_i = .75^i, beside the same model without ReLU on h.

    Returns:
        sparsity [S]; W [2, S, m, n], first axis (linear hidden, ReLU hidden), best of restarts; loss [2, S, R] over zero;
        concentration [2, S] mean over represented features of max_unit W^2 / sum W^2 (1 = one unit per feature).
    """
    raise NotImplementedError


def absolute_value(params: Params, sparsities: tuple[float, ...] | None = None) -> Arrays:
    """Part 10: y = |x| computed in superposition, x in U[-1,1], h = ReLU(W1 x), y' = ReLU(W2 h + b), I_i = .8^i.

    Returns:
        sparsity [S]; W1 [S, m, n], W2 [S, n, m], b [S, n]; loss [S] and loss_feature [S, n], over the zero predictor's;
        n_computed [S, m] features a unit serves (|W1 W2| > 10 % of its largest); asymmetry [S, m] = spread (max - min)
        of log(|W1|/|W2|) over them, 0 where one only: > 0 means strong in and weak out for one, weak in strong out
        for another; inhibition [S, m] = -(most negative W2)/(largest W2) of the unit.
    """
    raise NotImplementedError
