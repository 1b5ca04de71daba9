"""Figures of the study: they draw what they are given, label it, and stay readable."""
import numpy as np
import pandas as pd
import pytest

from lib.metrics.statistics import Interval
from lib.studies.superposition_phases import figures as superposition


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


@pytest.fixture
def arms():
    cells = [(s, seed) for s in (0.8, 0.85, 0.9) for seed in range(4)]
    runs = pd.DataFrame(cells, columns=["sparsity", "seed"])
    runs["zero_loss"], runs["heldout_loss"] = 1 - runs.sparsity, 0.02 + 0.001 * runs.seed
    runs["n_missed"] = runs.seed % 3
    return {"as published": runs, "trained well": runs.assign(heldout_loss=0.01)}


def test_loss_curves_show_every_seed_behind_every_mean(arms):
    zero = arms["as published"].groupby("sparsity").zero_loss.first()
    fig = superposition.loss_curves(arms, zero, (0.82, 0.87), "claimed")
    raw, normalised = fig.axes
    assert len(raw.lines) == 2 * (4 + 1) + 1 and len(normalised.lines) == 2 * (4 + 1) + 1
    assert {"as published", "trained well", "claimed", "zero predictor (null)"} <= set(texts(fig))
    ratio = normalised.lines[4].get_ydata()
    assert np.allclose(ratio, np.array([0.0215] * 3) / zero.to_numpy())


def test_labels_of_a_short_axis_stay_inside_it(arms):
    """A sweep of the claimed region alone: what stands at S = 0.1 elsewhere stands at the first sparsity."""
    short = {label: runs.query("sparsity >= 0.85") for label, runs in arms.items()}
    zero = short["as published"].groupby("sparsity").zero_loss.first()
    raw, normalised = superposition.loss_curves(short, zero, (0.82, 0.87), "claimed").axes
    placed = {text.get_text(): text for ax in (raw, normalised) for text in ax.texts}
    assert placed["zero predictor (null)"].xy[0] == 0.85 and placed["claimed"].get_ha() == "left"


def test_peak_causes_draws_a_dot_per_seed(arms):
    shares = {"as published": Interval(0.4, 0.2, 0.6), "trained well": Interval(0.0, 0.0, 0.2)}
    left, right = superposition.peak_causes(shares, arms, 0.85, chance=0.5).axes
    assert [len(line.get_xdata()) for line in right.lines] == [4, 4]
    assert [t.get_text() for t in left.get_xticklabels()] == list(shares)
    assert [0.5, 0.5] in [list(line.get_ydata()) for line in left.lines]
