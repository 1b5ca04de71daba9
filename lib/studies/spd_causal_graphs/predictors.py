"""What weights alone say about a causal effect, in four nested steps: raw path, orientation, activation, gating.

The raw path U1_i·V2_j has no sign of its own: (V_i, U_i) and (-V_i, -U_i) are the same component. Orientation gives it
one, by asking that a component be positive where it matters; every later step is free of that choice.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lib.studies.spd_causal_graphs.effects import Pairs

STEPS = ("raw path", "oriented path", "path x activation", "gate-aware path")
"""From what weights say to what they say once activations and the ReLU are known."""


def orientation(activations: Tensor, importances: Tensor, tau: float = 0.1) -> Tensor:
    """The sign s_c that makes the mean of s_c a_c over {ci_c > tau} positive; +1 where a component never matters.

    Args:
        activations: a, [n, C]; importances: ci, [n, C].
    Returns:
        ±1, [C].
    """
    total = (activations * (importances > tau)).sum(0)
    return torch.where(total < 0, -1.0, 1.0).to(activations.dtype)


@torch.no_grad()
def predictions(pairs: Pairs, ci1: Tensor, tau: float = 0.1) -> dict[str, np.ndarray]:
    """Four predictors of the mean effect E_ij over {x: on_j(x)}, each knowing what the one before knows and more.

        raw path            P_ij = U1_i·V2_j
        oriented path       s_i P_ij E_j|a_i|,     s_i = sign E[a_i | ci_i > tau]
        path x activation   P_ij E_j[a_i]
        gate-aware path     E_j[a_i sum_h 1(pre_h > 0) U1_ih V2_hj]

    Args:
        ci1: causal importances of layer 1, [n, C1].
        tau: importance from which a component counts as active.
    Returns:
        step -> [I, J].
    """
    net, x, on, inputs, outputs = pairs
    a, U1, V2 = (x @ net.V1)[:, inputs], net.U1[inputs], net.V2[:, outputs]
    weights = on.to(x.dtype) / on.sum(0)  # [n, J]
    path = U1 @ V2  # [I, J]
    sign = orientation(a, ci1[:, inputs], tau)
    gates = (net.pre(x) > 0).to(x.dtype)  # [n, d_hidden]
    aware = [(a.T @ (weights[:, j, None] * gates) * U1) @ V2[:, j] for j in range(len(outputs))]
    steps = path, sign[:, None] * path * (a.abs().T @ weights), path * (a.T @ weights), torch.stack(aware, dim=1)
    return {name: value.cpu().numpy() for name, value in zip(STEPS, steps, strict=True)}


def flips(predicted: np.ndarray, effects: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """Whether the predicted sign differs from the effect's, of each kept edge, bool [edges].

    Args:
        predicted, effects: [I, J]; keep: bool, [I, J], all edges by default.
    """
    keep = np.isfinite(effects) if keep is None else keep & np.isfinite(effects)
    if not keep.any():
        raise ValueError("flips: no edge is kept, so no sign can differ")
    return (np.sign(predicted) != np.sign(effects))[keep]


@torch.no_grad()
def random_gauge_flips(
    pairs: Pairs, effects: np.ndarray, keep: np.ndarray, draws: int, rng: torch.Generator
) -> np.ndarray:
    """The null of wrong signs: their share among kept raw paths when every (V, U) has a random sign, [draws].

    Args:
        effects: [I, J]; keep: bool, [I, J].
    """
    path = pairs.net.U1[pairs.inputs] @ pairs.net.V2[:, pairs.outputs]
    signs = [2 * torch.randint(0, 2, (len(path), 1), generator=rng, device=rng.device) - 1 for _ in range(draws)]
    return np.array([flips((sign * path).cpu().numpy(), effects, keep).mean() for sign in signs])
