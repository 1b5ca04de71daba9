"""How units and inputs are used: attacks on trained models, privileged bases, circuits that compute |x|."""
from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from lib.models import motifs, robustness
from lib.models import toy_superposition as toy
from lib.press.runs import reuse
from lib.studies.superposition_phases.common import Arrays, Root, Sparsities, arrays, stream, tensor
from lib.studies.superposition_phases.tables import best, stacked
from lib.studies.superposition_phases.train_grids import absolute, trained
from lib.tensors import as_array


class Attack(Root):
    """What the attacks take."""

    attack_norm: float = Field(gt=0, le=2, description="L2 norm of the adversarial perturbation")
    attack_inputs: int = Field(ge=16, le=4096, description="inputs attacked per model")


class Basis(Root):
    """What the privileged bases take."""

    basis_sparsities: Sparsities = Field(description="S of the privileged-basis model")
    basis_restarts: int = Field(ge=1, le=1024, description="its restarts: it has many poor minima")
    basis_steps: int = Field(ge=50, le=20000, description="its steps, with batches of 128")


class Absolute(Root):
    """What the absolute-value models take."""

    abs_features: int = Field(ge=5, le=100, description="n of the absolute-value model (the source's 100)")
    abs_hidden: int = Field(ge=5, le=40, description="its m (the source's 40)")
    abs_steps: int = Field(ge=50, le=20000, description="its steps")
    abs_batch: int = Field(ge=16, le=8192, description="its samples per step")
    abs_sparsities: Sparsities = Field(description="its S")


def adversarial(params: Attack, stairs: dict) -> Arrays:
    """Part 8: how much the error rises under the strongest L2 attack found, for models that `staircase` returned.

    Returns:
        inverse_dstar [A, R] = |W|_F^2/m; clean, attacked [A, R], squared error summed over features, mean over inputs;
        vulnerability [A, R], the rise over the mean rise of the models at the first (densest) inverse density.
    """
    W, b, inverse_density = (tensor(params, stairs[name]) for name in ("W", "b", "inverse_density"))
    size = params.attack_norm, params.attack_inputs
    clean, attacked = robustness.attacked_losses(W, b, 1 / inverse_density, *size, stream(params, "attack"))
    rise = attacked - clean
    found = arrays(clean=clean, attacked=attacked, vulnerability=rise / rise[0].mean())
    return found | {"inverse_dstar": 1 / stairs["dstar"]}


def privileged_basis(params: Basis, sparsities: Sparsities | None = None) -> Arrays:
    """Part 9: h = ReLU(Wx), x' = ReLU(W^T h + b), n=10, m=5, I_i = .75^i, beside the same model without ReLU on h.

    Returns:
        sparsity [S]; the rest with first axis (linear hidden, ReLU hidden): W [2, S, m, n], b [2, S, n] best of
        restarts; loss [2, S, R], over zero; norm, D, interference [2, S, n]; largest_unit_share [2, S], mean over
        represented features of max_unit W^2 / sum W^2 (1 = one unit per feature).
    """
    axis = sparsities or params.basis_sparsities
    size = 5, params.basis_restarts, params.basis_steps, 128
    given = 1 - np.array(axis), 0.75 ** np.arange(10), size
    grids = [trained(params, f"basis {kind}", *given, kind=kind, lr=0.03) for kind in ("relu", "privileged")]
    found = stacked([best(grid) for grid in grids], axis)
    return found | {"largest_unit_share": as_array(motifs.largest_unit_share(torch.from_numpy(found["W"])))}


def absolute_value(params: Absolute, sparsities: Sparsities | None = None) -> Arrays:
    """Part 10: y = |x| computed in superposition, x in U[-1, 1], h = ReLU(W1 x), y' = ReLU(W2 h + b), I_i = .8^i.

    Returns:
        sparsity [S]; W1 [S, m, n], W2 [S, n, m], b [S, n]; loss [S] and feature_loss [S, n], held out, over zero;
        served [S, m], features a unit serves (|W1 W2| > 10 % of the model's largest); asymmetry [S, m] of each unit
        (lib.models.motifs).
    """
    axis = sparsities or params.abs_sparsities
    given, size = (1 - np.array(axis), 0.8 ** np.arange(params.abs_features)), (params.abs_hidden, params.abs_steps)
    found = reuse(absolute, params, *given, (*size, params.abs_batch))
    at = {name: tensor(params, values) for name, values in found.items()}
    error, (density, importance) = at.pop("error"), (tensor(params, values) for values in given)
    loss = toy.normalised_loss((error * importance).sum(1), importance, density[:, None])
    served = motifs.served_features(at["W1"], at["W2"]).sum(-1)
    asymmetry = motifs.circuit_asymmetry(at["W1"], at["W2"])
    found = arrays(**at, asymmetry=asymmetry, served=served, loss=loss, feature_loss=3 * error / density[:, None])
    return found | {"sparsity": np.array(axis)}
