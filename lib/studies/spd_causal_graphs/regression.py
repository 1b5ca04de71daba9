"""How well input components predict an output component, judged on images the fit has not seen.

X holds activations of input components [n, I], y one output component [n]. Scores are R2 = 1 - sum (y - ŷ)^2 /
sum (y - ȳ)^2 with ȳ the mean of the images that are scored.
"""
from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler


class Lasso(NamedTuple):
    """A Lasso with its penalty chosen by cross-validation, and what its two strongest predictors are worth."""

    slopes: np.ndarray
    """Coefficients of the standardised predictors, [I]."""
    order: np.ndarray
    """Predictors from the largest |slope| to the smallest, [I]."""
    held_out: float
    """R2 of the whole Lasso on held-out images."""
    top2: float
    """Held-out R2 of least squares on the two strongest predictors."""
    published: float
    """R2 of the whole Lasso on the images it was fitted to: what the source prints beside its two strongest."""


def lasso(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, folds: int = 5) -> Lasso:
    """Fit, select and score; predictors are standardised by the training images.

    Args:
        X, y: training images, [n, I] and [n]; X_test, y_test: held-out ones; folds: of the cross-validation.
    Source: report_components, Lasso regression; Tibshirani 1996, through scikit-learn.
    """
    _varies(y, y_test)
    scaler = StandardScaler().fit(X)
    Z, Z_test = scaler.transform(X), scaler.transform(X_test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at the weakest penalties, which are not chosen
        model = LassoCV(alphas=30, eps=1e-3, cv=KFold(folds), max_iter=2000).fit(Z, y)
    order = np.argsort(-np.abs(model.coef_), kind="stable")
    return Lasso(model.coef_, order, r2_score(y_test, model.predict(Z_test)), refit(Z, y, Z_test, y_test, order[:2]),
                 r2_score(y, model.predict(Z)))


def refit(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, own: np.ndarray) -> float:
    """Held-out R2 of least squares with an intercept on the predictors `own`, numbers."""
    return r2_score(y_test, _predict(X[:, own], y, X_test[:, own]))


def forward_order(X: np.ndarray, y: np.ndarray, most: int) -> np.ndarray:
    """Forward selection: the predictor that lowers the squared error most, again and again, int [<= most].

    Args:
        X: [n, I]; y: [n]; most: predictors to choose.
    Source: Efroymson 1960.
    """
    X, residual = X - X.mean(0), y - y.mean()
    left, scale, chosen = X.copy(), np.square(X).sum(0), []
    for _ in range(min(most, X.shape[1])):
        squares = np.square(left).sum(0)
        usable = squares > 1e-10 * np.maximum(scale, 1e-300)  # not yet explained by those chosen
        usable[chosen] = False
        if not usable.any():
            break
        gain = np.where(usable, np.square(left.T @ residual) / np.where(usable, squares, 1), -1)
        best = int(gain.argmax())
        unit = left[:, best] / np.sqrt(squares[best])
        residual = residual - unit * (unit @ residual)
        left = left - np.outer(unit, unit @ left)
        chosen.append(best)
    return np.array(chosen, dtype=int)


def stepwise(X: np.ndarray, y: np.ndarray, most: int, folds: int = 5) -> np.ndarray:
    """Nested cross-validated R2 of forward selection with k = 1..most predictors, then of all predictors.

    In each fold predictors are chosen and fitted on the other folds, and only then scored on this one.

    Args:
        X: [n, I]; y: [n]; most: the largest k; folds: of images, in their order (shuffle them beforehand).
    Returns:
        [most + 1]: R2 over all images at k = 1..most and with all predictors.
    """
    _varies(y)
    predicted = np.empty((most + 1, len(y)))
    for fit, score in KFold(folds).split(X):
        order = forward_order(X[fit], y[fit], most)
        for k in range(1, most + 1):
            own = order[:k]
            predicted[k - 1, score] = _predict(X[fit][:, own], y[fit], X[score][:, own])
        predicted[most, score] = _predict(X[fit], y[fit], X[score])
    return np.array([r2_score(y, row) for row in predicted])


def regress_all(X: np.ndarray, Y: np.ndarray, most: int, rng: np.random.Generator) -> dict[str, Any]:
    """Every regression of every output component; the first half of the images fits the Lasso, the second scores it.

    Args:
        X: [n, I]; Y: output components, [n, J]; most: largest k of stepwise regression; rng: permutes targets.
    Returns:
        scores, DataFrame with a row per output: top2, held_out and permuted (top2 of permuted targets); curves
        [J, most + 1]; curve_null [5, most + 1], of the first output permuted; slopes [I, J], of every Lasso.
    """
    half, rows, slopes, most = len(X) // 2, [], [], min(most, X.shape[1])
    fit_x, test_x = X[:half], X[half:]
    for y in Y.T:
        own = lasso(fit_x, y[:half], test_x, y[half:])
        shuffled = lasso(fit_x, rng.permutation(y[:half]), test_x, y[half:])
        slopes.append(own.slopes)
        rows.append({"top2": own.top2, "held_out": own.held_out, "permuted": shuffled.top2})
    return {"scores": pd.DataFrame(rows), "curves": np.array([stepwise(X, y, most) for y in Y.T]),
            "curve_null": np.array([stepwise(X, rng.permutation(Y[:, 0]), most) for _ in range(5)]),
            "slopes": np.stack(slopes, axis=1)}


def in_sample(X: np.ndarray, Y: np.ndarray, most: int, rng: np.random.Generator) -> dict[str, float]:
    """What the source prints, R2 on the images of the fit, median over outputs; with permuted targets for each.

    Args:
        X: [n, I]; Y: [n, J]; most: predictors of forward selection; rng: permutes targets.
    Returns:
        lasso, of the whole Lasso; steps, of least squares on the first `most` predictors of forward selection; all, on
        all predictors; lasso_null and steps_null, of permuted targets.
    Source: report_components, Lasso and stepwise forward regression.
    """
    def scores(y: np.ndarray) -> list[float]:
        return [lasso(X, y, X, y).published, refit(X, y, X, y, forward_order(X, y, most)),
                refit(X, y, X, y, np.arange(X.shape[1]))]

    own, null = (np.median([scores(y) for y in ys], axis=0) for ys in (Y.T, [rng.permutation(y) for y in Y.T]))
    return {"lasso": own[0], "steps": own[1], "all": own[2], "lasso_null": null[0], "steps_null": null[1]}


def _predict(X: np.ndarray, y: np.ndarray, X_new: np.ndarray) -> np.ndarray:
    """Least squares with an intercept."""
    mean = X.mean(0)
    coefficients = np.linalg.lstsq(X - mean, y - y.mean(), rcond=None)[0]
    return (X_new - mean) @ coefficients + y.mean()


def _varies(*targets: np.ndarray) -> None:
    if any(np.ptp(y) == 0 for y in targets):
        raise ValueError("the output component does not vary over these images, so nothing can predict it")
