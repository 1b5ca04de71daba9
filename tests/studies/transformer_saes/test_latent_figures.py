"""Figures of latents draw every latent they are given, and random directions in grey."""
from __future__ import annotations

import sys

import numpy as np
import pytest

from lib.rng import numpy_generator
from lib.studies.transformer_saes import figures


def rng():
    return numpy_generator(0, "test", "figures of latents")


def test_a_concept_map_draws_latents_by_rate_beside_random_directions():
    W = np.repeat(np.eye(6)[:2], 15, 0) + 0.1 * rng().normal(size=(30, 6))
    fig = figures.concept_map(W, np.linspace(0.01, 0.2, 30), rng())
    (left,), (right,) = (ax.collections for ax in fig.axes)
    assert len(left.get_offsets()) == len(right.get_offsets()) == 30
    assert (np.diff(left.get_sizes()) > 0).all()
    x = left.get_offsets()[:, 0]
    assert x[:15].max() < x[15:].min() or x[15:].max() < x[:15].min()  # two groups, along the first component
    said = [float(ax.get_xlabel().split("(")[1].split("%")[0]) for ax in fig.axes]
    assert said[0] > 80 > 40 > said[1]
    assert fig.numbers.panel.value_counts().tolist() == [30, 30]
    assert np.array_equal(fig.numbers[["x", "y"]][:30], left.get_offsets())
    assert fig.numbers.rate[:30].tolist() == np.linspace(0.01, 0.2, 30).tolist() and fig.numbers.rate[30:].isna().all()
    again = figures.concept_map(W, np.linspace(0.01, 0.2, 30), rng()).axes[0].collections[0]
    assert np.array_equal(again.get_offsets(), left.get_offsets())


def test_a_map_of_neighbours_needs_its_package(monkeypatch):
    W = rng().normal(size=(30, 6))
    with pytest.raises(ValueError, match='method must be "pca" or "umap", got \'tsne\''):
        figures.concept_map(W, np.ones(30), rng(), method="tsne")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        with pytest.raises(ImportError, match='pip install umap-learn, or take method="pca"'):
            figures.concept_map(W, np.ones(30), rng(), method="umap")


@pytest.mark.slow
def test_a_map_of_neighbours_gives_each_latent_a_place():
    pytest.importorskip("umap")  # compiles itself for a minute
    W = rng().normal(size=(30, 6))
    places = figures.concept_map(W, np.ones(30), rng(), method="umap").axes[0].collections[0].get_offsets()
    assert places.shape == (30, 2) and np.isfinite(places).all()


def test_the_raster_draws_lives_from_birth_to_death():
    nan = np.nan
    ax, side = figures.emergence([10, 0, nan, 50], [nan, nan, 10, nan], [0, 10, 50]).axes
    lives = [segment[:, 0].tolist() for lines in ax.collections for segment in lines.get_segments()]
    assert lives == [[0, 50], [10, 50], [50, 50], [0, 10]] and ax.collections[1].get_label() == "never born"
    assert ax.lines[0].get_xydata().tolist() == [[10, 3]]  # one death, on the row of the one never born
    born, dead = (line.get_ydata().tolist() for line in side.lines)
    assert born == [0.25, 0.5, 0.75] and dead == [0, 0.25, 0.25]


def test_histograms_share_an_axis_and_say_who_never_fires():
    fig = figures.rate_histograms({"TopK": [0, 0.01, 0.01, 1], "ReLU": [0.1, 0.2]})
    first, second = fig.axes
    assert [text.get_text() for text in first.texts] == ["TopK", "25% never"]
    assert sum(bar.get_height() for bar in first.patches) == pytest.approx(0.75)
    assert sum(bar.get_height() for bar in second.patches) == pytest.approx(1) and first.get_xlim() == second.get_xlim()
    assert first.lines[0].get_xdata()[0] == 0.01 and second.texts[1].get_text() == "0% never"
