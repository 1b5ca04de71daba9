"""What pooling items of few seeds does to a test: the printed tests with their own unit and with the seed as it."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from lib.metrics.statistics import holm, paired_dz, paired_permutation_test, sample


class MeanTest(NamedTuple):
    """A paired test of b against a with the seed as the unit."""

    n: int
    difference: float
    """mean b - mean a; of logs where asked for."""
    t: float
    df: int
    p_value: float
    d_z: float
    """Mean over spread of the seeds' differences."""


def seed_test(a: ArrayLike, b: ArrayLike, log: bool = False) -> MeanTest:
    """Student's paired test of one value per seed, t = mean(b - a) / (sd / sqrt(n)), df = n - 1.

    Args:
        a, b: one value per seed, [n_seeds] each, in the same order of seeds.
        log: test the logs, for ratios.
    """
    a, b = _per_seed(a, b, log)
    d = paired_dz(b, a)
    return MeanTest(len(a), float((b - a).mean()), float(d * np.sqrt(len(a))), len(a) - 1, p_of_d(d, len(a)), d)


def p_of_d(d: float, n: int, paired: bool = True) -> float:
    """Two-sided p of Student's test from its printed effect.

    Args:
        d: mean over spread of n differences; not paired: over the spread of the items of either side.
        n: differences, or items a side.
    """
    t, df = (d * np.sqrt(n), n - 1) if paired else (d * np.sqrt(n / 2), 2 * n - 2)
    return float(2 * stats.t.sf(abs(t), df))


def sign_flip_p(a: ArrayLike, b: ArrayLike, log: bool = False) -> float:
    """Exact two-sided sign-flip p of one value per seed; never below 2 / 2^n: .25 for three seeds."""
    a, b = _per_seed(a, b, log)
    if len(a) > 16:
        raise ValueError(f"sign_flip_p counts every pattern, which {len(a)} seeds are too many for")
    return paired_permutation_test(b, a, 2**16, rng=np.random.default_rng(0)).p_value  # exact, so nothing is drawn


def within_arms(x: ArrayLike, y: ArrayLike) -> float:
    """Two-sided p of the correlation of x and y, [arms, seeds], that the arms' own means do not make."""
    x, y = (a - np.mean(a, axis=1, keepdims=True) for a in (np.asarray(x), np.asarray(y)))
    return p_of_r2(float((x * y).sum() ** 2 / ((x**2).sum() * (y**2).sum())), x.size - len(x) - 1)


def p_of_r2(r2: float, df: int) -> float:
    """Two-sided p of a straight line from its share of explained variance."""
    return float(2 * stats.t.sf(np.sqrt(r2 * df / (1 - r2)), df))


def printed_tests(prints: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Every test the source prints, with its own unit and with the seed as the unit.

    Args:
        prints: of the claims, by id.
    Returns:
        As printed: effect, p and unit. p, again: from the printed effect with that unit. p, seed as unit: paired, of
        the values per seed in the source's files; of EXP_010, whose nine models are of three arms, within the arms.
        Holm: of those.
    """
    h2, h3, near, own = (prints[id] for id in ("TL-3", "TL-4", "TL-5", "TL-2"))
    n, (d_mid, d_topo), d, seeds = int(h3["items"]), h3["d at 0.1 and at 1"], h2["d of l0"], int(h2["seeds"])
    l0, accuracy, ratio = ([source[f"{what} by seed at topo_weight {a}"] for a in ("0", "0.1", "1")]
                           for source, what in ((h2, "l0"), (h2, "accuracy"), (h3, "ratio")))
    apart = [near[f"distance by seed at topo_weight {a}"] for a in ("0", "1")]
    rises, pairs = own["rise of the mean in its own file, by seed"], f"{n} pairs of class and seed"
    models, r2 = 3 * seeds, h2["R2 of l0 on accuracy"]
    rows = {
        "H2, l0 at 1": [f"d = {d:g}", f"{h2['p of l0']:g}", f"{seeds} seeds", p_of_d(d, seeds), _p(l0[0], l0[2])],
        "H3, ratio at 0.1": [f"d = {d_mid:g}", h3["p at 0.1 and at 1"], pairs, p_of_d(d_mid, n), _p(*ratio[:2])],
        "H3, ratio at 1": [f"d = {d_topo:g}", h3["p at 0.1 and at 1"], pairs, p_of_d(d_topo, n), _p(*ratio[::2])],
        "EXP_010, l0 on accuracy": [f"R2 = {r2:g}", f"{h2['p of that R2']:g}", f"{models} models",
                                    p_of_r2(r2, models - 2), within_arms(accuracy, l0)],
        "EXP_012b, latents at 1": [own["result"], "", "", np.nan, _p(np.zeros(len(rises)), rises)],
        "EXP_019, distance at 1": [f"d = {near['d']:g}", f"{near['p']:g}", f"{n} class sets a side",
                                   p_of_d(near["d"], n, paired=False), _p(*apart)],
    }
    columns = ["effect", "p, as printed", "its unit", "p, again", "p, seed as unit"]
    table = pd.DataFrame.from_dict(rows, "index", columns=columns).rename_axis("printed test")
    return table.assign(Holm=holm(table["p, seed as unit"]))


def _p(a: ArrayLike, b: ArrayLike) -> float:
    return seed_test(a, b).p_value


def shown(tests: pd.DataFrame) -> pd.DataFrame:
    """`printed_tests` for a page: two digits, and where there is none, that it is not printed."""
    told = tests.map(lambda x: f"{x:.2g}" if isinstance(x, float) else x)
    return told.replace(["", "nan"], "not printed")


def _per_seed(a: ArrayLike, b: ArrayLike, log: bool) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if log and not ((a > 0).all() and (b > 0).all()):
        raise ValueError("logs need values above 0")
    return sample(np.log(a) if log else a, "a"), sample(np.log(b) if log else b, "b")
