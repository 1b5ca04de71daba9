"""How far a decomposition lies from a known answer; how parts are used where none is known.

Where the features are known, a one-hot input of each shows which components it needs.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lib.spd.decomposition import Capture, Decomposition


class Recovery(NamedTuple):
    """How a layer's components match the columns of its weight.

    Attributes:
        mmcs: mean over features of the largest |cosine| with a component's part for that feature.
        ml2r: mean over features of the length of a component's part over the feature's, of the component that adds most
            along the feature (a dead one can have the largest cosine by chance).
        whole: mean over features of the largest |cosine| between a whole component and the feature's part of the
            weight, which a component that serves a second feature cannot have.
    """

    mmcs: float
    ml2r: float
    whole: float


def recovery(V: Tensor, U: Tensor, W: Tensor) -> Recovery:
    """Match components u_c v_cᵀ with the columns W_i of a weight [d_out, d_in], one feature per input.

    The part of component c for feature i is V_ic u_c. With few outputs many components have a large cosine by chance:
    in two dimensions the best of 20 random ones reads about .99, so compare with `random_recovery` and `whole`.

    Args:
        V: [d_in, C]; U: [C, d_out]; W: [d_out, d_in]. For a layer that writes features, pass its transpose:
            recovery(U.T, V.T, W.T).
    Source: Bushnaq, Braun and Sharkey 2025, section 3.1 (MMCS, ML2R).
    """
    if V.shape[1] != U.shape[0] or W.shape != (U.shape[1], V.shape[0]):
        raise ValueError(f"recovery: V {tuple(V.shape)} and U {tuple(U.shape)} do not make W {tuple(W.shape)}")
    V, U, W = (t.detach().cpu().double() for t in (V, U, W))
    length = W.norm(dim=0)  # [d_in]
    if not bool((length > 0).all()):
        raise ValueError("recovery: a column of W is zero, so no component can match it")
    tiny = torch.finfo(torch.float64).tiny
    directions = U / U.norm(dim=1, keepdim=True).clamp_min(tiny)  # [C, d_out]
    cosine = (directions @ (W / length)).abs().T  # [d_in, C]
    parts = V.abs() * U.norm(dim=1)  # lengths of V_ic u_c, [d_in, C]
    most = (cosine * parts).argmax(1, keepdim=True)
    whole = cosine * V.abs() / V.norm(dim=0).clamp_min(tiny)  # [d_in, C]
    ratio = parts.gather(1, most)[:, 0] / length
    return Recovery(float(cosine.max(1).values.mean()), float(ratio.mean()), float(whole.max(1).values.mean()))


def random_recovery(C: int, W: Tensor, rng: torch.Generator) -> Recovery:
    """The null: `recovery` of C components with normal V and U."""
    V, U = (torch.randn(shape, generator=rng, device=rng.device) for shape in ((W.shape[1], C), (C, W.shape[0])))
    return recovery(V, U, W)


def one_hot_importance(dec: Decomposition, n_features: int, value: float = 0.75) -> dict[str, np.ndarray]:
    """Causal importances on one input per feature, `value` times the identity, [n_features, C] by site.

    Positions other than samples are averaged over.
    """
    first = next(iter(dec.sites.values())).weight
    found = dec.causal_importance(value * torch.eye(n_features, dtype=first.dtype, device=first.device))
    return {name: g.reshape(n_features, -1, g.shape[-1]).mean(1).cpu().numpy() for name, g in found.items()}


def permutation(importance: np.ndarray) -> np.ndarray:
    """Order of components that brings importance [n_features, C] closest to the identity; the unmatched come last."""
    n, C = importance.shape
    if C < n:
        raise ValueError(f"{C} components cannot be matched with {n} features one to one")
    _, matched = linear_sum_assignment(-importance)
    return np.concatenate([matched, np.setdiff1d(np.arange(C), matched)])


def identity_error(importance: np.ndarray, tolerance: float = 0.1) -> int:
    """Entries off the best one-to-one match: below 1 - tolerance on its diagonal, above tolerance anywhere else.

    Args:
        importance: on one-hot inputs, [n_features, C].
    Returns:
        0 where every feature needs exactly one component, its own.
    Source: the identity error of the method's reference implementation.
    """
    ordered = importance[:, permutation(importance)]
    diagonal = np.eye(*ordered.shape, dtype=bool)
    return int((ordered[diagonal] < 1 - tolerance).sum() + (ordered[~diagonal] > tolerance).sum())


class Use(NamedTuple):
    """What the components of one site are like on some inputs.

    Attributes:
        l0: mean number of components of importance above tau; alive: components above it on more than `least` of the
            positions; leftover: |Δ| / |W|, inf where W is 0.
        size: sum_c |v_c| |u_c|, the same however a component's sign and length are shared out; at least the sum of the
            singular values of Ŵ.
        breadth: inputs a direction reads, mean over components of (sum_i r_i^2)^2 / sum_i r_i^4 with r_i = v_i sd(x_i);
            NaN where no input varies.
    """

    l0: float
    alive: int
    leftover: float
    size: float
    breadth: float


@torch.no_grad()
def use(dec: Decomposition, capture: Capture, tau: float = 0.1, least: float = 1e-3) -> dict[str, Use]:
    """`Use` of every linear site on the inputs that were captured."""
    found = {}
    for name, gates in dec.gates(capture).items():
        active, (V, U, _), x = gates.flatten(0, -2) > tau, dec.parts[name], capture.inputs[name].flatten(0, -2)
        reads = (V * x.std(0)[:, None]).square()  # [d_in, C]
        breadth = reads.sum(0).square() / reads.square().sum(0)
        found[name] = Use(
            float(active.sum(1).float().mean()), int((active.float().mean(0) > least).sum()),
            float(dec.delta(name).norm() / dec.sites[name].weight.norm()), float((V.norm(dim=0) * U.norm(dim=1)).sum()),
            float(breadth.nanmean()))
    return found
