"""Models that follow the exact expected loss: phase diagrams, two known minima, and the course of training."""
from __future__ import annotations

import numpy as np
from pydantic import Field

from lib.metrics import superposition as metric
from lib.metrics import superposition_theory as theory
from lib.press.runs import reuse
from lib.studies.superposition_phases import train_exact
from lib.studies.superposition_phases.common import Arrays, Device, Restarts, Root, Steps, arrays, tensor


class Phases(Root):
    """What the phase diagrams take."""

    phase_grid: int = Field(ge=4, le=96, description="cells per side of each phase diagram")
    phase_restarts: int = Field(ge=2, le=64, description="restarts per cell")
    phase_steps: int = Field(ge=100, le=10000, description="exact-gradient steps per cell")


class Varied(Device):
    """What the two minima under one varied feature take; nothing there is drawn."""

    steps: Steps
    varied_factors: int = Field(ge=3, le=41, description="values of the varied feature's density or importance")


class Dynamics(Root):
    """What the course of training takes."""

    restarts: Restarts
    steps: Steps


def phase_diagram(params: Phases, n_features: int = 2) -> Arrays:
    """Part 3: density x importance by exact expected loss, n features in n - 1 dimensions, n = 2 or 3.

    Returns:
        density [G] in [.01, 1]; importance [G] in [.1, 10], that of the last ("extra") feature, the others 1.
        The rest is [density, importance, ...]: loss [G, G, R]; W [G, G, m, n] best; norm [G, G, n] of it;
        phase [G, G] measured and theory [G, G], indices into lib.metrics.superposition_theory.PHASES;
        theory_loss [G, G, 3]; agreeing [G, G], share of restarts within 2 % of the cell's best loss.
    """
    density, extra = np.logspace(-2, 0, params.phase_grid), np.logspace(-1, 1, params.phase_grid)
    size = n_features, params.phase_restarts, params.phase_steps
    found = reuse(train_exact.phases, params, density, extra, *size)
    at = extra[None, :], density[:, None], n_features
    found |= {"phase": theory.measured_phase(found["W"]), "theory": theory.predicted_phase(*at)}
    found |= {"density": density, "importance": extra, "theory_loss": theory.phase_losses(*at)}
    return found | arrays(norm=metric.feature_norms(tensor(params, found["W"])))


def varied_feature(params: Varied, what: str = "density", factors: np.ndarray | None = None) -> Arrays:
    """Part 5: n=5, m=2, S=.9, feature 0's density or importance times a factor; the exact loss of both known minima.

    Args:
        what: "density" or "importance".
        factors: default params.varied_factors of them in [.15, 2.5].
    Returns:
        factor [F]; W [F, 2, m, n], b [F, 2, n] and loss [F, 2] (exact, over zero), second axis (pentagon, pairs);
        n_represented [F, 2], features with |W_i| > .5, so that a start that left its minimum shows (5 and 4).
    Raises:
        ValueError: `what` is neither.
    """
    if what not in ("density", "importance"):
        raise ValueError(f"what must be density or importance, got {what!r}")
    axis = np.geomspace(0.15, 2.5, params.varied_factors) if factors is None else np.asarray(factors)
    p, importance = np.full((len(axis), 5), 0.1, np.float32), np.ones((len(axis), 5), np.float32)
    (p if what == "density" else importance)[:, 0] *= axis.astype(np.float32)
    found = reuse(train_exact.minima, params, p, importance, params.steps)
    return {"factor": axis} | found | arrays(n_represented=metric.n_represented(tensor(params, found["W"])))


def dynamics(params: Dynamics) -> Arrays:
    """Part 7: loss and D_i along training, n=5, m=2, equal importance, S=.95, exact expected loss, small start.

    Returns:
        step [T]; loss [T, R], over zero; D [T, R, n]; W [T, R, m, n]; each taken after `step` updates.
    """
    found = reuse(train_exact.curves, params, params.restarts, params.steps)
    return found | arrays(D=metric.feature_dimensionality(tensor(params, found["W"])))
