"""Planted dictionaries: samples x = f D + b whose sparse features f and directions D are known.

    planted(random_directions(512, 64, rng), zipf(512, 0.5, 0.4, 5e-4)).sample(10_000, rng) -> x, features

Frequencies, correlations (a Gaussian copula of low rank), a hierarchy and magnitudes are separate choices, each made
by a small function. Sampling draws from the caller's generator, on its device, a bounded number of entries at a time.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 2**24
"""Rows drawn at once, times n_features."""
_DENSE_LIMIT = 2**28
"""Entries of a dense feature matrix beyond which it must be asked for in sparse form (1 GiB of float32)."""


@dataclass(frozen=True, eq=False)
class Planted:
    """Directions and the law of the features along them; made by `planted`.

    Sampling: g ~ N(0, factor factorᵀ + diag) has unit variances; feature i fires where g_i > Φ⁻¹(1 - firing_i), if its
    parent fires too, and if it wins the draw among its firing siblings where siblings exclude each other. Its value is
    max(0, mean_i + std_i z), times its parent's value over that one's mean if children scale with their parent.
    """

    dictionary: Tensor
    """[n_features, d], unit rows."""
    probability: Tensor
    """What each feature's frequency should be, [n_features]."""
    firing: Tensor
    """Probability of firing given that the parent does, before siblings exclude each other, [n_features]."""
    parent: Tensor
    """Index of each feature's parent, int64 [n_features]; -1 for a root."""
    factor: Tensor
    """Loadings of the copula, [n_features, rank]; rank 0 for independent features."""
    mean: Tensor
    """Mean value of a feature that fires, [n_features]."""
    std: Tensor
    """Standard deviation of that value, [n_features]."""
    bias: Tensor
    """Added to every sample, [d]."""
    exclusive: bool
    """At most one child of a parent fires."""
    scaled: bool
    """A child's value scales with its parent's."""

    children: Tensor
    """Children of each feature, int64 [n_features, most]; -1 for none."""

    def to(self, device: str | torch.device) -> Planted:
        """The same on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def sample(self, n: int, generator: torch.Generator, sparse: bool = False) -> tuple[Tensor, Tensor]:
        """n samples and the features they are made of.

        Args:
            generator: the source of every draw; on the dictionary's device.
            sparse: features as a coalesced COO tensor, at memory n · l0 in place of n · n_features. Same draws.
        Returns:
            x float32 [n, d]; features float32 [n, n_features], active where > 0.
        """
        self._check(n, generator, sparse)
        most = max(1, _CHUNK // len(self.dictionary))
        x, active = [], []
        for start in range(0, n, most):
            rows = min(most, n - start)
            row, column, value = self._active(rows, generator)
            starts = torch.searchsorted(row, torch.arange(rows, device=row.device))
            x.append(F.embedding_bag(column, self.dictionary, starts, mode="sum", per_sample_weights=value))
            active.append((row + start, column, value))
        row, column, value = (torch.cat(parts) for parts in zip(*active, strict=True))
        shape = (n, len(self.dictionary))
        features = torch.sparse_coo_tensor(
            torch.stack([row, column]), value, shape, is_coalesced=True, check_invariants=False
        )
        return torch.cat(x).add_(self.bias), features if sparse else features.to_dense()

    def _active(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and value of every active feature, sorted by row and column.

        Given the copula's common part features are independent, so children are drawn only under parents that fire.
        """
        device = self.dictionary.device
        common = torch.randn(rows, self.factor.shape[1], generator=generator, device=device)
        top = (self.parent < 0).nonzero()[:, 0]
        g = torch.randn(rows, len(top), generator=generator, device=device)
        g.mul_(self._own(top)).addmm_(common, self.factor[top].T)
        row, place = (g > self._threshold(top)).nonzero(as_tuple=True)
        levels = [self._valued(row, top[place], 1.0, generator)]
        while len(levels[-1][0]) and self.children.shape[1]:
            levels.append(self._under(*levels[-1], common, generator))
        row, column, value = (torch.cat(parts) for parts in zip(*levels, strict=True))
        order = torch.argsort(row * len(self.dictionary) + column)
        return row[order], column[order], value[order]

    def _under(
        self, row: Tensor, column: Tensor, value: Tensor, common: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The active children of active features, as `_active`; row, column, value [m]."""
        child = self.children[column]  # [m, most]
        g = torch.randn(child.shape, generator=generator, device=child.device) * self._own(child)
        g += torch.einsum("mr,mcr->mc", common[row], self.factor[child])
        fires = (child >= 0) & (g > self._threshold(child))
        if self.exclusive:
            lot = torch.rand(child.shape, generator=generator, device=child.device).masked_fill(~fires, -1)
            fires &= F.one_hot(lot.argmax(1), child.shape[1]).bool()
        above, place = fires.nonzero(as_tuple=True)
        scale = value[above] / self.mean[column[above]] if self.scaled else 1.0
        return self._valued(row[above], child[above, place], scale, generator)

    def _valued(
        self, row: Tensor, column: Tensor, scale: Tensor | float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features that fire with their values drawn, without those whose value is 0."""
        z = torch.randn(len(column), generator=generator, device=column.device)
        value = scale * (self.mean[column] + self.std[column] * z).clamp_min(0)
        kept = value > 0
        return row[kept], column[kept], value[kept]

    def _own(self, which: Tensor) -> Tensor:
        """Standard deviation of the part of g that is a feature's own."""
        return (1 - self.factor.square().sum(1)).sqrt()[which]

    def _threshold(self, which: Tensor) -> Tensor:
        return -torch.special.ndtri(self.firing.double()).float()[which]

    def _check(self, n: int, generator: torch.Generator, sparse: bool) -> None:
        device, width = self.dictionary.device, len(self.dictionary)
        if n < 1:
            raise ValueError(f"sample: n must be at least 1, got {n}")
        if generator.device.type != device.type:
            raise ValueError(f"the generator is on {generator.device}, the dictionary on {device}; move it with .to()")
        if not sparse and n * width > _DENSE_LIMIT:
            raise ValueError(
                f"{n} x {width} dense features take {n * width * 4 / 2**30:.1f} GiB; "
                "ask for sparse=True, or for fewer samples at a time"
            )


def planted(
    dictionary: Tensor, probability: Tensor | float, *, parent: Tensor | None = None, exclusive: bool = False,
    scaled: bool = False, factor: Tensor | None = None, mean: Tensor | float = 1.0, std: Tensor | float = 0.0,
    bias: Tensor | None = None,
) -> Planted:
    """Samples of known sparse features along known directions.

    A child fires with probability p_child / p_parent where its parent does, so its frequency is p_child, exactly for
    features without correlations. Where siblings exclude each other that ratio is raised by the expected number of
    rivals, 1 + sum of the siblings' ratios, at most to 1: siblings that ask for more than their parent has get less.

    Args:
        dictionary: directions, [n_features, d]; lengths are divided out.
        probability: frequency of each feature, a number or [n_features], such as `zipf`.
        parent: of each feature, int [n_features], -1 for a root, such as `forest`; None for no hierarchy.
        exclusive, scaled: at most one child of a parent fires; children's values scale with the parent's.
        factor: copula loadings [n_features, rank], such as `low_rank_factor`; rows shorter than 1.
        mean, std: of the value of a feature that fires, numbers or [n_features].
        bias: added to every sample, [d].
    """
    if dictionary.ndim != 2 or not (dictionary.norm(dim=1) > 0).all():
        raise ValueError(f"dictionary must be [n_features, d] without zero rows, got {tuple(dictionary.shape)}")
    n, d = dictionary.shape
    device = dictionary.device
    numbers = {"probability": probability, "mean": mean, "std": std}
    numbers = {name: _per_feature(value, n, name, device) for name, value in numbers.items()}
    parent = torch.full((n,), -1) if parent is None else torch.as_tensor(parent).long()
    factor = torch.zeros(n, 0) if factor is None else factor
    bias = torch.zeros(d) if bias is None else bias
    parent, factor, bias = parent.to(device), factor.float().to(device), bias.float().to(device)
    if parent.shape != (n,) or factor.ndim != 2 or len(factor) != n or bias.shape != (d,):
        raise ValueError(f"for {n} features in {d} dimensions parent must be [{n}], factor [{n}, rank] and bias [{d}], "
                         f"got {tuple(parent.shape)}, {tuple(factor.shape)}, {tuple(bias.shape)}")
    _check_law(**numbers, parent=parent, factor=factor)
    firing = _conditional(numbers["probability"], parent, exclusive)
    return Planted(F.normalize(dictionary.float(), dim=1), firing=firing, parent=parent, children=_children(parent),
                   factor=factor, bias=bias, exclusive=exclusive, scaled=scaled, **numbers)


def zipf(n_features: int, exponent: float, p_max: float, p_min: float) -> Tensor:
    """Frequencies falling as a power r_i = i^-exponent of the rank, p_min + (p_max - p_min) (r_i - r_n) / (1 - r_n).

    float32 [n_features], descending from p_max to p_min.

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
    left over belong to no tree. int64 [n_features], -1 for roots and features outside.
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


def low_rank_factor(n_features: int, rank: int, scale: float, generator: torch.Generator) -> Tensor:
    """Copula loadings, N(0, scale^2), [n_features, rank]: g_i and g_j correlate by their rows' dot product.

    Correlations have standard deviation scale^2 sqrt(rank). Rows longer than .995 are shortened to it; from
    scale^2 rank = 1 on, where most would be, the law is refused.
    """
    if rank < 1 or not 0 < scale**2 * rank < 1:
        raise ValueError(f"low_rank_factor needs rank >= 1 and 0 < scale^2 rank < 1, got rank {rank}, scale {scale}")
    rows = scale * torch.randn(n_features, rank, generator=generator, device=generator.device)
    return rows * (0.995 / rows.norm(dim=1, keepdim=True)).clamp_max(1)


def _conditional(probability: Tensor, parent: Tensor, exclusive: bool) -> Tensor:
    """Firing probabilities given the parent, raised for exclusive rivals and limited to 1."""
    below = parent >= 0
    ratio = torch.where(below, probability / probability[parent.clamp_min(0)], probability)
    if not exclusive:
        return ratio
    total = torch.zeros_like(ratio).index_add_(0, parent[below], ratio[below])  # of each parent's children
    rivals = torch.where(below, total[parent.clamp_min(0)] - ratio, 0)
    return (ratio * (1 + rivals)).clamp_max(1)


def _children(parent: Tensor) -> Tensor:
    """Each feature's children side by side, int64 [n_features, most], filled up with -1."""
    below = (parent >= 0).nonzero()[:, 0]
    below = below[torch.argsort(parent[below], stable=True)]
    counts = torch.bincount(parent[below], minlength=len(parent))
    table = torch.full((len(parent), int(counts.max())), -1, device=parent.device)
    table[torch.arange(table.shape[1], device=parent.device) < counts[:, None]] = below
    return table


def _per_feature(value: Tensor | float, n: int, name: str, device: torch.device) -> Tensor:
    value = torch.as_tensor(value, dtype=torch.float32, device=device)
    if value.shape not in ((), (n,)):
        raise ValueError(f"{name} must be a number or [{n}], one per feature, got {tuple(value.shape)}")
    return value.expand(n).contiguous()


def _check_law(probability: Tensor, mean: Tensor, std: Tensor, parent: Tensor, factor: Tensor) -> None:
    n = len(parent)
    if not ((probability > 0) & (probability <= 1)).all():
        raise ValueError(f"probability must lie in (0, 1], got {probability.min():g} to {probability.max():g}")
    if not (mean > 0).all() or not (std >= 0).all():
        raise ValueError(f"mean must be positive and std not negative, got down to {mean.min():g} and {std.min():g}")
    if not (factor.square().sum(1) < 1).all():
        raise ValueError("factor has rows of length 1 or more; a feature's own share of the variance must be positive")
    if int(parent.max()) >= n or int(parent.min()) < -1:
        raise ValueError(f"parent must hold features from 0 to {n - 1}, or -1, got {parent.min()} to {parent.max()}")
    reached, before = parent < 0, -1
    while before != (before := int(reached.sum())):
        reached = reached | reached[parent.clamp_min(0)] & (parent >= 0)
    if before < n:
        raise ValueError(f"parent has a cycle: {n - before} features never reach a root")
    more = (parent >= 0) & (probability > probability[parent.clamp_min(0)])
    if more.any():
        i = int(more.nonzero()[0, 0])
        raise ValueError(f"feature {i} has probability {probability[i]:g}, above its parent's "
                         f"{probability[parent[i]]:g}; a child cannot be more frequent")
