"""Coders at many sparsities: the published batch-1 loop, what is chosen, and what a decline is."""
import numpy as np
import pandas as pd
import pytest
import torch

from lib.rng import generator
from lib.studies.sparse_coders_recovery import alignment, published_alone, train_aligned
from lib.studies.sparse_coders_recovery.tables import interval

GRID = {"seed": 0, "device": "cpu", "seeds": 2, "align_sparsities": (0.1, 0.9)}


def plain(x, seed, n, passes, lam=0.01, lr=0.001):
    """The published programme: one coder, one sample at a time, by torch.optim.Adam."""
    rng, m = np.random.RandomState(seed), x.shape[1]
    enc, dec = rng.normal(0, 0.01, (n, m)), rng.normal(0, 0.01, (m, n))
    W, V = (torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in (enc, dec))
    b, c = torch.zeros(n, requires_grad=True), torch.zeros(m, requires_grad=True)
    adam = torch.optim.Adam([W, V, b, c], lr=lr)
    for each in x.repeat(passes, 1):
        f = (W @ each + b).relu()
        adam.zero_grad()
        ((V @ f + c - each).square().sum() + lam * f.sum()).backward()
        adam.step()
    return W.detach(), V.detach().T


def test_the_batch_1_coders_are_those_of_the_published_loop():
    x = torch.rand(150, 3, 2, generator=generator(0, "x"))
    found = published_alone.train_coders(x, [5, 6], 7, 3)
    for i, seed in enumerate((5, 6)):
        W, V = plain(x[:, :, i], seed, 7, 3)
        assert torch.allclose(found["W_enc"][i], W, atol=2e-4) and torch.allclose(found["W_dec"][i], V, atol=2e-4)
    with pytest.raises(ValueError, match="2 coders, 3 seeds"):
        published_alone.train_coders(x, [1, 2, 3], 7, 1)


@pytest.mark.parametrize("recipe", ["good", "published"])
def test_a_row_per_model_with_finite_scores_and_their_nulls(recipe):
    if recipe == "good":
        own = train_aligned.Aligned(**GRID, toy_steps=60, align_steps=20, align_l1=(0.1, 0.4))
        rows = alignment.alignment(own)["rows"]
    else:
        rows = alignment.alignment_alone(train_aligned.Alone(**GRID, alone_samples=100, alone_passes=1))["rows"]
    assert len(rows) == 2 * 2 * len(train_aligned.WIDTHS) and list(rows.seed.unique()) == [0, 1]
    scores = [*alignment.SIMILARITIES, *(f"copy_{name}" for name in alignment.SIMILARITIES[:3])]
    assert np.isfinite(rows[[*scores, *(f"null_{name}" for name in scores)]]).all(axis=None)


def test_trained_coders_find_sparse_features_and_keep_the_largest_weight_that_reconstructs():
    own = train_aligned.Aligned(**GRID, toy_steps=1000, align_steps=1000, align_l1=(0.05, 0.2, 50.0))
    made = train_aligned.aligned(own, (10, 5))
    assert made["coder"]["W_dec"].shape == (2, 2, train_aligned.RUNS, 10, 5)
    assert np.allclose(np.linalg.norm(made["coder"]["W_dec"], axis=-1), 1, atol=1e-5)
    rng = generator(0, "judged")
    rows = [alignment._row(m, rng) for m in alignment._models(made, own.align_sparsities, rng)]
    sparse = [row for row in rows if row["sparsity"] == 0.9]
    assert all(row["recovery"] > 0.8 and row["agreement"] > row["null_agreement"] + 0.15 for row in sparse)
    assert all(row["fvu"] < 0.1 and row["alive"] > 0 for row in rows)  # not those of weight 50, which close


def test_a_decline_by_hand():
    """Seed 0: 10-5 falls by .3 where superposed, 5-5 rises by .1 between the same sparsities."""
    cells = [(10, 5, 0.1, 5, 0.9, 0.5), (10, 5, 0.9, 8, 0.6, 0.5), (5, 5, 0.1, 5, 0.8, 0.5), (5, 5, 0.9, 5, 0.9, 0.5)]
    cells += [(10, 5, 0.5, 5, 0.9, 0.5), (5, 5, 0.5, 5, 0.8, 0.5)]
    names = ["n_features", "n_hidden", "sparsity", "n_stored", "cka", "null_cka"]
    rows = pd.DataFrame(cells, columns=names).assign(seed=0)
    for name in alignment.SIMILARITIES[1:]:
        rows[[name, f"null_{name}"]] = rows[["cka", "null_cka"]]
    own, (chance, single) = alignment.declines(rows)["cka"]
    assert own[0] == pytest.approx(-0.3) and chance[0] == 0 and single[0] == pytest.approx(0.1)
    flat = alignment.declines(rows.assign(n_stored=5))["recovery"][0]
    assert flat.reindex([0]).isna().all()


def test_agreement_is_read_where_there_is_superposition_alone():
    rows = pd.DataFrame({"seed": [0, 0, 1], "n_hidden": 5, "n_stored": [5, 8, 5], "agreement": [0.1, 0.9, 0.3],
                         "null_agreement": 0.7})
    found = alignment.agreement(rows)
    assert found.agreement[0] == 0.9 and np.isnan(found.agreement[1])


def test_an_interval_needs_every_seed():
    assert interval([1.0, 3.0]).estimate == 2 and interval([1.0, 3.0]).holds(2)
    assert interval([2.0]).estimate == 2 and np.isnan(interval([2.0]).low)
    assert np.isnan(interval([1.0, np.nan]).low)
