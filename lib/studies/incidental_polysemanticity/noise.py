"""Symmetric noise of unit variance whose laws differ in kurtosis, drawn from a given generator on its device."""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def unit_noise(law: str, shape: Sequence[int], rng: torch.Generator) -> Tensor:
    """Independent draws of mean 0 and variance 1, by a law of `_LAWS`, float32 on the generator's device."""
    if law not in _LAWS:
        raise ValueError(f"noise {law!r} is not one of {sorted(_LAWS)}")
    return _LAWS[law](tuple(shape), rng)


def _laplace(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """-sign log(1 - U)/sqrt(2), the sign and U from one draw."""
    u = _unit_interval(shape, rng).mul_(2).sub_(1)  # [-1, 1)
    return u.sign().mul_(torch.log1p(-u.abs().clamp_(max=1 - 2**-24))).div_(-math.sqrt(2))


def _student_3(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """t(3)/sqrt(3) by Bailey's polar form, t = cos(2 pi V) sqrt(3 (U^(-2/3) - 1)).

    Source: Bailey 1994, "Polar generation of random variates with the t-distribution".
    """
    u = _unit_interval(shape, rng).neg_().add_(1)  # (0, 1]
    angle = _unit_interval(shape, rng).mul_(2 * math.pi)
    return angle.cos_().mul_(u.log_().mul_(-2 / 3).expm1_().sqrt_())


def _unit_interval(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng, device=rng.device)  # [0, 1)


_LAWS = {
    "bipolar": lambda shape, rng: _unit_interval(shape, rng).mul_(2).floor_().mul_(2).sub_(1),  # ±1, equally often
    "uniform": lambda shape, rng: _unit_interval(shape, rng).sub_(0.5).mul_(math.sqrt(12)),
    "gaussian": lambda shape, rng: torch.randn(shape, generator=rng, device=rng.device), "laplace": _laplace,
    "positive_kurtosis": _student_3,
}
"""By rising kurtosis E x^4 - 3: -2, -1.2, 0, 3, and that of Student's t with 3 degrees of freedom, which diverges."""
