"""Coders at many sparsities: the published batch-1 loop, what is chosen, and what a decline is."""
import numpy as np
import pandas as pd
import pytest
import torch

from lib.rng import generator
from lib.studies.sparse_coders_recovery import alignment, published_alone, train_aligned

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
    assert len(rows) == 2 * 2 * len(train_aligned.WIDTHS) == 24 and list(rows.seed.unique()) == [0, 1]
    scores = [*alignment.SIMILARITIES, *(f"copy_{name}" for name in alignment.SIMILARITIES[:3])]
    assert np.isfinite(rows[[*scores, *(f"null_{name}" for name in scores)]]).all(axis=None)


def test_trained_coders_find_sparse_features_and_keep_the_largest_weight_that_reconstructs():
    own = train_aligned.Aligned(**GRID, toy_steps=1000, align_steps=1000, align_l1=(0.05, 0.2, 50.0))
    made = train_aligned.aligned(own, (10, 5, 10))
    assert made["coder"]["W_dec"].shape == (2, 2, train_aligned.RUNS, 10, 5)
    assert np.allclose(np.linalg.norm(made["coder"]["W_dec"], axis=-1), 1, atol=1e-5)
    rng = generator(0, "judged")
    rows = [alignment._row(m, rng) for m in alignment._models(made, own.align_sparsities, rng)]
    sparse = [row for row in rows if row["sparsity"] == 0.9]
    assert all(row["recovery"] > 0.8 and row["agreement"] > row["null_agreement"] + 0.15 for row in sparse)
    assert all(row["fvu"] < 0.1 and row["alive"] > 0 for row in rows)  # not those of weight 50, which close


def contrast():
    """Two seeds: 10-5 superposes at .5 and .9 and lies .2 and .4 below 5-5 with 10 latents, chance .1 below."""
    cells = [(10, 0.1, 5, 0.3, 0.5), (10, 0.5, 8, 0.5, 0.5), (10, 0.9, 9, 0.4, 0.5),
             (5, 0.1, 5, 0.9, 0.6), (5, 0.5, 5, 0.7, 0.6), (5, 0.9, 5, 0.8, 0.6)]
    names = ["n_features", "sparsity", "n_stored", "cka", "null_cka"]
    rows = pd.DataFrame(cells, columns=names).assign(n_hidden=5, n_latents=10)
    cka = rows.cka.where(rows.n_features == 5, 0.6)
    wider = rows.assign(n_latents=20, n_features=rows.n_features.replace(10, 20), cka=cka)
    both = pd.concat([each.assign(seed=seed) for seed in (0, 1) for each in (rows, wider)], ignore_index=True)
    for name in alignment.SIMILARITIES[1:]:
        both[[name, f"null_{name}"]] = both[["cka", "null_cka"]]
    return both


def test_a_difference_by_hand():
    """10-5: (-.2 - .4) / 2; 20-5: ((.6 - .7) + (.6 - .8)) / 2; their mean."""
    own, (chance, none) = alignment.differences(contrast())["cka"]
    assert list(own) == pytest.approx([(-0.3 - 0.15) / 2] * 2) and list(chance) == pytest.approx([-0.1] * 2)
    assert none == 0


def test_a_seed_that_lacks_a_superposing_width_has_no_difference_and_a_width_that_none_has_is_left_out():
    rows = contrast()
    lacking = rows.n_features.eq(20) & rows.seed.eq(1)
    own = alignment.differences(rows.assign(n_stored=rows.n_stored.mask(lacking, 5)))["recovery"][0]
    assert own[0] == pytest.approx(-0.225) and np.isnan(own[1])
    own = alignment.differences(rows.assign(n_stored=rows.n_stored.mask(rows.n_features.eq(20), 5)))["recovery"][0]
    assert list(own) == pytest.approx([-0.3] * 2)
    assert alignment.differences(rows.assign(n_stored=5))["recovery"][0].reindex([0, 1]).isna().all()


def test_the_model_without_superposition_is_one_for_every_number_of_latents():
    own = train_aligned.Aligned(**GRID, toy_steps=60, align_steps=20, align_l1=(0.1, 0.4))
    few, many = (train_aligned.aligned(own, (5, 5, latents)) for latents in (10, 20))
    assert np.array_equal(few["toy"]["W"], many["toy"]["W"]) and many["coder"]["W_dec"].shape == (2, 2, 2, 20, 5)


def test_no_second_coder_starts_as_a_first_of_another_root():
    firsts = {1000 * root + seed for root in range(50) for seed in range(100)}
    seconds = {train_aligned.start_of(seed, 1) for seed in firsts}
    assert len(seconds) == len(firsts) and seconds.isdisjoint(firsts)
    assert train_aligned.start_of(1003, 0) == 1003 and max(seconds) < 2**32


def test_agreement_is_read_where_there_is_superposition_alone():
    rows = pd.DataFrame({"seed": [0, 0, 1], "n_hidden": 5, "n_stored": [5, 8, 5], "agreement": [0.1, 0.9, 0.3],
                         "null_agreement": 0.7})
    found = alignment.agreement(rows)
    assert found.agreement[0] == 0.9 and np.isnan(found.agreement[1])
