"""Harvesting activations of a language model, and training a coder on them: tokens per CPU-second, and the share of the
way of the data; one thread, at the sizes of the study's quick profile.

Harvesting is told from the model's forward pass to the same site alone, training from the reading of its batches.
"""
from __future__ import annotations

import time
from functools import partial

import pytest
import torch
from measuring import cpu_seconds

from lib.activations.language import harvest, rows, token_site
from lib.models.causal_lm import causal_lm
from lib.rng import generator
from lib.sparse_coders import SparseCoder, fit

VOCABULARY, WIDTH, CONTEXT, WINDOWS = 2048, 128, 128, 96
LATENTS, BATCH, STEPS = 512, 512, 60
ROUNDS, MOST = 5, 0.15


class Timed:
    """A store, and the CPU-seconds that reading it has taken."""

    def __init__(self, store):
        self.store, self.seconds = store, 0.0

    def __len__(self):
        return len(self.store)

    def batch(self, ids):
        start = time.process_time()
        found = self.store.batch(ids)
        self.seconds += time.process_time() - start
        return found


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return causal_lm(VOCABULARY, WIDTH, 2, 4, CONTEXT).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(VOCABULARY, (WINDOWS, CONTEXT), generator=generator(0, "benchmark"))


def test_harvesting_is_hardly_more_than_the_models_own_pass(benchmark, model, tokens, tmp_path):
    site, times = token_site(model, "blocks.1", tokens), []

    def alone() -> None:
        for _ in rows(model, tokens, [site]):
            pass

    def measure() -> None:
        for turn in range(ROUNDS + 1):
            stored = partial(harvest, tmp_path / f"acts {turn}", model, tokens, [site])
            times.append((cpu_seconds(alone), cpu_seconds(stored)))

    benchmark.pedantic(measure, rounds=1)
    forward, whole = (min(column) for column in zip(*times[1:], strict=True))
    speed, share = WINDOWS * CONTEXT / whole, 1 - forward / whole
    print(f"\nharvesting: {speed:,.0f} tokens per CPU-second, {share:.1%} of it the way of the data")
    benchmark.extra_info.update(tokens_per_cpu_second=speed, share=share)
    assert share <= MOST


def test_training_a_coder_waits_little_for_its_batches(benchmark, model, tokens, tmp_path):
    store = harvest(tmp_path / "acts", model, tokens, [token_site(model, "blocks.1", tokens)])
    measured = []

    def measure() -> None:
        for _ in range(ROUNDS):
            timed, coder = Timed(store), SparseCoder(WIDTH, LATENTS, k=16)
            options = {"steps": STEPS, "batch_size": BATCH, "held_out": 512, "progress": False}
            measured.append((cpu_seconds(partial(fit, coder, timed, **options)), timed.seconds))

    benchmark.pedantic(measure, rounds=1)
    whole, reading = min(measured)
    speed, share = STEPS * BATCH / whole, reading / whole
    print(f"\ntraining TopK: {speed:,.0f} tokens per CPU-second, {share:.1%} of it the way of the data")
    benchmark.extra_info.update(tokens_per_cpu_second=speed, share=share)
    assert share <= MOST
