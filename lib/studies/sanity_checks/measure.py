"""What measures: trained coders against the true features, and what the measures read where nothing was learned."""
from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lib.metrics import recovery, sparsity
from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.sparse_coders import FitOptions, SparseCoder
from lib.sparse_coders.starts import start
from lib.studies.sanity_checks import train
from lib.studies.sanity_checks.train import Arm, Training
from lib.studies.sanity_checks.worlds import SLUG, Law, World, directions, samples

CLOSE = 0.8
"""Cosine from which a feature counts as recovered (the source's)."""


def judged(params: Training, arm: list, seed: int) -> dict[str, Any]:
    """One arm and seed, trained where it is not there yet.

    Returns:
        recovery: share of features with a living latent within cosine .8; recovery_all: with any row, dead or not.
        ev: explained variance, 1 - fvu, held out, in the data's units; l0; alive: share of latents that fire at all.
        cosine: nearest living latent of every feature, [n].
    """
    made = trained(params, arm, seed)
    x = samples(params, train.of_plain(arm).law, seed)[1]
    latents, recons = encoded(made, x)
    truth, living = directions(params, seed), (latents != 0).any(0)
    cosine = nearest_living(truth, made.W_dec, living)
    every = nearest_living(truth, made.W_dec, np.ones(len(living), bool))
    return {
        "recovery": recovery.recovery_at(cosine, CLOSE), "recovery_all": recovery.recovery_at(every, CLOSE),
        "ev": 1 - sparsity.fvu(x, recons), "l0": sparsity.l0(latents), "alive": float(living.mean()), "cosine": cosine,
    }


def nearest_living(dictionary: ArrayLike, decoder: ArrayLike, living: np.ndarray) -> np.ndarray:
    """Cosine of each feature with the nearest latent that lives, max_{j living} cos(D_i, W_j), [n_features].

    Latents may share a feature's place, and features a latent: `recovery_at` of it is recovery as others count it. A
    dead row tells nothing of the data, though one that started at a feature lies there still.

    Args:
        living: whether each latent fires at all, bool, [n_latents]; where none does, every cosine reads -1.
    """
    alive = np.flatnonzero(living)
    return recovery.cosines(dictionary, decoder[alive]).max(1) if len(alive) else np.full(len(dictionary), -1.0)


def trained(params: Training, arm: list, seed: int) -> SparseCoder:
    """The trained coder of an arm."""
    made = train.untrained(params, train.of_plain(arm), seed)
    state = reuse(train.coder, params, arm, seed)["state"]
    made.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return made


@torch.no_grad()
def encoded(coder: SparseCoder, x: Tensor) -> tuple[np.ndarray, Tensor]:
    """Latents [B, n] and recons [B, d] of samples, a thousand at a time."""
    parts = [(coder.encode(part), coder(part)) for part in x.split(1024)]
    return torch.cat([f for f, _ in parts]).cpu().numpy(), torch.cat([r for _, r in parts]).cpu()


def chance(params: World, seed: int, draws: int) -> dict[str, Any]:
    """What random directions read, as many as there are latents.

    Returns:
        cosine: mean over features of the nearest, [draws]; share: of features within .8 and .5, [draws, 2]; ev: of a
        coder with random rows, as it starts training by rule batch_topk, and by K steps of matching pursuit;
        length_cv: standard deviation over mean of the lengths of samples.
    """
    truth, rng = directions(params, seed).numpy(), np.random.default_rng(stream_seed(params.seed, SLUG, "null", seed))
    near = [nearest_living(truth, rng.normal(size=truth.shape), np.ones(len(truth), bool))
            for _ in range(draws)]
    x = samples(params, Law(), seed)[1]
    ev = {}
    for rule in ("batch_topk", "matching_pursuit"):
        coder = SparseCoder(params.width, params.features, rule, k=params.active,
                            seed=stream_seed(params.seed, SLUG, "random rows", seed))
        start(coder, x.cpu(), None, FitOptions())
        with torch.no_grad():
            ev[rule] = 1 - sparsity.fvu(x, coder(x.cpu()))
    length = x.norm(dim=1)
    return {"cosine": np.array([c.mean() for c in near]), "ev": ev, "length_cv": float(length.std() / length.mean()),
            "share": np.array([[recovery.recovery_at(c, at) for at in (CLOSE, 0.5)] for c in near])}


def counts(params: Training, arms: dict[str, list], seed: int) -> pd.DataFrame:
    """Active latents of held-out samples over their lengths: columns coder, length (over the mean), active.

    Beside trained coders "true features": the samples' products with the true directions that exceed one threshold,
    set so that K are active on average.
    """
    x = samples(params, Law(), seed)[1].cpu()
    length, h = x.norm(dim=1), x @ directions(params, seed).T
    level = torch.topk(h.flatten(), params.active * len(x), sorted=True).values[-1]
    active = {"true features": (h >= level).sum(1).numpy()}
    active |= {name: (encoded(trained(params, arm, seed), x)[0] != 0).sum(1) for name, arm in arms.items()}
    rows = [pd.DataFrame({"coder": name, "length": (length / length.mean()).numpy(), "active": found})
            for name, found in active.items()]
    return pd.concat(rows, ignore_index=True)


def plain(arm: Arm) -> list:
    """An arm as a run takes it."""
    return [arm.rule, arm.normalise, list(arm.law)]
