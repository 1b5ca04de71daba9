"""What the small leaky autoencoders are judged by, as published and by the known features; rows: cells x seeds."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.metrics import recovery
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry
from lib.studies.incidental_polysemanticity.leaky_sae import LeakySAE, scaled
from lib.studies.incidental_polysemanticity.network import Cell, Trained


def published_metrics(sae: LeakySAE, acts: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
    """The source's metrics of one autoencoder per row, each [I]; acts: what they were trained on, [I, n, d].

    Returns:
        interference, macs, calibrated (see `decoder_overlap`); null_sd: standard deviation of permuted MACS; sae_mse:
        error on z-scored activations, which no autoencoder has seen in training.
    Source: ngugi_taming, utils.py and main.py.
    """
    D, z = sae.directions().cpu(), z_scored(acts)
    null = geometry.permuted_macs(D, 200, rng).double()
    return {
        "interference": geometry.weighted_overlap(D), "macs": geometry.macs(D), "null_sd": null.std(0, correction=0),
        "calibrated": geometry.calibrated_macs(D, rng),
        "sae_mse": (sae.decode(sae.encode(z)) - z).square().mean((1, 2)),
    }


def z_scored(acts: Tensor) -> Tensor:
    """Each unit of acts [I, n, d] with mean 0 and standard deviation 1 over its samples, 1e-8 added as published."""
    return (acts - acts.mean(1, keepdim=True)) / (acts.std(1, keepdim=True) + 1e-8)


def judged(sae: LeakySAE, network: Trained) -> dict[str, Tensor | np.ndarray]:
    """Decoder geometry, cost and recovery of one autoencoder per network of its scaled activations, each [C * S].

    Returns:
        interference, unweighted, macs of the decoder. On held-out samples: l0 (latents > 0), fvu, dead (share of them
        never > 0). recovery: mean cosine of the features' directions in the layer with latents matched one to one.
        auc: how well a matched latent tells whether its feature is active.
    """
    acts, val = scaled(network.acts), scaled(network.acts, network.val_acts).flatten(0, 1)
    D = sae.directions().cpu()
    latents = sae.encode(val)  # [C*S, n, n_latents]
    dictionaries = geometry.feature_directions(network.features, acts).flatten(0, 1).cpu().numpy()  # [C*S, 8, d]
    matchings = [recovery.match_features(*pair) for pair in zip(dictionaries, sae.W_dec.cpu().numpy(), strict=True)]
    active = (network.val_features > 0).repeat(len(acts), 1, 1).cpu().numpy()
    told = zip(latents.cpu().numpy(), matchings, active, strict=True)
    auc = [np.nanmean(recovery.detection(recovery.matched_scores(f, m), a).auc) for f, m, a in told]
    return {
        "interference": geometry.weighted_overlap(D), "unweighted": geometry.unweighted_overlap(D),
        "macs": geometry.macs(D), "l0": (latents > 0).float().sum(2).mean(1),
        "fvu": fvu_rows(val, sae.decode(latents)), "dead": (~(latents > 0).any(1)).float().mean(1),
        "recovery": np.array([matching.similarity.mean() for matching in matchings]), "auc": np.array(auc),
    }


def matched_cosine(dictionary: np.ndarray, decoder: np.ndarray) -> float:
    """Mean cosine of features [f, d] with latents [n, d] matched one to one."""
    return float(recovery.match_features(dictionary, decoder).similarity.mean())


def fvu_rows(x: Tensor, recons: Tensor) -> Tensor:
    """Unexplained variance of each row, sum |x - x̂|^2 / sum |x - x̄|^2; [I] from [I, n, d].

    nan where x hardly varies (by less than 1e-6 of its square): a layer that has collapsed to a constant.
    """
    total, error = (x - x.mean(1, keepdim=True)).square().sum((1, 2)), (recons - x).square().sum((1, 2))
    return torch.where(total > 1e-6 * x.square().sum((1, 2)), error / total, torch.nan)


def table(cells: Sequence[Cell], seeds: Sequence[int], found: Mapping[str, Tensor | np.ndarray]) -> pd.DataFrame:
    """One row per (cell, seed), columns init, noise, reg, act, penalty, seed and what was found, each [C * S]."""
    names = ("init", "noise", "reg", "act", "penalty")
    rows = pd.DataFrame([{n: getattr(c, n) for n in names} | {"seed": s} for c, s in product(cells, seeds)])
    return rows.assign(**{name: np.asarray(torch.as_tensor(values).cpu()) for name, values in found.items()})
