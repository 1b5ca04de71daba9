"""What the small autoencoders are judged by, against numbers known from their construction."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from lib.rng import generator
from lib.studies.incidental_polysemanticity.leaky_sae import LeakySAE, scaled
from lib.studies.incidental_polysemanticity.network import Cell, train
from lib.studies.incidental_polysemanticity.report import (
    fvu_rows,
    judged,
    matched_cosine,
    published_metrics,
    z_scored,
)


@pytest.fixture(scope="module")
def network():
    return train([Cell(), Cell(act="gelu")], range(2), steps=3)


def random_sae(rows, d=12, label="a", slope=0.01):
    drawn = torch.randn(2, rows, 16, d, generator=generator(0, label))
    return LeakySAE(drawn[0], torch.zeros(rows, 16), drawn[1], slope)


def test_scaled_activations_have_root_mean_square_one_and_held_out_ones_the_same_unit():
    acts = torch.tensor([[3.0, 4.0], [0.0, 0.0]])[None]  # mean square 25/4
    assert scaled(acts)[0, 0].tolist() == pytest.approx([1.2, 1.6])
    assert scaled(acts, 2 * acts)[0, 0].tolist() == pytest.approx([2.4, 3.2])


def test_unexplained_variance_by_hand_and_of_a_collapsed_layer():
    """x = 0, 2: variance sum 2; x̂ = 1, 2: error 1. A constant has no variance to explain."""
    x = torch.tensor([[[0.0], [2.0]], [[5.0], [5.0]]])
    found = fvu_rows(x, torch.tensor([[[1.0], [2.0]], [[5.0], [5.0]]]))
    assert found[0] == 0.5 and found[1].isnan()


def test_z_scored_units():
    z = z_scored(torch.tensor([[[1.0], [3.0]]]))
    assert z.flatten().tolist() == pytest.approx([-(2**-0.5), 2**-0.5])


def test_a_decoder_of_the_features_recovers_all_of_them():
    """8 orthogonal features, 8 of 16 latents along them: every matched cosine is 1; of others, .6."""
    features = np.eye(12)[:8]
    decoder = np.vstack([3 * features, -features])
    assert matched_cosine(features, decoder) == pytest.approx(1)
    assert matched_cosine(features, 0.6 * np.eye(12)[:8] + 0.8 * np.eye(12)[[8] * 8]) == pytest.approx(0.6)


def test_judged_counts_activity_above_zero_only(network):
    """A negative slope makes no latent active: with biases far below 0 all latents are dead."""
    sae = random_sae(4)
    off = sae._replace(b_enc=torch.full((4, 16), -100.0))
    found = judged(off, network)
    assert (found["dead"] == 1).all() and (found["l0"] == 0).all()
    on = judged(sae._replace(b_enc=torch.full((4, 16), 100.0)), network)
    assert (on["l0"] == 16).all() and (on["dead"] == 0).all()


def test_judged_keeps_cells_and_seeds_in_order(network):
    """Row 3 is the second cell's second seed: judging that network alone gives the same numbers."""
    sae = random_sae(4)
    whole = judged(sae, network)
    one = network._replace(
        acts=network.acts[1:, 1:], val_acts=network.val_acts[1:, 1:], features=network.features[1:],
        val_features=network.val_features[1:],
    )
    parts = LeakySAE(sae.W_enc[3:], sae.b_enc[3:], sae.W_dec[3:], sae.slope)
    for name, values in judged(parts, one).items():
        assert float(values[0]) == pytest.approx(float(whole[name][3]), rel=1e-5), name


def test_published_metrics_divide_by_a_null_that_does_not_move():
    found = published_metrics(random_sae(3), torch.randn(3, 50, 12, generator=generator(1)), generator(2))
    assert (found["null_sd"] < 1e-6).all() and ((found["calibrated"] >= 0) & (found["calibrated"] <= 1)).all()
    assert found["interference"].shape == (3,) and (found["sae_mse"] > 0).all()
