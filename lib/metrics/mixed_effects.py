"""Linear mixed models: effects of conditions when runs share seeds, classes or both."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.tools.sm_exceptions import ConvergenceWarning, SingularMatrixWarning

from lib.metrics.statistics import Interval


class MixedFit(NamedTuple):
    """A fitted mixed model: its fixed effects with intervals, and how much each source of variation varies."""

    effects: pd.DataFrame
    """One row per term of the formula; columns estimate, low, high, p_value."""
    deviations: pd.Series
    """Standard deviation of every component, and of the residual (index "residual")."""
    df: int
    """Degrees of freedom of the intervals."""

    def interval(self, term: str) -> Interval:
        """The effect of one term as an Interval."""
        return Interval(*(float(self.effects.at[term, name]) for name in ("estimate", "low", "high")))


def mixed_effects(runs: pd.DataFrame, formula: str, components: Sequence[str], level: float = 0.95) -> MixedFit:
    """Fixed effects of a formula with crossed random intercepts, y = X beta + sum_c Z_c u_c + e, by REML.

    u_c ~ N(0, s_c^2) has one value per level of component c. Intervals and p-values use Student's t with
    (levels of the smallest component - 1) degrees of freedom, so that few seeds give wide intervals however many rows
    they have; with hundreds of levels they are the usual normal ones. An effect that itself varies between seeds needs
    a component of its own, "seed:treatment", which makes the seed the unit of that effect too.

    Args:
        runs: one row per observation.
        formula: fixed part, such as "loss ~ C(penalty) * C(noise)" (patsy's language).
        components: columns whose levels carry a random intercept, crossed; "a:b" is one per pair of levels.
        level: coverage of the intervals.
    Source: Pinheiro & Bates 2000, chapter 2, through statsmodels.
    """
    levels = {name: _levels(runs, name) for name in components}
    if not levels:
        raise ValueError("mixed_effects needs at least one component, such as 'seed'; without one use least squares")
    if absent := [name for name in runs if str(name) in formula and runs[name].isna().any()]:
        raise ValueError(f"mixed_effects: missing values in {', '.join(absent)}; decide what they mean first")
    fitted = _fit(runs, formula, levels)
    df = min(len(np.unique(codes)) for codes in levels.values()) - 1
    errors = _standard_errors(fitted)
    half = stats.t.ppf((1 + level) / 2, df) * errors
    estimate = fitted.fe_params
    p = 2 * stats.t.sf(np.abs(estimate / errors), df)
    effects = pd.DataFrame({"estimate": estimate, "low": estimate - half, "high": estimate + half, "p_value": p})
    spread = np.sqrt([*np.maximum(fitted.vcomp, 0), fitted.scale])
    return MixedFit(effects.rename_axis("term"), pd.Series(spread, [*sorted(levels), "residual"]), df)


def _levels(runs: pd.DataFrame, name: str) -> np.ndarray:
    """The level of every row as whole numbers, [n_rows]."""
    columns = name.split(":")
    if unknown := [column for column in columns if column not in runs]:
        raise ValueError(f"mixed_effects: no column {', '.join(unknown)}; there are {', '.join(map(str, runs))}")
    if absent := [column for column in columns if runs[column].isna().any()]:
        raise ValueError(f"mixed_effects: missing values in {', '.join(absent)}; decide what they mean first")
    codes = runs.groupby(columns, observed=True).ngroup().to_numpy()
    n = len(np.unique(codes))
    if n < 2 or n == len(runs):
        raise ValueError(f"mixed_effects: component {name} has {n} levels in {len(runs)} rows; it needs two or more "
                         "levels and fewer levels than rows")
    return codes


def _fit(runs: pd.DataFrame, formula: str, levels: dict[str, np.ndarray]):
    """statsmodels' fit with all rows in one group and one variance component per name, in alphabetical order."""
    table = runs.assign(**{f"level_{i}": levels[name] for i, name in enumerate(sorted(levels))})
    parts = {f"c{i:02}": f"0 + C(level_{i})" for i in range(len(levels))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it also warns of a variance of 0, which is an answer
        warnings.simplefilter("ignore", SingularMatrixWarning)
        model = smf.mixedlm(formula, table, groups=np.zeros(len(table)), vc_formula=parts)
        # L-BFGS stops early and calls it converged, so two other searches run and the likelier end counts
        fitted = max((model.fit(reml=True, method=[way]) for way in ("bfgs", "powell")), key=attrgetter("llf"))
    if not fitted.converged:
        raise ValueError(f"mixed_effects: {formula} with {', '.join(levels)} did not converge; use fewer components")
    return fitted


def _standard_errors(fitted) -> pd.Series:
    """Of the fixed effects, sqrt diag (X' V^-1 X)^-1 with V = s^2 I + Z Z', Z the stacked s_c Z_c; by Woodbury.

    statsmodels inverts the Hessian of all parameters instead, which fails where a component's variance is 0.
    """
    X, names = fitted.model.exog, fitted.fe_params.index
    parts = zip(fitted.vcomp, fitted.model.exog_vc.mats, strict=True)
    Z = np.hstack([np.sqrt(max(variance, 0)) * mats[0] for variance, mats in parts])  # [n_rows, levels of all]
    inner = fitted.scale * np.eye(Z.shape[1]) + Z.T @ Z
    information = (X.T @ X - X.T @ Z @ np.linalg.solve(inner, Z.T @ X)) / fitted.scale
    return pd.Series(np.sqrt(np.diag(np.linalg.inv(information))), names)
