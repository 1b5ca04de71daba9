"""Everything a sparse coder is judged by where the features are known, in one call."""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from lib.metrics import recovery, similarity, sparsity

if TYPE_CHECKING:
    from lib.sparse_coders import SparseCoder

METRICS = ("l0", "fvu", "dead_fraction", "shrinkage", "recovery", "cosine", "mmcs", "mmcs_back", "uniqueness",
           "precision", "recall", "f1", "auc")
"""What `report` always measures; "cosine" is the mean over matched pairs, detection the mean over features."""


class GroundTruth(Protocol):
    """What is known: unit directions [n_features, d], the parent of each or -1, whether features take both signs."""

    dictionary: Tensor
    parent: Tensor
    signed: bool


@torch.no_grad()
def report(coder: SparseCoder, truth: GroundTruth, x: Tensor, features: Tensor) -> dict[str, float]:
    """`METRICS` of a coder on held-out samples; what `splitting` measures too where features have parents.

    Args:
        x: what the encoder reads, [n, d + context].
        features: what x is made of, [n, n_features].
    """
    decoder, latents = oriented(coder, x)
    recons, own = coder(x).cpu(), x[:, : coder.d_in].cpu()
    matching = recovery.match_features(truth.dictionary, decoder, signed=not truth.signed)
    scores = recovery.matched_scores(latents, matching)
    active = features.cpu().numpy() != 0
    found = {"l0": sparsity.l0(latents), "fvu": sparsity.fvu(own, recons)}
    found["dead_fraction"] = sparsity.dead_fraction(sparsity.samples_since_fired(latents), len(latents))
    found["shrinkage"] = _shrinkage(own, recons, (coder.b_dec / coder.scaled(x.to(coder.b_dec))[1]).cpu())
    found |= directions(truth, decoder, matching)
    detected = recovery.detection(np.abs(scores) if truth.signed else scores, active)._asdict()
    found |= {name: _mean(values) for name, values in detected.items()}
    return found | (splitting(truth, decoder, matching, scores, features) if (truth.parent >= 0).any() else {})


def directions(truth: GroundTruth, decoder: np.ndarray, matching: recovery.Matching) -> dict[str, float]:
    """The metrics of decoder rows [n_latents, d] that need no samples."""
    dictionary, taken = truth.dictionary.cpu().numpy(), matching.latent >= 0
    if truth.signed:  # both signs of a direction are one feature: turn each row towards the feature it matches
        decoder = decoder.copy()
        decoder[matching.latent[taken]] *= matching.sign[taken, None]
    return {
        "recovery": recovery.recovery_at(matching.similarity), "cosine": float(matching.similarity.mean()),
        "mmcs": recovery.mmcs(dictionary, decoder), "mmcs_back": recovery.mmcs(decoder, dictionary),
        "uniqueness": recovery.uniqueness(dictionary, decoder),
    }


def splitting(
    truth: GroundTruth, decoder: np.ndarray, matching: recovery.Matching, scores: np.ndarray, features: Tensor
) -> dict[str, float]:
    """Absorption, what it can be trusted for, and latents within cosine .5 of a parent's direction; means over parents.

    absorption_excess is the silence that goes with the child, with_child - alone. parent_recovery is the share of
    parents that have a latent at cosine .9: absorption speaks of parents only as far as they were found.
    """
    parents = truth.parent[truth.parent >= 0].unique().cpu().numpy()
    absorbed = recovery.absorption(scores, features, truth.parent)
    near = recovery.cosines(truth.dictionary, decoder)[parents] >= 0.5  # [n_parents, n_latents]
    return {
        "absorption": float(np.nanmean(absorbed.score[parents])),
        "absorption_excess": _mean((absorbed.with_child - absorbed.alone)[parents]),
        "parent_recovery": recovery.recovery_at(matching.similarity[parents]),
        "latents_per_parent": float(near.sum(1).mean()),
    }


def likeness(x: Tensor, recons: Tensor) -> dict[str, float]:
    """CKA, Procrustes and RSA of samples and their reconstruction, [n, d] each; 0 where recons is constant."""
    if not recons.std(0).max() > 1e-6:
        return {"cka": 0.0, "procrustes": 0.0, "rsa": 0.0}
    return {"cka": similarity.linear_cka(x, recons), "procrustes": similarity.procrustes_similarity(x, recons),
            "rsa": similarity.rsa(x, recons)}


@torch.no_grad()
def oriented(coder: SparseCoder, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Decoder rows and latents, each latent turned so that its values are positive on average.

    Only rules with negative latents change: a row and its codes may be multiplied by -1 without changing anything.
    """
    latents = coder.encode(x).cpu().numpy()
    sign = np.where(latents.sum(0) < 0, -1.0, 1.0)
    return coder.W_dec.detach().cpu().numpy() * sign[:, None], latents * sign.astype(latents.dtype)


def _mean(values: np.ndarray) -> float:
    """Over features that have a value; 0 where none has."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def _shrinkage(x: Tensor, recons: Tensor, bias: Tensor) -> float:
    """Shrinkage around the coder's bias, or nan for a coder that reconstructs nothing."""
    x, recons = x - bias, recons - bias
    return sparsity.shrinkage(x, recons) if float((x * recons).sum()) > 0 else float("nan")
