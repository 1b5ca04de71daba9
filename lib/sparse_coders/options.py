"""Which options each encoder rule has, their defaults, and the errors for what cannot be."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

AUX = {"aux": 1 / 32, "k_aux": None}
"""Weight of the AuxK loss (0 turns it off) and how many dead latents it revives per sample (None: d_out / 2)."""
RULES: dict[str, dict[str, Any]] = {
    "relu": {"l1": 1.0, "l1_norm": "unit"},
    "p_anneal": {"l1": 1.0, "l1_norm": "unit", "p_end": 0.2, "p_start": 0.5},
    "gated": {"l1": 3.0, "l1_norm": "unit"},
    "topk": {"k": 32} | AUX,
    "batch_topk": {"k": 32} | AUX,
    "matryoshka": {"k": 32, "groups": None} | AUX,
    "abs_topk": {"k": 32, "k_min": None} | AUX,
    "jumprelu": {"l0": 1.0, "penalty": "l0", "threshold": 0.1, "bandwidth": 0.1, "tanh_scale": 4.0, "k": None},
    "stochastic": {"l1": 1.0, "p": 1.0, "sampling": "noise", "masked": 0.5},
    "matching_pursuit": {"k": 32},
}
"""The options of every rule with their defaults; `SparseCoder` explains them."""
CHOICES = {
    "l1_norm": ("unit", "decoder"),
    "penalty": ("l0", "tanh", "target_l0"),
    "sampling": ("noise", "bernoulli"),
}


def resolve(rule: str, n_latents: int, d_out: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The complete options of a rule.

    Args:
        given: options by name; None means the default.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is not one of {', '.join(RULES)}")
    defaults = RULES[rule]
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in defaults:
            raise ValueError(f"rule {rule} has no option {name}; it has {', '.join(defaults)}")
    options = defaults | given
    if options.get("k") is None and "k" in defaults and options.get("penalty") == "target_l0":
        options["k"] = 32
    _fill(options, n_latents, d_out)
    _check(rule, options, n_latents)
    if rule == "jumprelu" and options["k"] is not None and options["penalty"] != "target_l0":
        raise ValueError("option k of rule jumprelu is the aim of penalty target_l0; give penalty='target_l0' too")
    return options


def _fill(options: dict[str, Any], n_latents: int, d_out: int) -> None:
    if "k_aux" in options and options["k_aux"] is None:
        options["k_aux"] = max(1, min(d_out // 2, n_latents))
    if "groups" in options:
        if not isinstance(options["groups"], (Sequence, type(None))):
            raise ValueError(f"groups must be rising prefix sizes, as (16, {n_latents}) is, got {options['groups']!r}")
        halves = sorted({n_latents >> shift for shift in range(5)} - {0})
        options["groups"] = halves if options["groups"] is None else list(options["groups"])


def _check(rule: str, options: dict[str, Any], n_latents: int) -> None:
    for name in ("k", "k_aux", "k_min"):
        if options.get(name) is not None:
            _check_count(name, options[name], n_latents)
    if options.get("k_min") is not None and options["k_min"] > options["k"]:
        raise ValueError(f"k_min {options['k_min']} is larger than k {options['k']}")
    for name, accepted in CHOICES.items():
        if name in options and options[name] not in accepted:
            raise ValueError(f"{name} {options[name]!r} is not one of {', '.join(accepted)}")
    for name in ("l1", "l0", "aux", "threshold"):
        _check_number(name, options.get(name, 0.0), least=0.0)
    for name in ("bandwidth", "p_end", "p", "tanh_scale"):
        _check_number(name, options.get(name, 1.0), above=0.0)
    for name in ("p_start", "masked"):
        _check_number(name, options.get(name, 0.0), least=0.0)
        if options.get(name, 0) > 1:
            raise ValueError(f"{name} is a share, 0 to 1, got {options[name]}")
    if "groups" in options:
        _check_groups(options["groups"], n_latents)


def _check_count(name: str, value: Any, n_latents: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if not 1 <= value <= n_latents:
        raise ValueError(f"{name} {value} is outside 1 to n_latents = {n_latents}")


def _check_number(name: str, value: Any, least: float | None = None, above: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if (least is not None and value < least) or (above is not None and value <= above):
        raise ValueError(f"{name} must be {'at least' if above is None else 'above'} 0, got {value}")


def _check_groups(groups: Sequence[int], n_latents: int) -> None:
    rising = all(isinstance(g, int) for g in groups) and list(groups) == sorted(set(groups))
    if not groups or not rising or groups[0] < 1 or groups[-1] != n_latents:
        raise ValueError(f"groups must be rising prefix sizes that end in n_latents = {n_latents}, got {list(groups)}")


def check_sizes(
    d_in: int, n_latents: int, d_out: int | None, context: int, skip: bool, rule: str, dtype: torch.dtype
) -> None:
    """Refuse sizes and combinations that cannot be."""
    sizes = {"d_in": d_in, "n_latents": n_latents, "d_out": 1 if d_out is None else d_out, "context": context + 1}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number of at least {0 if name == 'context' else 1}, got {size!r}")
    if skip and d_out is None:
        raise ValueError("skip on an autoencoder would copy x; give d_out to make a skip-transcoder")
    if rule == "matching_pursuit" and (context or (d_out is not None)):
        raise ValueError("matching_pursuit encodes with its decoder: it takes no context and no d_out")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype}; fit(..., precision='bf16') computes in bf16")
