"""The batched replica against the plain NumPy loop, and the phase diagram's budget, by process CPU time."""
from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from measuring import cpu_seconds

from lib.models import published_toy as published
from lib.models import toy_exact
from lib.rng import generator

plain_train = runpy.run_path(str(Path(__file__).parents[1] / "models" / "plain_numpy_loop.py"))["train"]
SAMPLES = 1500


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def floor() -> float:
    """CPU seconds of the plain loop per model."""
    importance = 0.7 ** np.arange(20)
    data, start = published.legacy_toy_data(0, 20, 0.85, SAMPLES), published.legacy_init(0, 20, 5)
    return min(cpu_seconds(lambda: plain_train(data, start, importance, 1)) for _ in range(3))


@pytest.mark.parametrize(("models", "wanted"), [(64, 25), (1024, 60)])
def test_replica_against_the_plain_loop(benchmark, models, wanted):
    importance = torch.tensor(0.7 ** np.arange(20), dtype=torch.float32).expand(models, 20)
    data = np.stack([published.legacy_toy_data(seed, 20, 0.85, SAMPLES) for seed in range(models)], -1)
    start = np.stack([published.legacy_init(seed, 20, 5) for seed in range(models)])
    X, W = torch.tensor(data, dtype=torch.float32), torch.tensor(start, dtype=torch.float32)
    seconds = []

    def run():
        seconds.append(cpu_seconds(lambda: published.train_online(X, W, importance, 1)))

    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    ratio = floor() / (min(seconds) / models)
    benchmark.extra_info["times_faster_per_model"] = round(ratio, 1)
    assert ratio >= wanted, f"{models} models: {ratio:.1f}x faster per model than the plain loop, wanted {wanted}x"


def test_phase_diagram_fits_ten_cpu_seconds(benchmark):
    density, extra = torch.logspace(-2, 0, 24), torch.logspace(-1, 1, 24)
    rng, seconds = generator(0, "phase 2"), []

    def run():
        seconds.append(cpu_seconds(lambda: toy_exact.phase_grid(density, extra, 2, 8, 800, rng)))

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["cpu_seconds"] = round(seconds[0], 2)
    assert seconds[0] <= 10
