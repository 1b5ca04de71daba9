"""Patching sets of units at a module's output: how far the class's logit moves, for many sets at once.

    site = open_site(model, "blocks.2", images, labels)      # lib.activations.sites
    values = other_class_means(site)                         # [n_classes, ...], what a class's images are patched with
    patch_effects(site, sets, values, c)                     # E_c(S) of every set S, [n_sets]
"""
from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lib.activations.sites import Site, other_class_means
from lib.metrics.topography import random_sets
from lib.tensors import as_array, finite

RATIOS = {"sufficiency": "random", "matched": "pushed", "purity": "elsewhere"}
"""Columns of `causal_scores` that are effect over another column."""


@torch.no_grad()
def logit_changes(
    site: Site, sets: ArrayLike, value: Tensor, rows: Tensor | None = None, scale: ArrayLike | None = None,
    batch: int = 512,
) -> Tensor:
    """Patched logits less the model's own, for every set and image.

    Unit u of S becomes a_u + g_S (v_u - a_u) at all tokens or places; g_S = 1 replaces it by the value.

    Args:
        sets: ints [n_sets, k].
        value: v, [*acts.shape[1:]]; scale: g, [n_sets].
        rows: images to patch, ints [n], all by default.
        batch: (set, image) pairs at a time.
    Returns:
        [n_sets, n, n_classes].
    """
    masks = _gains(site, sets, scale)  # [n_sets, ...], broadcasting to acts[0]
    if value.shape != site.acts.shape[1:]:
        raise ValueError(f"logit_changes: the value must be {tuple(site.acts.shape[1:])}, got {tuple(value.shape)}")
    rows = torch.arange(len(site.acts), device=site.acts.device) if rows is None else rows
    acts, images, logits = site.acts[rows], site.images[rows], site.logits[rows]
    toward, n, found = value - acts, len(rows), []
    for pairs in torch.arange(len(masks) * n, device=acts.device).split(batch):
        s, i = pairs // n, pairs % n
        found.append(site.tail(acts[i] + masks[s] * toward[i], images[i]) - logits[i])
    return torch.cat(found).reshape(len(masks), n, -1)


def patch_effects(
    site: Site, sets: ArrayLike, values: Tensor, c: int, scale: ArrayLike | None = None, batch: int = 512
) -> np.ndarray:
    """E_c(S), mean |change of logit c| over images of class c with S patched to `other_class_means`; [n_sets].

    Source: TopoSAE, H3.
    """
    changes = logit_changes(site, sets, values[c], _images_of(site, c), scale, batch)[..., c]  # [n_sets, n_c]
    return as_array(changes.abs().mean(1).double())


def patch_effect_matrix(site: Site, sets: ArrayLike, values: Tensor, batch: int = 512) -> np.ndarray:
    """E_c(S) of every set and class, [n_sets, n_classes]."""
    return np.stack([patch_effects(site, sets, values, c, batch=batch) for c in range(site.n_classes)], axis=1)


def push(site: Site, sets: ArrayLike, values: Tensor, c: int) -> np.ndarray:
    """Root mean square of what patching S changes on images of class c, sqrt(mean Σ_{u in S} (v_u - a_u)²); [n_sets].

    The mean is over images and tokens (or places).
    """
    rows = _images_of(site, c)
    squares = (values[c] - site.acts[rows]).double().square().movedim(site.unit_dim, -1)
    per_unit = squares.reshape(-1, site.n_units).mean(0)  # [d]
    return as_array((_masks(site, sets).double() @ per_unit).sqrt())


def contrast(activity: ArrayLike, labels: ArrayLike, n_classes: int) -> np.ndarray:
    """How far a unit's mean on class c lies above its mean on the others, (µ_c - µ_other) / σ; [n_classes, d].

    activity is [n, d], of `unit_activity` on the selection split; σ is the unit's standard deviation over all samples,
    and units without any score 0.
    """
    x, labels = finite(activity, "activity"), np.asarray(as_array(labels))
    counts = np.bincount(labels, minlength=n_classes)
    if len(counts) != n_classes or not counts.all() or n_classes < 2:
        raise ValueError(f"contrast needs samples of each of {n_classes} classes, at least two, got {counts}")
    sums = np.stack([x[labels == c].sum(0) for c in range(n_classes)])  # [n_classes, d]
    own, other = sums / counts[:, None], (sums.sum(0) - sums) / (len(x) - counts)[:, None]
    spread = x.std(0)
    return np.divide(own - other, spread, out=np.zeros_like(own), where=spread > 1e-12 * np.abs(x).max())


def top_sets(scores: ArrayLike, k: int) -> np.ndarray:
    """The k units with the highest score of each row, highest first, ties to the lower index; ints [..., k]."""
    scores = np.asarray(as_array(scores), dtype=float)
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"top_sets: k must be in 1..{scores.shape[-1]}, got {k}")
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def causal_scores(
    site: Site, sets: ArrayLike, n_random: int = 20, *, rng: np.random.Generator, values: Tensor | None = None,
    batch: int = 512,
) -> pd.DataFrame:
    """How much units selected elsewhere carry of their class, per push, and how specifically; one row per class.

    Random units read 1 on average for sufficiency, matched and specificity, and below 0 on logs: the log of a mean
    exceeds the mean of logs. A difference of logs between models does away with that only where their random sets
    spread alike (`random_sd`). Purity has no such null, for classes' logits differ in scale: `purity_random` is what
    random units read, and specificity measures each class in units of them.

    Args:
        site: of the patching split.
        sets: one set per class, ints [n_classes, k], selected on another split.
        n_random: random sets of k units, the same for all classes.
        values: by default `other_class_means(site)`.
    Returns:
        Index class; columns
        effect, E_c(S);
        random and random_sd, mean R_c and spread of E_c over the random sets;
        pushed, mean of E_c over the random sets scaled to S's rms push (g_R = push_S / push_R); without those that
        push nothing, nan where none does;
        elsewhere, mean of E_c'(S) over the other classes;
        purity_random, mean of purity over the random sets;
        sufficiency = effect / random, matched = effect / pushed, purity = effect / elsewhere,
        specificity = (E_c(S) / R_c) / mean_c' (E_c'(S) / R_c') over the other classes, and log_ of the four
        (-inf where S does nothing, nan for 0 / 0).
    """
    sets, values = np.asarray(as_array(sets)), other_class_means(site) if values is None else values
    if sets.ndim != 2 or len(sets) != site.n_classes or n_random < 2 or site.n_classes < 2:
        raise ValueError(f"causal_scores needs one set for each of {site.n_classes} classes (at least two) and at "
                         f"least two random sets, got {sets.shape} and {n_random}")
    controls = random_sets(site.n_units, sets.shape[1], n_random, rng)
    own, null = (patch_effect_matrix(site, each, values, batch) for each in (sets, controls))  # [sets, n_classes]
    classes = range(site.n_classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        table = pd.DataFrame({
            "effect": np.diag(own), "random": null.mean(0), "random_sd": null.std(0, ddof=1),
            "pushed": [_pushed(site, sets[c], controls, values, c, batch).mean() for c in classes],
            "elsewhere": np.diag(_elsewhere(own)), "purity_random": (null / _elsewhere(null)).mean(0),
        })
        scaled = own / null.mean(0)
        found = {name: table.effect / table[below] for name, below in RATIOS.items()}
        found["specificity"] = np.diag(scaled / _elsewhere(scaled))
        logs = {f"log_{name}": np.log(ratio) for name, ratio in found.items()}
    return table.rename_axis("class").assign(**found, **logs)


def _pushed(site: Site, own: np.ndarray, others: np.ndarray, values: Tensor, c: int, batch: int) -> np.ndarray:
    """E_c of other sets scaled to the rms push of `own`; those that push nothing are left out, [nan] if all do."""
    size = push(site, others, values, c)
    heard = size > 0
    if not heard.any():
        return np.array([np.nan])
    return patch_effects(site, others[heard], values, c, push(site, own[None], values, c) / size[heard], batch)


def _elsewhere(matrix: np.ndarray) -> np.ndarray:
    """Mean over the other classes, [sets, n_classes]."""
    n = matrix.shape[1]
    return matrix @ (1 - np.eye(n)) / (n - 1)


def _images_of(site: Site, c: int) -> Tensor:
    rows = torch.nonzero(site.labels == c).ravel()
    if not len(rows):
        raise ValueError(f"there is no image of class {c} to patch")
    return rows


def _masks(site: Site, sets: ArrayLike) -> Tensor:
    """Sets as 0/1 rows, [n_sets, d]."""
    given = torch.as_tensor(np.asarray(as_array(sets)), device=site.acts.device)
    is_ints = given.ndim == 2 and not given.is_floating_point() and given.dtype != torch.bool
    if not is_ints or not ((given >= 0) & (given < site.n_units)).all():
        raise ValueError(f"sets must be ints [n_sets, k] below {site.n_units}, got {given.dtype} {tuple(given.shape)}")
    return torch.zeros(len(given), site.n_units, dtype=site.acts.dtype, device=given.device).scatter_(1, given, 1)


def _gains(site: Site, sets: ArrayLike, scale: ArrayLike | None) -> Tensor:
    """g_S on the units of S and 0 elsewhere, [n_sets, 1.., d, ..1]."""
    masks = _masks(site, sets)
    if scale is not None:
        masks = masks * torch.as_tensor(np.asarray(as_array(scale)), dtype=masks.dtype, device=masks.device)[:, None]
    shape = [len(masks), *(1 for _ in site.acts.shape[1:])]
    shape[site.unit_dim] = site.n_units
    return masks.reshape(shape)
