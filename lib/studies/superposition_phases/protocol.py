"""One run of everything the superposition_phases chapter shows: parameters and protocol, plain data out.

Every function takes `Params` and, where a chapter may want to change it, its axis; it returns NumPy arrays in a dict
(or a DataFrame with one row per run). R counts restarts or seeds, m = n_hidden, n = n_features, S = P(feature = 0).
"best" is the restart of lowest final loss; "over zero" means divided by the zero predictor's loss.
Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from itertools import product
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor

from lib.metrics import superposition as metric
from lib.metrics import superposition_theory as theory
from lib.metrics.polytopes import polytopes
from lib.models import motifs, robustness
from lib.models import published_toy as published
from lib.models import toy_superposition as toy
from lib.models.toy_exact import follow_minima, learning_curves, phase_grid
from lib.models.toy_training import PAIRS, Grid, describe, pair_law, train_absolute, train_grid
from lib.params import Params as Base
from lib.rng import generator
from lib.tensors import device_named

Arrays = dict[str, np.ndarray]
Sparsity = Annotated[float, Field(ge=0, lt=1)]
Sparsities = Annotated[tuple[Sparsity, ...], Field(min_length=1)]


class Params(Base):
    """Every knob of the study; the values per profile stand in params/superposition_phases."""

    profile: str = Field(pattern="^(smoke|quick|full)$", description="which parameter file these values come from")
    seed: int = Field(ge=0, description="root of every random stream of the rigorous parts")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where the ensembles run")
    sparsities: Sparsities = Field(description="S of the published sweep and its well-trained twin")
    seeds: int = Field(ge=2, le=200, description="models per sparsity, both arms; seeds 0 .. seeds-1")
    published_samples: int = Field(ge=100, le=10000, description="samples of the published data set (theirs 10000)")
    published_epochs: int = Field(ge=1, le=10, description="passes over them (theirs 10)")
    variant_samples: int = Field(ge=100, le=10000, description="samples for the other architectures and importances")
    variant_epochs: int = Field(ge=1, le=10, description="passes in those")
    trained_steps: int = Field(ge=50, le=20000, description="steps of the well-trained twin (batch 128, cosine)")
    restarts: int = Field(ge=1, le=64, description="restarts of the zoo, the plane and the other small models")
    steps: int = Field(ge=50, le=20000, description="steps of each of those")
    batch: int = Field(ge=16, le=8192, description="samples per step in those")
    zoo_sparsities: Sparsities = Field(description="S of the linear-against-ReLU zoo")
    plane_sparsities: Sparsities = Field(description="S of the five features drawn in the plane")
    phase_grid: int = Field(ge=4, le=96, description="cells per side of each phase diagram")
    phase_restarts: int = Field(ge=2, le=64, description="restarts per cell")
    phase_steps: int = Field(ge=100, le=10000, description="exact-gradient steps per cell")
    staircase_features: int = Field(ge=8, le=400, description="n of the dimensions-per-feature staircase")
    staircase_hidden: int = Field(ge=2, le=60, description="its m")
    staircase_points: int = Field(ge=3, le=64, description="values of 1/(1-S), evenly spaced in the logarithm")
    staircase_restarts: int = Field(ge=1, le=16, description="models per value")
    staircase_steps: int = Field(ge=100, le=50000, description="steps of each")
    varied_factors: int = Field(ge=3, le=41, description="values of the varied feature's density or importance")
    basis_sparsities: Sparsities = Field(description="S of the privileged-basis model")
    basis_restarts: int = Field(ge=1, le=1024, description="its restarts: it has many poor minima")
    basis_steps: int = Field(ge=50, le=20000, description="its steps, with batches of 128")
    attack_norm: float = Field(gt=0, le=2, description="L2 norm of the adversarial perturbation")
    attack_inputs: int = Field(ge=16, le=4096, description="inputs attacked per model")
    abs_features: int = Field(ge=5, le=100, description="n of the absolute-value model (the source's 100)")
    abs_hidden: int = Field(ge=5, le=40, description="its m (the source's 40)")
    abs_steps: int = Field(ge=50, le=20000, description="its steps")
    abs_batch: int = Field(ge=16, le=8192, description="its samples per step")
    abs_sparsities: Sparsities = Field(description="its S")


    @field_validator("sparsities")
    @classmethod
    def _holds_what_the_claims_compare(cls, value: Sparsities) -> Sparsities:
        groups = ((0.8,), (0.85,), (0.9,), (0.1, 0.3, 0.7))
        if any(not set(group) & set(value) for group in groups):
            raise ValueError("the claims need S = 0.8, 0.85, 0.9 and one of 0.1, 0.3, 0.7 among the sparsities")
        return value


def published_sweep(params: Params, sparsities: Sparsities | None = None, seeds: range | None = None) -> dict:
    """The published programme as it stands: batch-1 Adam at lr .01, n=20, k=5, I_i = .7^i; model and data seed equal.

    Args:
        sparsities: default params.sparsities (the published single-seed sweeps are (.1, .3, .7) and (.82, .85, .87)).
        seeds: legacy NumPy seeds, default range(params.seeds).
    Returns:
        runs: DataFrame, one row per (sparsity, seed) in that order, columns sparsity, seed, last_epoch_loss (training,
            as printed), heldout_loss (fresh data), zero_loss (sum(I)(1-S)/3), n_learned (features with |W_i| > .5),
            n_missed (of the k most important, those not learned).
        W [runs, k, n], b [runs, n]; importance [n]; epoch_loss [runs, epochs].
    """
    cells = list(product(sparsities or params.sparsities, seeds or range(params.seeds)))
    return _published(params, cells, 5, 0.7 ** np.arange(20), params.published_samples, params.published_epochs)


def trained_sweep(params: Params, sparsities: Sparsities | None = None, seeds: range | None = None) -> dict:
    """The same model trained well: usual initial scale, fresh batches of 128, cosine lr from .01.

    Args: as `published_sweep`; a seed only names a restart here.
    Returns:
        as `published_sweep`, but for last_epoch_loss and epoch_loss: step [T] and minibatch loss [runs, T] instead.
    """
    axis, seeds, importance = sparsities or params.sparsities, seeds or range(params.seeds), 0.7 ** np.arange(20)
    log_at = np.unique(np.geomspace(1, params.trained_steps, 40).astype(int)).tolist()
    density, weights = _tensor(params, 1 - np.array(axis)), _tensor(params, importance)
    size = 5, len(seeds), params.trained_steps, 128
    grid = train_grid(density, weights, *size, _rng(params, "trained"), log_at=log_at)
    found = _described(params, list(product(axis, seeds)), grid.W.flatten(0, 1), grid.b.flatten(0, 1), importance)
    return found | {"step": np.array(grid.steps), "loss": _numpy(grid.history.flatten(1).T)}


def published_architectures(params: Params, architectures: tuple = published.ARCHITECTURES) -> dict:
    """The published n-k-n models at every params.sparsities, seed 0, their training shortened to params.variant_*.

    Returns:
        runs: DataFrame as in `published_sweep` plus n_features, n_hidden; weights: "n-k-n" -> W [S, k, n].
    """
    cells, frames, weights = [(sparsity, 0) for sparsity in params.sparsities], [], {}
    for n, k in architectures:
        found = _published(params, cells, k, 0.7 ** np.arange(n), params.variant_samples, params.variant_epochs)
        frames.append(found["runs"].assign(n_features=n, n_hidden=k))
        weights[f"{n}-{k}-{n}"] = found["W"]
    return {"runs": pd.concat(frames, ignore_index=True), "weights": weights}


def published_importances(params: Params, patterns: tuple[str, ...] = published.IMPORTANCES) -> dict:
    """The published importance patterns, n=20, k=5, seed 0, their training shortened to params.variant_*.

    Returns:
        runs: DataFrame as in `published_sweep` plus pattern; W [patterns, S, k, n]; importance [patterns, n].
    """
    cells = [(sparsity, 0) for sparsity in params.sparsities]
    importance = np.stack([published.importance(pattern, 20) for pattern in patterns])
    rows = importance.repeat(len(cells), axis=0)
    found = _published(params, cells * len(patterns), 5, rows, params.variant_samples, params.variant_epochs)
    runs = found["runs"].assign(pattern=np.repeat(patterns, len(cells)))
    return {"runs": runs, "W": found["W"].reshape(len(patterns), -1, 5, 20), "importance": importance}


def zoo(params: Params, sparsities: Sparsities | None = None) -> Arrays:
    """Part 1: linear and ReLU output, n=20, m=5, I_i = .7^i, best of restarts per sparsity.

    Returns:
        sparsity [S]; W [2, S, m, n] and b [2, S, n], first axis (linear, relu); loss [2, S, R], over zero;
        norm, D, interference [2, S, n].
    """
    axis, importance = sparsities or params.zoo_sparsities, 0.7 ** np.arange(20)
    return _stacked([_best(_grid(params, "zoo", axis, importance, 5, kind)) for kind in ("linear", "relu")], axis)


def plane(params: Params, sparsities: Sparsities | None = None, n_features: int = 5, n_hidden: int = 2) -> Arrays:
    """Part 2, and the interactive figure with n_hidden 2 or 3: features drawn in hidden space, I_i = .9^i.

    Returns:
        sparsity [S]; W [S, m, n] and b [S, n] of the best restart, turned so that feature 0 lies on the first axis and
        feature 1 in the plane of the first two; loss [S, R], over zero; norm, D, interference [S, n].
    """
    axis, importance = sparsities or params.plane_sparsities, 0.9 ** np.arange(n_features)
    found = _best(_grid(params, f"plane {n_features} {n_hidden}", axis, importance, n_hidden))
    return found | {"sparsity": np.array(axis), "W": _numpy(toy.aligned(torch.from_numpy(found["W"])))}


def phase_diagram(params: Params, n_features: int = 2) -> Arrays:
    """Part 3: density x importance by exact expected loss, n features in n - 1 dimensions, n = 2 or 3.

    Returns:
        density [G] in [.01, 1]; importance [G] in [.1, 10], that of the last ("extra") feature, the others 1.
        The rest is [density, importance, ...]: loss [G, G, R]; W [G, G, m, n] best; norm [G, G, n] of it;
        phase [G, G] measured and theory [G, G], indices into lib.metrics.superposition_theory.PHASES;
        theory_loss [G, G, 3]; agreeing [G, G], share of restarts within 2 % of the cell's best loss.
    """
    density, extra = np.logspace(-2, 0, params.phase_grid), np.logspace(-1, 1, params.phase_grid)
    size = n_features, params.phase_restarts, params.phase_steps
    grid = phase_grid(_tensor(params, density), _tensor(params, extra), *size, _rng(params, f"phase {n_features}"))
    at = extra[None, :], density[:, None], n_features
    solved = {"phase": theory.measured_phase(_numpy(grid.W)), "theory": theory.predicted_phase(*at)}
    solved |= {"density": density, "importance": extra, "theory_loss": theory.phase_losses(*at)}
    return solved | _arrays(**grid._asdict(), norm=metric.feature_norms(grid.W))


def staircase(params: Params, inverse_densities: np.ndarray | None = None) -> dict:
    """Part 4: many equal features, dimensions per feature against 1/(1-S).

    Args:
        inverse_densities: 1/(1-S), default params.staircase_points of them in [1, 100].
    Returns:
        inverse_density [A]; W [A, R, m, n], b [A, R, n]; loss [A, R], over zero; dstar [A, R] = m/|W|_F^2;
        D [A, R, n]; components: DataFrame, one row per group of features that share dimensions, columns
        inverse_density, restart, name (of the polytope), count, rank, members (tuple), dimensionality (mean D_i).
    """
    axis = np.logspace(0, 2, params.staircase_points) if inverse_densities is None else np.asarray(inverse_densities)
    importance = torch.ones(params.staircase_features, device=device_named(params.device))
    size = params.staircase_hidden, params.staircase_restarts, params.staircase_steps, params.batch
    grid = train_grid(_tensor(params, 1 / axis), importance, *size, _rng(params, "staircase"))
    groups = [
        {"inverse_density": axis[a], "restart": r, **group._asdict()}
        for a, r in np.ndindex(*grid.loss.shape)
        for group in polytopes(grid.W[a, r])
    ]
    D, dstar = metric.feature_dimensionality(grid.W), metric.dimensions_per_feature(grid.W)
    found = _arrays(W=grid.W, b=grid.b, loss=grid.loss, dstar=dstar, D=D)
    return found | {"inverse_density": axis, "components": pd.DataFrame(groups)}


def varied_feature(params: Params, what: str = "density", factors: np.ndarray | None = None) -> Arrays:
    """Part 5: n=5, m=2, S=.9, feature 0's density or importance times a factor; the exact loss of both known minima.

    Args:
        what: "density" or "importance".
        factors: default params.varied_factors of them in [.15, 2.5].
    Returns:
        factor [F]; W [F, 2, m, n], b [F, 2, n] and loss [F, 2] (exact, over zero), second axis (pentagon, pairs);
        n_represented [F, 2], features with |W_i| > .5, so that a start that left its minimum shows (5 and 4).
    Raises:
        ValueError: `what` is neither.
    """
    if what not in ("density", "importance"):
        raise ValueError(f"what must be density or importance, got {what!r}")
    axis = np.geomspace(0.15, 2.5, params.varied_factors) if factors is None else np.asarray(factors)
    p = torch.full((len(axis), 5), 0.1, device=device_named(params.device))
    importance = torch.ones_like(p)
    (p if what == "density" else importance)[:, 0] *= _tensor(params, axis)
    W, b, loss = follow_minima(p, importance, params.steps)
    return {"factor": axis} | _arrays(W=W, b=b, loss=loss, n_represented=metric.n_represented(W))


def correlated_pairs(params: Params, densities: np.ndarray | None = None) -> Arrays:
    """Part 6: two pairs of features (n=4, m=2) that are independent, active together, or never active together.

    Args:
        densities: p of each feature, at most 1/2; default five in [.02, .5].
    Returns:
        density [A]; kind [3], `PAIRS`; the rest is [3, A, R, ...]: W [3, A, R, m, n], b [3, A, R, n]; loss [3, A, R],
        over zero; cosine_within, mean cosine of the two features of a pair; cosine_between, lowest cosine across
        pairs (both [3, A, R]). Features (0, 1) and (2, 3) are the pairs.
    """
    axis = np.geomspace(0.02, 0.5, 5) if densities is None else np.asarray(densities)
    importance = torch.ones(4, device=device_named(params.device))
    grids = []
    for kind in PAIRS:
        size = 2, params.restarts, params.steps, params.batch
        grids.append(train_grid(_tensor(params, axis), importance, *size, _rng(params, kind), law=pair_law(kind)))
    W, b, loss = (torch.stack(parts) for parts in zip(*(grid[:3] for grid in grids), strict=True))
    cosine = metric.gram(metric.unit_columns(W))
    within, between = (cosine[..., 0, 1] + cosine[..., 2, 3]) / 2, cosine[..., :2, 2:].amin((-2, -1))
    found = _arrays(W=W, b=b, loss=loss, cosine_within=within, cosine_between=between)
    return found | {"density": axis, "kind": np.array(PAIRS)}


def dynamics(params: Params) -> Arrays:
    """Part 7: loss and D_i along training, n=5, m=2, equal importance, S=.95, exact expected loss, small start.

    Returns:
        step [T]; loss [T, R], over zero; D [T, R, n]; W [T, R, m, n]; each taken after `step` updates.
    """
    steps, W, loss = learning_curves(params.restarts, params.steps, _rng(params, "dynamics"))
    return {"step": np.array(steps)} | _arrays(loss=loss, D=metric.feature_dimensionality(W), W=W)


def adversarial(params: Params, stairs: dict) -> Arrays:
    """Part 8: how much the error rises under the strongest L2 attack found, for models that `staircase` returned.

    Returns:
        inverse_dstar [A, R] = |W|_F^2/m; clean, attacked [A, R], squared error summed over features, mean over inputs;
        vulnerability [A, R], the rise over the mean rise of the models at the first (densest) inverse density.
    """
    W, b, inverse_density = (_tensor(params, stairs[name]) for name in ("W", "b", "inverse_density"))
    size = params.attack_norm, params.attack_inputs
    clean, attacked = robustness.attacked_losses(W, b, 1 / inverse_density, *size, _rng(params, "attack"))
    rise = attacked - clean
    found = _arrays(clean=clean, attacked=attacked, vulnerability=rise / rise[0].mean())
    return found | {"inverse_dstar": 1 / stairs["dstar"]}


def privileged_basis(params: Params, sparsities: Sparsities | None = None) -> Arrays:
    """Part 9: h = ReLU(Wx), x' = ReLU(W^T h + b), n=10, m=5, I_i = .75^i, beside the same model without ReLU on h.

    Returns:
        sparsity [S]; the rest with first axis (linear hidden, ReLU hidden): W [2, S, m, n], b [2, S, n] best of
        restarts; loss [2, S, R], over zero; norm, D, interference [2, S, n]; largest_unit_share [2, S], mean over
        represented features of max_unit W^2 / sum W^2 (1 = one unit per feature).
    """
    axis = sparsities or params.basis_sparsities
    density, importance = _tensor(params, 1 - np.array(axis)), _tensor(params, 0.75 ** np.arange(10))
    size = 5, params.basis_restarts, params.basis_steps, 128
    kinds = "relu", "privileged"
    grids = [train_grid(density, importance, *size, _rng(params, f"basis {kind}"), kind, lr=0.03) for kind in kinds]
    found = _stacked([_best(grid) for grid in grids], axis)
    return found | {"largest_unit_share": _numpy(motifs.largest_unit_share(torch.from_numpy(found["W"])))}


def absolute_value(params: Params, sparsities: Sparsities | None = None) -> Arrays:
    """Part 10: y = |x| computed in superposition, x in U[-1, 1], h = ReLU(W1 x), y' = ReLU(W2 h + b), I_i = .8^i.

    Returns:
        sparsity [S]; W1 [S, m, n], W2 [S, n, m], b [S, n]; loss [S] and feature_loss [S, n], held out, over zero;
        served [S, m], features a unit serves (|W1 W2| > 10 % of the model's largest); asymmetry [S, m] of each unit
        (lib.models.motifs).
    """
    axis = sparsities or params.abs_sparsities
    density, importance = _tensor(params, 1 - np.array(axis)), _tensor(params, 0.8 ** np.arange(params.abs_features))
    size = params.abs_hidden, params.abs_steps, params.abs_batch
    at, error = train_absolute(density, importance, *size, _rng(params, "abs"))
    loss = metric.normalised_loss((error * importance).sum(1), importance, density[:, None])
    served = motifs.served_features(at["W1"], at["W2"]).sum(-1)
    asymmetry = motifs.circuit_asymmetry(at["W1"], at["W2"])
    found = _arrays(**at, asymmetry=asymmetry, served=served, loss=loss, feature_loss=3 * error / density[:, None])
    return found | {"sparsity": np.array(axis)}


def _published(params: Params, cells: list, k: int, importance: np.ndarray, samples: int, epochs: int) -> dict:
    """Train (sparsity, seed) cells as published; importance is [n] or one row per cell."""
    device = device_named(params.device)
    done = published.train_published_toy(cells, importance.shape[-1], k, importance, samples, epochs, device)
    found = _described(params, cells, done.W, done.b, importance)
    found["runs"].insert(2, "last_epoch_loss", _numpy(done.epoch_loss[-1]))
    return found | {"epoch_loss": _numpy(done.epoch_loss.T)}


def _described(params: Params, cells: list, W: Tensor, b: Tensor, importance: np.ndarray) -> dict:
    """The runs table and weights of either arm."""
    density = _tensor(params, np.array([1 - sparsity for sparsity, _ in cells]))
    columns = describe(W, b, density, _tensor(params, importance).expand(len(cells), -1), _rng(params, "heldout"))
    runs = pd.DataFrame(cells, columns=["sparsity", "seed"]).assign(**_arrays(**columns))
    return {"runs": runs, "W": _numpy(W), "b": _numpy(b), "importance": importance}


def _grid(params: Params, label: str, axis: Sparsities, importance: np.ndarray, m: int, kind: str = "relu") -> Grid:
    density, weights = _tensor(params, 1 - np.array(axis)), _tensor(params, importance)
    size = m, params.restarts, params.steps, params.batch
    return train_grid(density, weights, *size, _rng(params, f"{label} {kind}"), kind)


def _best(grid: Grid) -> Arrays:
    W, b = grid.best()
    D, interference = metric.feature_dimensionality(W), metric.interference(W)
    return _arrays(W=W, b=b, loss=grid.loss, norm=metric.feature_norms(W), D=D, interference=interference)


def _stacked(parts: list[Arrays], axis: Sparsities) -> Arrays:
    return {"sparsity": np.array(axis)} | {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _tensor(params: Params, array: np.ndarray) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32).to(device_named(params.device))


def _rng(params: Params, label: str) -> torch.Generator:
    return generator(params.seed, "superposition_phases", label, device=device_named(params.device))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _arrays(**tensors: Tensor) -> Arrays:
    return {name: _numpy(tensor) for name, tensor in tensors.items()}
