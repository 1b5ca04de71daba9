"""What measures coders of toy models at many sparsities: are their latents like the features, and like a twin's."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from lib.data.sparse_features import sparse_features
from lib.metrics.recovery import match_features, mmcs, recovery_at
from lib.press.runs import reuse
from lib.sparse_coders.report import likeness
from lib.studies.sparse_coders_recovery.train_aligned import RUNS, WIDTHS, Aligned, Alone, aligned, alone, encoded
from lib.studies.sparse_coders_recovery.worlds import Common, stream

SIMILARITIES = ("cka", "procrustes", "rsa", "recovery")
"""What SP-6 is judged by."""
SAMPLES = 300
"""Held-out samples that similarities are read on."""
DRAWS = 4
"""Random dictionaries per model, in pairs."""


def alignment(params: Aligned) -> dict[str, Any]:
    """Every model and its coders, trained until they are good.

    Returns:
        rows: DataFrame, one row per width, sparsity and seed: n_features, n_hidden, n_latents, sparsity, seed,
            n_stored; cka, procrustes, rsa of the stored features and the latents, recovery@.9, agreement (MMCS, both
            ways, of the decoder rows of two coders that ever fire; nan where one has none), fvu, alive (latents that
            fire); copy_* of the hidden layer and its reconstruction; null_* of all: random dictionaries of its size.
    """
    return _over_widths(params, aligned)


def alignment_alone(params: Alone) -> dict[str, Any]:
    """As `alignment`, by the published recipe."""
    return _over_widths(params, alone)


def _over_widths(params: Common, train: Any) -> dict[str, Any]:
    frames = []
    for width in WIDTHS:
        rng = stream(params, "alignment", *width)
        rows = [_row(model, rng) for model in _models(reuse(train, params, width), params.align_sparsities, rng)]
        size = dict(zip(("n_features", "n_hidden", "n_latents"), width, strict=True))
        frames.append(pd.DataFrame(rows).assign(**size))
    return {"rows": pd.concat(frames, ignore_index=True)}


class _Model(NamedTuple):
    label: dict[str, Any]
    dictionary: Tensor
    """Unit directions of the stored features, [n_stored, m]."""
    features: Tensor
    """The stored ones, [SAMPLES, n_stored]."""
    h: Tensor
    """The hidden layer, scaled, [SAMPLES, m]."""
    coders: list[dict[str, Tensor]]


def _models(found: dict, sparsities: tuple[float, ...], rng: torch.Generator) -> Iterator[_Model]:
    W = torch.from_numpy(found["toy"]["W"])
    for s, sparsity in enumerate(sparsities):
        for seed in range(W.shape[1]):
            own, scale = W[s, seed], float(found["coder"]["scale"][s, seed])
            x = sparse_features((SAMPLES, own.shape[1]), 1 - sparsity, rng)
            stored = (own.norm(dim=0) > 0.5).nonzero()[:, 0]  # none, where training was too short
            dictionary = normalize(own.T[stored], dim=1)
            weights = [{name: torch.from_numpy(value[s, seed, run]) for name, value in found["coder"].items()
                        if name != "scale"} for run in range(RUNS)]
            label = {"sparsity": sparsity, "seed": seed, "n_stored": len(dictionary)}
            yield _Model(label, dictionary, x[:, stored], scale * x @ own.T, weights)


def _row(model: _Model, rng: torch.Generator) -> dict[str, Any]:
    """One model: means over its coders, and over pairs of random dictionaries."""
    n, m = model.coders[0]["W_enc"].shape
    kept = [_judged(model, encoded(model.h, *(own[name] for name in ("W_enc", "b_enc", "b_dec"))), own["W_dec"],
                    own["b_dec"]) for own in model.coders]
    nulls = []
    active, centre = max(1, round(float((model.features > 0).float().sum(1).mean()))), model.h.mean(0)
    for _ in range(DRAWS):
        D = normalize(torch.randn(n, m, generator=rng), dim=1)
        nulls.append(_judged(model, _largest((model.h - centre) @ D.T, min(active, n)), D, centre))
    sizes = [len(rows) for _, rows in kept]
    twins = [[torch.randn(size, m, generator=rng).numpy() for size in sizes] for _ in range(DRAWS)]
    return (model.label | _means([each for each, _ in kept]) | {"agreement": _agreement(*(rows for _, rows in kept))}
            | {f"null_{name}": value for name, value in _means([each for each, _ in nulls]).items()}
            | {"null_agreement": float(np.mean([_agreement(*pair) for pair in twins]))})


def _largest(pre_acts: Tensor, k: int) -> Tensor:
    """ReLU of the k largest pre-activations [B, n] of each sample, 0 elsewhere."""
    values, indices = pre_acts.topk(k)
    return torch.zeros_like(pre_acts).scatter(1, indices, values.relu())


def _judged(model: _Model, latents: Tensor, W_dec: Tensor, b_dec: Tensor) -> tuple[dict[str, float], np.ndarray]:
    """Scores of one coder, and those of its decoder rows that ever fire, [alive, m]."""
    recons, alive = latents @ W_dec + b_dec, (latents > 0).any(0)
    residual = (recons - model.h).square().sum() / (model.h - model.h.mean(0)).square().sum()
    matched = match_features(model.dictionary, W_dec).similarity if len(model.dictionary) else np.zeros(1)
    found = {"recovery": recovery_at(matched), "fvu": float(residual), "alive": float(alive.sum())}
    found |= {f"copy_{name}": value for name, value in _alike(model.h, recons).items()}
    return found | _alike(model.features, latents), W_dec[alive].numpy()


def _alike(x: Tensor, y: Tensor) -> dict[str, float]:
    varies = x.numel() and x.std(0).max() > 1e-6
    return likeness(x, y) if varies else dict.fromkeys(("cka", "procrustes", "rsa"), 0.0)


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    return (mmcs(one, other) + mmcs(other, one)) / 2 if len(one) and len(other) else float("nan")


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return pd.DataFrame(rows).mean().to_dict()


def differences(rows: pd.DataFrame, copied: bool = False) -> dict[str, tuple[pd.Series, list[Any]]]:
    """How the `SIMILARITIES` differ between models that superpose and one that does not, all else as equal as can be.

    A model of n > m features minus the one with a hidden unit for every feature, at the same sparsity and with as many
    latents; the mean over the sparsities at which n features are superposed (more stored than dimensions), then over
    the widths of which any seed superposes. Nan in a seed in which one of these superposes at no sparsity.

    Args:
        rows: of `alignment`.
        copied: read cka, procrustes and rsa of the hidden layer and its reconstruction, as the source does.
    Returns:
        Of each score the difference per seed, and its nulls: that of random dictionaries, and 0.
    """
    prefix = "copy_" if copied else ""
    return {name: _difference(rows, name if name == "recovery" else prefix + name) for name in SIMILARITIES}


def _difference(rows: pd.DataFrame, value: str) -> tuple[pd.Series, list[Any]]:
    at, read = ["seed", "sparsity", "n_latents"], [value, f"null_{value}"]
    single = rows[rows.n_features <= rows.n_hidden].set_index(at)[read]
    wide = rows[(rows.n_features > rows.n_hidden) & (rows.n_stored > rows.n_hidden)].set_index(at)[read]
    each = (wide - single).loc[wide.index].groupby(["seed", "n_latents"]).mean()
    found = [each[name].unstack("n_latents").reindex(rows.seed.unique()).mean(axis=1, skipna=False) for name in read]
    return found[0], [found[1], 0.0]


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """MMCS of two coders of one model and of two random dictionaries, means over models in superposition, per seed."""
    superposed = rows[rows.n_stored > rows.n_hidden].dropna(subset=["agreement"])
    return superposed.groupby("seed")[["agreement", "null_agreement"]].mean().reindex(rows.seed.unique())
