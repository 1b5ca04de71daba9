"""Runs with a known answer return what they say, seed by seed."""
import numpy as np
import torch

from lib.spd.known_answers import recover_toy_model
from lib.spd.metrics import identity_error, recovery

TINY = {"steps": 15, "batch_size": 64, "warmup_steps": 5, "n_components": 8, "seeds": [0, 1]}


def test_toy_model():
    run = recover_toy_model(5, 2, restarts=4, null_draws=10, drop_zero_rows=True, **TINY)
    assert run["W"].shape == (2, 5) and run["loss"].shape == (2,)
    assert set(run["importance"]) == set(run["identity_error"]) == {"linear1", "linear2"}
    assert run["importance"]["linear1"].shape == (2, 5, 8)
    for seed in range(2):
        V, U = (torch.tensor(run[part]["linear1"][seed]) for part in "VU")
        again = recovery(V, U, torch.tensor(run["W"]))
        assert np.allclose(again.mmcs, run["mmcs"]["linear1"][seed])
        assert run["identity_error"]["linear2"][seed] == identity_error(run["importance"]["linear2"][seed])
    assert np.ptp(run["null_mmcs"]) > 0 and np.ptp(run["null_whole"]) > 0
