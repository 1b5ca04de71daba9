"""The batched replica is the published loop, digit for digit where floats allow."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_numpy_loop import train as plain_train

from lib.models import published_toy as published


def test_replica_equals_the_plain_loop_after_ten_thousand_float64_steps():
    n, k, importance = 20, 5, 0.7 ** np.arange(20)
    # At S = .95 the loop itself turns a change of 1e-15 in its start into 1e-7 by then: nothing could be compared.
    cells = [(0.3, 0), (0.7, 1), (0.85, 2)]
    data = [published.legacy_toy_data(seed, n, sparsity, 5000) for sparsity, seed in cells]
    start = [published.legacy_init(seed, n, k) for _, seed in cells]
    weights = torch.tensor(importance).expand(3, n)
    done = published.train_online(torch.tensor(np.stack(data, -1)), torch.tensor(np.stack(start)), weights, epochs=2)
    for i in range(3):
        W, b, losses = plain_train(data[i], start[i], importance, epochs=2)
        assert np.abs(done.W[i].numpy() - W).max() < 1e-10
        assert np.abs(done.b[i].numpy() - b).max() < 1e-10
        assert np.abs(done.epoch_loss[:, i].numpy() - losses).max() < 1e-10


def test_legacy_draws_are_those_of_the_global_seed():
    state = np.random.get_state()
    np.random.seed(3)
    active = np.random.binomial(1, 1 - 0.85, size=(50, 4))
    expected = np.random.uniform(0, 1, size=(50, 4)) * active
    np.random.seed(3)
    weights = np.random.normal(0, 0.01, size=(2, 4))
    np.random.set_state(state)
    assert np.array_equal(published.legacy_toy_data(3, 4, 0.85, 50), expected)
    assert np.array_equal(published.legacy_init(3, 4, 2), weights)


def test_each_model_reads_its_own_data():
    """Training a cell alone or among others gives the same model."""
    importance, device = np.ones(6), torch.device("cpu")
    alone = published.train_published_toy([(0.5, 1)], 6, 2, importance, 200, 1, device)
    among = published.train_published_toy([(0.9, 0), (0.5, 1)], 6, 2, importance, 200, 1, device)
    torch.testing.assert_close(among.W[1], alone.W[0])
    assert (among.W[0] - alone.W[0]).abs().max() > 1e-3


def test_disagreeing_shapes_are_refused():
    with pytest.raises(ValueError, match="do not agree"):
        published.train_online(torch.zeros(5, 4, 2), torch.zeros(3, 2, 4), torch.ones(3, 4), 1)
