"""Where things lie on a cortical sheet: distances of sets, smoothness of maps, correlation over distance, each null.

A sheet is (h, w); place i is row i // w, column i % w, and a step to the next row or column has length 1. Unit i stands
at place i. Where the units were laid out otherwise (the permuted-sheet control), `places[i]` is the place of unit i:
give `places[sets]` to what takes sets, `values[..., np.argsort(places)]` to what takes maps; `np.argsort(places)[sets]`
are the units of a set of places.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lib.metrics.nulls import NullCannotMove
from lib.rng import checked_generator
from lib.tensors import as_array, finite

Sheet = tuple[int, int]
_CHUNK = 2**22
"""Entries of a temporary held at once."""


class Colocation(NamedTuple):
    """How close the members of each set lie, against random sets of the same size; all [n_sets] but the null."""

    distance: np.ndarray
    """Mean pairwise distance of the set, in steps of the grid."""
    z: np.ndarray
    """(distance - mean of the null) / its standard deviation; below 0 is closer than chance."""
    p_closer: np.ndarray
    """One-sided, P(null <= distance), the set counted as one draw."""
    null: np.ndarray
    """Mean pairwise distances of random sets, [n_draws]."""


class Profile(NamedTuple):
    """Mean correlation of pairs of units by their distance; all [n_distances] but the null."""

    distance: np.ndarray
    """Distance in whole steps (rounded), from 1 on."""
    correlation: np.ndarray
    """Mean correlation of the pairs at that distance."""
    null: np.ndarray
    """The same on permuted sheets, [n_draws, n_distances]."""


def distances(sheet: Sheet) -> np.ndarray:
    """Euclidean distance of every two places, [h w, h w]."""
    height, width = sheet
    if min(height, width) < 1:
        raise ValueError(f"a sheet needs sides of at least 1, got {height} x {width}")
    at = np.stack(np.divmod(np.arange(height * width), width), axis=1).astype(float)  # [h w, 2]
    return np.sqrt(np.square(at[:, None] - at[None]).sum(-1))


def mean_pairwise_distance(sets: ArrayLike, sheet: Sheet) -> np.ndarray:
    """Mean distance of pairs in sets of k >= 2 different places, 2 / (k (k-1)) Σ_{a<b} |r_a - r_b|; [...] of [..., k].

    Source: TopoSAE, EXP_019.
    """
    sets = _checked_sets(sets, sheet)
    k, flat, between = sets.shape[-1], sets.reshape(-1, sets.shape[-1]), distances(sheet)
    rows = max(1, _CHUNK // (k * k))
    pieces = [flat[start : start + rows] for start in range(0, max(1, len(flat)), rows)]
    parts = [between[own[:, :, None], own[:, None, :]].sum((1, 2)) for own in pieces]
    return (np.concatenate(parts) / (k * (k - 1))).reshape(sets.shape[:-1])


def random_sets(n_units: int, k: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """n sets of k different units out of n_units, each set equally likely; ints [n, k]."""
    if not 1 <= k <= n_units:
        raise ValueError(f"random_sets: cannot draw {k} different units out of {n_units}")
    rng, rows = checked_generator(rng), max(1, _CHUNK // n_units)
    parts = [rng.random((min(rows, n - start), n_units)).argpartition(k - 1)[:, :k] for start in range(0, n, rows)]
    return np.concatenate(parts)


def colocation(sets: ArrayLike, sheet: Sheet, n: int = 2_000, *, rng: np.random.Generator) -> Colocation:
    """Mean pairwise distance of each set against n random sets of as many places of the sheet.

    Args:
        sets: places, ints [n_sets, k], such as each class's top units.
        n: random sets, shared by all sets.
    Source: TopoSAE, EXP_019; p counts the observation (Phipson & Smyth 2010).
    """
    if n < 2:
        raise ValueError(f"colocation needs at least 2 random sets, got {n}")
    sets = _checked_sets(sets, sheet)
    null = mean_pairwise_distance(random_sets(sheet[0] * sheet[1], sets.shape[-1], n, rng), sheet)
    if np.ptp(null) <= 1e-9 * null.max():
        raise NullCannotMove(f"colocation: all sets of {sets.shape[-1]} places on {sheet} are as far apart; take fewer")
    distance, edge = mean_pairwise_distance(sets, sheet), 1e-9  # of summation order, so that ties count as ties
    closer = (1 + (null <= distance[..., None] + edge).sum(-1)) / (n + 1)
    return Colocation(distance, (distance - null.mean()) / null.std(ddof=1), closer, null)


def morans_i(maps: ArrayLike, sheet: Sheet) -> np.ndarray:
    """Moran's I of a map on the sheet, (n / Σw_ij) Σ w_ij y_i y_j / Σ y_i², y the map less its mean.

    w_ij = 1 for the places beside, above and below each other. Near 1 for a smooth map, -1 for a chessboard,
    -1/(n-1) on average for values in random places; nan for a constant map. [...] of maps [..., h w].

    Source: Moran 1950.
    """
    maps = _checked_maps(maps, sheet)
    height, width = sheet
    y = maps - maps.mean(-1, keepdims=True)
    y = y.reshape(*maps.shape[:-1], height, width)
    along = (y[..., :-1, :] * y[..., 1:, :]).sum((-1, -2)) + (y[..., :, :-1] * y[..., :, 1:]).sum((-1, -2))
    n_edges = (height - 1) * width + height * (width - 1)
    squares, scale = np.square(y).sum((-1, -2)), np.square(maps).sum(-1)
    varies = squares > 1e-20 * scale
    return np.divide(height * width * along, n_edges * squares, out=np.full(squares.shape, np.nan), where=varies)


def morans_i_null(maps: ArrayLike, sheet: Sheet, n: int, rng: np.random.Generator) -> np.ndarray:
    """Moran's I with the places permuted, the same permutations for all maps; [n, ...]."""
    maps, rng = _checked_maps(maps, sheet), checked_generator(rng)
    if n < 2:
        raise ValueError(f"morans_i_null needs at least 2 permutations, got {n}")
    null = np.stack([morans_i(maps[..., rng.permutation(maps.shape[-1])], sheet) for _ in range(n)])
    if not (np.ptp(null, axis=0) > 1e-9).any():
        raise NullCannotMove("morans_i_null: the maps read the same in every arrangement; are they constant?")
    return null


def correlation_profile(activations: ArrayLike, sheet: Sheet, n: int = 200, *, rng: np.random.Generator) -> Profile:
    """Mean correlation of the responses of two units by how far apart they stand, and the same on permuted sheets.

    Args:
        activations: [n_samples, h w], a column per place; columns that never change are left out.
        n: permuted sheets.
    """
    x, rng = _checked_maps(activations, sheet), checked_generator(rng)
    varies = np.flatnonzero(x.std(0) > 1e-12 * np.abs(x).max())
    if len(varies) < 2:
        raise ValueError("correlation_profile needs at least two units that vary")
    standard = (x[:, varies] - x[:, varies].mean(0)) / x[:, varies].std(0)
    correlations = standard.T @ standard / len(x)  # [n_varying, n_varying]
    steps = np.rint(distances(sheet)[np.ix_(varies, varies)]).astype(int)
    upper = np.triu_indices(len(varies), 1)
    bins, counts = steps[upper], np.bincount(steps[upper])
    found = np.flatnonzero(counts)
    orders = [np.arange(len(varies)), *(rng.permutation(len(varies)) for _ in range(n))]
    sums = [np.bincount(bins, correlations[order[upper[0]], order[upper[1]]])[found] for order in orders]
    means = np.stack(sums) / counts[found]  # [1 + n, n_distances]
    if n > 1 and np.ptp(means[1:], axis=0).max() <= 1e-9:
        raise NullCannotMove("correlation_profile: the arrangements drawn all read the same")
    return Profile(found.astype(float), means[0], means[1:])


def disc(centres: ArrayLike, k: int, sheet: Sheet) -> np.ndarray:
    """The k places nearest to each centre [...], itself first, of equally near ones the lower index; ints [..., k]."""
    n_places, centres = sheet[0] * sheet[1], np.asarray(centres)
    if not 1 <= k <= n_places or not ((centres >= 0) & (centres < n_places)).all():
        raise ValueError(f"disc: k = {k} or a centre does not fit the {sheet[0]} x {sheet[1]} sheet")
    return np.argsort(distances(sheet)[centres].round(9), axis=-1, kind="stable")[..., :k]


def _checked_sets(sets: ArrayLike, sheet: Sheet) -> np.ndarray:
    sets = np.asarray(as_array(sets))
    if sets.ndim < 1 or sets.shape[-1] < 2 or not np.issubdtype(sets.dtype, np.integer):
        raise ValueError(f"a set needs at least two places, ints [..., k], got {sets.dtype} {sets.shape}")
    if not ((sets >= 0) & (sets < sheet[0] * sheet[1])).all():
        raise ValueError(f"a set holds places off the {sheet[0]} x {sheet[1]} sheet")
    if not np.diff(np.sort(sets, axis=-1), axis=-1).all():
        raise ValueError("a set holds a place twice; its members must be different")
    return sets


def _checked_maps(maps: ArrayLike, sheet: Sheet) -> np.ndarray:
    maps = np.asarray(as_array(maps), dtype=float)
    if maps.ndim < 1 or maps.shape[-1] != sheet[0] * sheet[1] or maps.shape[-1] < 2:
        raise ValueError(f"maps on a {sheet[0]} x {sheet[1]} sheet must be [..., {sheet[0] * sheet[1]}], "
                         f"at least two places, got {maps.shape}")
    return finite(maps, "maps")
