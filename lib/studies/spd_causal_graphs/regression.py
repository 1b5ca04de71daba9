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
from sklearn.linear_model import LassoCV, lars_path, lasso_path
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler


class Lasso(NamedTuple):
    """A Lasso with its penalty chosen by cross-validation, and what its selection is worth on held-out images."""

    order: np.ndarray
    """Predictors from the largest |standardised coefficient| to the smallest, [I]."""
    support: np.ndarray
    """Predictors the 1-SE rule keeps, bool [I]."""
    held_out: float
    """R2 of the Lasso of least cross-validated error on held-out images."""
    refit: float
    """Held-out R2 of least squares on the support."""
    top2: float
    """Held-out R2 of least squares on the two strongest predictors."""
    published: float
    """R2 of the whole Lasso on the images it was fitted to: what the source prints beside its two strongest."""


def lasso(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, folds: int = 5) -> Lasso:
    """Fit, select and score; predictors are standardised by the training images.

    The 1-SE rule takes the largest penalty whose cross-validated error is within one standard error of the least.

    Args:
        X, y: training images, [n, I] and [n]; X_test, y_test: held-out ones; folds: of the cross-validation.
    Source: report_components, Lasso regression; Tibshirani 1996, through scikit-learn; Breiman et al. 1984 (1 SE).
    """
    _varies(y, y_test)
    scaler = StandardScaler().fit(X)
    Z, Z_test = scaler.transform(X), scaler.transform(X_test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # at the weakest penalties, which are not chosen
        model = LassoCV(alphas=30, eps=1e-3, cv=KFold(folds), max_iter=2000).fit(Z, y)
        error = model.mse_path_.mean(1)  # penalties fall
        limit = error.min() + model.mse_path_[error.argmin()].std(ddof=1) / np.sqrt(folds)
        alpha = model.alphas_[np.flatnonzero(error <= limit)[0]]
        coefficients = lasso_path(Z - Z.mean(0), y - y.mean(), alphas=[alpha])[1][:, 0]
    order, support = np.argsort(-np.abs(model.coef_), kind="stable"), coefficients != 0
    top = np.isin(np.arange(X.shape[1]), order[:2])
    return Lasso(order, support, r2_score(y_test, model.predict(Z_test)), refit(Z, y, Z_test, y_test, support),
                 refit(Z, y, Z_test, y_test, top), r2_score(y, model.predict(Z)))


def refit(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, support: np.ndarray) -> float:
    """Held-out R2 of least squares with an intercept on the predictors in `support`, bool [I]."""
    return r2_score(y_test, _predict(X[:, support], y, X_test[:, support]))


def top2_residuals(fit: Lasso, X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray) -> np.ndarray:
    """Held-out residuals of least squares on the two strongest predictors, [n_test], for a bootstrap over images."""
    best = fit.order[:2]
    return y_test - _predict(X[:, best], y, X_test[:, best])


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


def permuted_stepwise(X: np.ndarray, y: np.ndarray, most: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """`stepwise` of permuted targets: what selection scores when nothing is there to select, [draws, most + 1]."""
    return np.array([stepwise(X, rng.permutation(y), most) for _ in range(draws)])


def stability_selection(
    X: np.ndarray, y: np.ndarray, rng: np.random.Generator, draws: int = 50, chosen: int = 10
) -> np.ndarray:
    """How often each predictor is among the first `chosen` of a Lasso path fitted to a random half of the images, [I].

    Source: Meinshausen & Buehlmann 2010.
    """
    counts = np.zeros(X.shape[1])
    for _ in range(draws):
        half = rng.permutation(len(y))[: len(y) // 2]
        Z = StandardScaler().fit_transform(X[half])  # the path has no intercept
        _, active, _ = lars_path(Z, y[half] - y[half].mean(), method="lasso", max_iter=chosen)
        counts[active[:chosen]] += 1
    return counts / draws


def regress_all(X: np.ndarray, Y: np.ndarray, most: int, rng: np.random.Generator) -> dict[str, Any]:
    """Every regression of every output component; the first half of the images fits the Lasso, the second scores it.

    Args:
        X: [n, I]; Y: output components, [n, J]; most: largest k of stepwise regression; rng: permutations, resampling.
    Returns:
        scores, DataFrame with a row per output: top2, held_out, refit, published, permuted (top2 of permuted targets)
            and support, a count; top2_images, median over outputs of top2 for images resampled; curves [J, most + 1];
        curve_null [5, most + 1], of the first output permuted; stability [I, J].
    """
    half, rows, residuals, most = len(X) // 2, [], [], min(most, X.shape[1])
    fit_x, test_x = X[:half], X[half:]
    for y in Y.T:
        own = lasso(fit_x, y[:half], test_x, y[half:])
        shuffled = lasso(fit_x, rng.permutation(y[:half]), test_x, y[half:]).top2
        residuals.append(top2_residuals(own, fit_x, y[:half], test_x, y[half:]))
        rows.append({"top2": own.top2, "held_out": own.held_out, "refit": own.refit, "support": int(own.support.sum()),
                     "published": own.published, "permuted": shuffled})
    errors, totals = np.square(residuals), np.square(Y[half:] - Y[half:].mean(0)).T  # [J, n]
    counts = rng.multinomial(errors.shape[1], np.full(errors.shape[1], 1 / errors.shape[1]), size=500)
    resampled = np.median(1 - (errors @ counts.T) / (totals @ counts.T), axis=0)
    stable = [stability_selection(X, y, rng, draws=20, chosen=min(10, most)) for y in Y.T]
    return {"scores": pd.DataFrame(rows), "top2_images": resampled, "stability": np.array(stable).T,
            "curves": np.array([stepwise(X, y, most) for y in Y.T]),
            "curve_null": permuted_stepwise(X, Y[:, 0], most, 5, rng)}


def _predict(X: np.ndarray, y: np.ndarray, X_new: np.ndarray) -> np.ndarray:
    """Least squares with an intercept."""
    mean = X.mean(0)
    coefficients = np.linalg.lstsq(X - mean, y - y.mean(), rcond=None)[0]
    return (X_new - mean) @ coefficients + y.mean()


def _varies(*targets: np.ndarray) -> None:
    if any(np.ptp(y) == 0 for y in targets):
        raise ValueError("the output component does not vary over these images, so nothing can predict it")
