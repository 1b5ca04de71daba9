"""Ground truths for sparse coders: known directions, how samples are drawn along them, and a second view of them.

A world is a trained toy model (its columns are the features, its hidden layer the samples) or a planted dictionary.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lib.data import planted as plant
from lib.data.sparse_features import sparse_features
from lib.models.toy_superposition import forward
from lib.params import Params
from lib.rng import generator

SLUG = "sparse_coders_recovery"


class Common(Params):
    """What every stage of the study reads."""

    seed: int = Field(ge=0, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where toy models and coders are trained")


class Law(Common):
    """The planted law, whatever its dimensions."""

    planted_features: int = Field(ge=21, description="features of the planted dictionary (SynthSAEBench: 16384)")
    planted_roots: int = Field(ge=1, description="trees in it, of 4 children a node (128)")
    planted_depth: int = Field(ge=1, le=3, description="levels below a root (3)")
    planted_rarest: float = Field(gt=0, le=0.4, description="frequency of its rarest feature (0.0005)")


def stream(params: Common, *labels: str | int, device: Any = "cpu") -> torch.Generator:
    """The study's random stream of that name."""
    return generator(params.seed, SLUG, *labels, device=device)


class ToyLaw(NamedTuple):
    """Samples h = W x of a toy model x' = ReLU(W^T h + b) on features that are absent with probability `sparsity`."""

    W: Tensor
    """[n_hidden, n_features]."""
    b: Tensor
    """[n_features]."""
    stored: Tensor
    """Features with a direction of their own, indices [n_stored]."""
    sparsity: float


class World(NamedTuple):
    """A ground truth and how its samples are drawn.

    Attributes:
        dictionary: directions of the features, unit rows, [n_features, d].
        parent: of each feature, -1 for none, [n_features].
        signed: features may be negative, so a direction is known up to its sign.
        law: where samples come from.
        view: directions of the same features in a second view, [n_features, d]; None for a toy model, whose second
            view is its output.
    """

    dictionary: Tensor
    parent: Tensor
    signed: bool
    law: ToyLaw | plant.Planted
    view: Tensor | None

    def sample(self, n: int, rng: torch.Generator, n_dense: int) -> tuple[Tensor, Tensor, Tensor]:
        """x [n, d], the features of the first samples [n_dense, n_features], and their second view [n, width]."""
        law = self.law
        if isinstance(law, ToyLaw):
            features = sparse_features((n, law.W.shape[1]), 1 - law.sparsity, rng)
            other = forward(law.W[None], law.b[None], features[None])[0]
            return features @ law.W.T, features[:n_dense, law.stored], other
        if self.signed:
            features = law.sample(n, rng)[1]
            features *= torch.randint(0, 2, features.shape, generator=rng, device=rng.device) * 2.0 - 1
            return features @ self.dictionary, features[:n_dense], features @ self.view
        x, features = law.sample(n, rng, sparse=True)
        first = torch.arange(n_dense, device=x.device)
        return x, features.index_select(0, first).to_dense(), torch.sparse.mm(features, self.view)


def toy_world(W: Tensor, b: Tensor, sparsity: float, threshold: float = 0.5) -> World:
    """The features a toy model stores, columns with |W_i| > threshold; their directions are Ŵ_i.

    Args:
        W: [n_hidden, n_features]; b: [n_features].
        sparsity: S = P(feature = 0).
    """
    if W.ndim != 2:
        raise ValueError(f"W must be [n_hidden, n_features] of one model, got shape {tuple(W.shape)}")
    stored = (W.norm(dim=0) > threshold).nonzero()[:, 0]
    if not len(stored):
        raise ValueError(f"the toy model stores no feature: the longest column is {float(W.norm(dim=0).max()):.3g}")
    dictionary = F.normalize(W.detach().T[stored], dim=1)
    alone = torch.full((len(dictionary),), -1, device=W.device)
    return World(dictionary, alone, False, ToyLaw(W, b, stored, sparsity), None)


def planted_world(
    law: plant.Planted, rng: torch.Generator, signed: bool = False, parent: Tensor | None = None
) -> World:
    """A planted dictionary, with a second view that carries the same features along random directions.

    Args:
        rng: draws the second view, on the law's device.
        signed: half of all values are turned negative.
        parent: labels to use in place of the law's own, for a control without hierarchy.
    """
    view = plant.random_directions(*law.dictionary.shape, rng)
    return World(law.dictionary, law.parent if parent is None else parent, signed, law, view)


def bench_law(n: int, d: int, roots: int, depth: int, rarest: float, rng: torch.Generator) -> plant.Planted:
    """The law of SynthSAEBench-16k, or a smaller relative of it, with directions of our own.

    Matched: Zipf exponent .5, trees of 4 children a node, siblings exclusive, children scaled by the parent,
    frequencies raised for parents and rivals, correlations of rank 25 and scale .1, means falling linearly from 5 to 4,
    standard deviations |N(.5, .5^2)|, a bias of length .5; at its size mean L0 is about 34. Not matched: the draws
    (seeds, directions, loadings), so scores compare in distribution only; the published directions are 100 optimiser
    steps away from random ones (mean largest |cosine| of a feature about .15 in both).

    Args:
        n, d: features and dimensions (16,384 and 768 there); roots, depth: of the trees (128 and 3).
        rarest: frequency of the rarest feature (5e-4); the most frequent has .4.
    Source: Chanin & Garriga-Alonso 2026, "SynthSAEBench" (arXiv 2602.14687).
    """
    device = rng.device
    std = (0.5 + 0.5 * torch.randn(n, generator=rng, device=device)).abs()
    return plant.planted(
        plant.random_directions(n, d, rng), plant.zipf(n, 0.5, 0.4, rarest), parent=plant.forest(n, roots, 4, depth),
        exclusive=True, scaled=True, factor=plant.low_rank_factor(n, 25, 0.1, rng), mean=torch.linspace(5, 4, n),
        std=std, bias=0.5 * plant.random_directions(1, d, rng)[0],
    )


def planted_law(params: Law, d: int, rng: torch.Generator) -> plant.Planted:
    """`bench_law` of the study's planted features in d dimensions."""
    shape = params.planted_features, d, params.planted_roots, params.planted_depth, params.planted_rarest
    return bench_law(*shape, rng)


def small_law(n: int, d: int, hierarchy: bool, rng: torch.Generator) -> plant.Planted:
    """Nearly orthogonal directions with Zipf frequencies from .3 to .03, independent or with `small_forest`."""
    dictionary = near_orthogonal(plant.random_directions(n, d, rng))
    parent = small_forest(n) if hierarchy else None
    return plant.planted(dictionary, plant.zipf(n, 0.5, 0.3, 0.03), parent=parent, exclusive=True, std=0.2)


def near_orthogonal(directions: Tensor, steps: int = 50) -> Tensor:
    """Directions moved apart to the least total squared overlap: orthonormal rows, or a tight frame DᵀD = n/d I.

    Alternates between the nearest tight frame and unit rows. With more features than dimensions the mean squared
    cosine falls from 1/d to the Welch bound (n - d) / (d (n - 1)), not to 0. directions [n_features, d].

    Source: Tropp et al. 2005, "Designing structured tight frames via an alternating projection method".
    """
    D = directions.double()
    if len(D) <= D.shape[1]:
        left, _, right = torch.linalg.svd(D, full_matrices=False)
        return (left @ right).to(directions.dtype)
    for _ in range(steps):
        variance, axes = torch.linalg.eigh(D.T @ D)
        D = F.normalize(D @ (axes / variance.sqrt()) @ axes.T, dim=1)  # the nearest tight frame, on the sphere
    return D.to(directions.dtype)


def flat_twin(tree: plant.Planted, rng: torch.Generator, n: int = 100_000) -> plant.Planted:
    """The directions and values of a hierarchy whose features all stand alone, each as frequent as it is in the tree.

    Args:
        tree: the hierarchy.
        rng: draws the n samples that count how often each feature fires there, on the tree's device.
    """
    fired = torch.sparse.sum(tree.sample(n, rng, sparse=True)[1].bool().float(), 0).to_dense()
    return plant.planted(tree.dictionary, (fired / n).clamp(1 / n, 1.0), mean=tree.mean, std=tree.std, bias=tree.bias)


def small_forest(n: int) -> Tensor:
    """Parents where a fifth of n features have three children each and the rest stand alone, int64 [n]."""
    return plant.forest(n, n // 5, 3, 1)
