"""Generated sparse features: independent, correlated or anti-correlated, in any number of batches at once."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def sparse_features(shape: Sequence[int], density: float | Tensor, generator: torch.Generator) -> Tensor:
    """Independent sparse features, x_i = Bernoulli(p_i) · U(0, 1), from one uniform draw each: x = u/p where u < p.

    Given u < p, u/p is uniform on [0, 1), so one draw decides both whether a feature is there and its value.

    Args:
        shape: of the result, [..., n_samples, n_features]; leading dimensions are instances.
        density: p = 1 - S, the probability that a feature is non-zero; a number, or a tensor that broadcasts
            against `shape` ([n_features]: one per feature, [n_instances, 1, 1]: one per instance).
        generator: the source of every draw; its device is the result's.
    Source: Elhage et al. 2022, "Toy Models of Superposition", synthetic data.
    """
    p = _density(density, generator)
    u = torch.rand(*shape, generator=generator, device=generator.device, dtype=p.dtype)
    return torch.where(u < p, u / p, 0)


def correlated_groups(
    shape: Sequence[int], density: float | Tensor, generator: torch.Generator, group_size: int,
    kind: Literal["correlated", "anticorrelated"] = "correlated",
) -> Tensor:
    """Sparse features in groups of neighbours that fire all together, or at most one at a time.

    Every feature is non-zero with probability p and then U(0, 1), as in `sparse_features`; only the joint law of a
    group differs. Correlated: one Bernoulli(p) per group, values independent. Anti-correlated: with t = u/p and one
    u ~ U(0, 1) per group, feature floor(t) of the group is t - floor(t) where t < group_size, all others are 0.

    Args:
        shape: of the result, [..., n_samples, n_features]; features g·group_size to (g+1)·group_size - 1 are group g.
        density: p; a number, or a tensor that broadcasts against [..., n_samples, n_groups, 1]. Anti-correlated groups
            need p · group_size <= 1: beyond that one at a time has no room.
    Source: Elhage et al. 2022, "Correlated and Anticorrelated Features".
    """
    *batch, n_features = shape
    if group_size < 1 or n_features % group_size:
        raise ValueError(f"group_size {group_size} does not divide {n_features} features")
    p = _density(density, generator)
    groups = (*batch, n_features // group_size)  # [..., n_samples, n_groups]
    draw = torch.rand(*groups, 1, generator=generator, device=generator.device, dtype=p.dtype)
    if kind == "correlated":
        value = torch.rand(*groups, group_size, generator=generator, device=generator.device, dtype=p.dtype)
        return torch.where(draw < p, value, 0).reshape(tuple(shape))
    if kind != "anticorrelated":
        raise ValueError(f"kind {kind!r} is not one of correlated, anticorrelated")
    if float(p.max()) * group_size > 1 + 1e-6:
        raise ValueError(f"density {float(p.max()):g} x group_size {group_size} > 1: at most one per group cannot hold")
    t = draw / p  # [..., n_samples, n_groups, 1]
    place = torch.arange(group_size, device=generator.device, dtype=p.dtype)
    return torch.where(t.floor() == place, t - place, 0).reshape(tuple(shape))


def _density(density: float | Tensor, generator: torch.Generator) -> Tensor:
    p = torch.as_tensor(density, dtype=torch.float32, device=generator.device)
    if not bool(((p >= 0) & (p <= 1)).all()):
        raise ValueError(f"density must lie in [0, 1], got {float(p.min()):g} to {float(p.max()):g}")
    return p
