"""What `lib.data.planted` is put together from: directions, frequencies, trees, correlations."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def zipf(n_features: int, exponent: float, p_max: float, p_min: float) -> Tensor:
    """Frequencies falling as a power r_i = i^-exponent of the rank, p_min + (p_max - p_min) (r_i - r_n) / (1 - r_n).

    float32 [n_features], descending from p_max to p_min.

    Raises:
        ValueError: not 0 < p_min <= p_max <= 1, exponent not positive, or fewer than two features.
    Source: Chanin & Garriga-Alonso 2026, "SynthSAEBench".
    """
    if not 0 < p_min <= p_max <= 1 or not exponent > 0 or n_features < 2:
        raise ValueError(
            f"zipf needs 0 < p_min <= p_max <= 1, exponent > 0 and 2 features, got {p_min}, {p_max}, {exponent}, "
            f"{n_features}"
        )
    r = torch.arange(1, n_features + 1, dtype=torch.float64) ** -exponent
    return (p_min + (p_max - p_min) * (r - r[-1]) / (1 - r[-1])).float()


def forest(n_features: int, roots: int, children: int, depth: int) -> Tensor:
    """Parents of complete trees, level by level, so that with falling frequencies parents are the frequent ones.

    Features 0 to roots - 1 are the roots, then come all their children, then theirs, down to `depth`; the features
    left over belong to no tree.

    Returns:
        int64 [n_features], -1 for roots and features outside.
    Raises:
        ValueError: the trees need more features than there are.
    """
    sizes = [roots * children**level for level in range(depth + 1)]
    if min(roots, children, depth) < 1 or sum(sizes) > n_features:
        raise ValueError(f"forest: {roots} roots x {children} children x depth {depth} need {sum(sizes)} features, "
                         f"at least one each; there are {n_features}")
    parent = torch.full((n_features,), -1)
    inside = sum(sizes) - roots
    parent[roots : roots + inside] = torch.arange(sum(sizes[:-1])).repeat_interleave(children)
    return parent


def random_directions(n_features: int, d: int, generator: torch.Generator) -> Tensor:
    """Uniformly random unit directions, float32 [n_features, d]; cosines have mean square 1/d."""
    return F.normalize(torch.randn(n_features, d, generator=generator, device=generator.device), dim=1)


def near_orthogonal(directions: Tensor, steps: int = 50) -> Tensor:
    """Directions moved apart to the least total squared overlap: orthonormal rows, or a tight frame DᵀD = n/d I.

    Alternates between the nearest tight frame and unit rows. With more features than dimensions the mean squared
    cosine falls from 1/d to the Welch bound (n - d) / (d (n - 1)), not to 0.

    Args:
        directions: [n_features, d]; steps: of the alternation.
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


def low_rank_factor(n_features: int, rank: int, scale: float, generator: torch.Generator) -> Tensor:
    """Copula loadings, N(0, scale^2), [n_features, rank]: g_i and g_j correlate by their rows' dot product.

    Correlations have standard deviation scale^2 sqrt(rank). Rows longer than .995 are shortened to it.

    Raises:
        ValueError: rank < 1, or scale^2 rank >= 1, where most rows would be longer than 1.
    """
    if rank < 1 or not 0 < scale**2 * rank < 1:
        raise ValueError(f"low_rank_factor needs rank >= 1 and 0 < scale^2 rank < 1, got rank {rank}, scale {scale}")
    rows = scale * torch.randn(n_features, rank, generator=generator, device=generator.device)
    return rows * (0.995 / rows.norm(dim=1, keepdim=True)).clamp_max(1)


def toy_model_dictionary(W: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Directions a trained toy model stores, Ŵ_i of the columns with |W_i| > threshold.

    Args:
        W: [n_hidden, n_features].
    Returns:
        directions [n_stored, n_hidden], and their features' indices, int64 [n_stored].
    Raises:
        ValueError: W is not a matrix, or stores nothing.
    """
    if W.ndim != 2:
        raise ValueError(f"W must be [n_hidden, n_features], got {tuple(W.shape)}")
    stored = (W.norm(dim=0) > threshold).nonzero()[:, 0]
    if not len(stored):
        raise ValueError(f"the toy model stores no feature: the longest column is {float(W.norm(dim=0).max()):.3g}")
    return F.normalize(W.detach().T[stored], dim=1), stored
