"""Training steps of sparse coders against the arithmetic they cannot avoid, by process CPU time, and their memory.

d = 384, 3,072 latents, batch 4,096, k = 32, float32, one thread. A step is forward, backward, gradient projection,
clip, fused Adam and renormalisation, as `fit` takes it. Each is measured in a process of its own and in turns with its
floor:

    TopK, BatchTopK   one product (2 B d M operations) and the search for the k largest
    L1, JumpReLU      five products (10 B d M operations)

A TopK step also passes four times over k rows of a weight matrix per sample: to decode, and for the gradients of the
values and of both matrices. How long that takes beside a product differs between processors, so `passes_ms` tells it.
"""
from __future__ import annotations

import os
from functools import partial

import pytest
import torch
from measuring import answer, least_ms, measured, peak_mb

from lib.rng import generator
from lib.sparse_coders import FitOptions, SparseCoder
from lib.sparse_coders.selection import largest
from lib.sparse_coders.sparse_ops import sum_rows
from lib.sparse_coders.trainee import Trainee

B, D, M, K = 4096, 384, 3072, 32
L0_SPARSE = 80
MANY = 24_576
"""Latents in the measurement of memory; pre-activations of the batch would take 403 MB."""
ROUNDS = 7


class Step:
    """One coder in the library's own training; calling it trains one step on `x`.

    Args:
        rule: of the coder, or "plain": L1 as autograd takes it, through all pre-activations, to compare memory with.
        l0: active latents per sample its bias or thresholds are set for; None leaves them as they start, at about half.
    """

    def __init__(self, rule: str, precision: str = "float32", l0: int | None = None, n_latents: int = M):
        self.x = torch.randn(B, D, generator=generator(0, "benchmark"))
        self.is_plain = rule == "plain"
        self.coder = SparseCoder(D, n_latents, "relu" if self.is_plain else rule)
        if l0:
            shift = float(torch.quantile(self.coder.pre_acts(self.x[:256]).detach(), 1 - l0 / n_latents))
            place, value = (self.coder.threshold, shift) if rule == "jumprelu" else (self.coder.b_enc, -shift)
            place.data.fill_(value)
        own = {"lr": 1e-7, "lr_warmup": 0, "sparsity_warmup": 0}  # lr so small that L0 stays what it is
        options = FitOptions(steps=100, batch_size=B, precision=precision, log_every=1, **own)
        self.trainee, self.number = Trainee(self.coder, options, 0), 0

    def __call__(self) -> None:
        if self.is_plain:
            f = self.coder.pre_acts(self.x).relu()
            ((self.coder.decode(f) - self.x).square().sum(1).mean() + f.sum(1).mean()).backward()
            self.trainee.optimizer.step()
        else:
            self.trainee.step(self.number, self.x, None)
        self.number += 1

    @property
    def l0(self) -> float:
        return float((self.coder.encode(self.x[:512]) != 0).sum(1).double().mean())


@torch.no_grad()
def selection_floor(step: Step) -> None:
    """One product, and the faster of two exact searches for the k largest."""
    for x in step.x.split(512):
        h = torch.addmm(step.coder.b_enc, x, step.coder.W_enc.T)
        h.gather(1, largest(h, K))


@torch.no_grad()
def passes(step: Step) -> None:
    """Four weighted sums of k rows of a matrix per sample: as many as decoding and its gradients take."""
    rows = (torch.arange(B * K, dtype=torch.int32) * 7919 % M).view(B, K)
    for _ in range(4):
        sum_rows(step.coder.W_dec, rows.flatten(), torch.arange(0, B * K + 1, K, dtype=torch.int32), torch.ones(B * K))


@torch.no_grad()
def dense_floor(step: Step) -> None:
    """The five products of a dense step, in chunks too."""
    coder = step.coder
    for x in step.x.split(512):
        f = x @ coder.W_enc.T
        error = f @ coder.W_dec
        f.T @ error
        (error @ coder.W_dec.T).T @ x


STEPS = {
    "TopK": ({"rule": "topk"}, selection_floor),
    "TopK, bfloat16 screen": ({"rule": "topk", "precision": "bf16"}, selection_floor),
    "BatchTopK": ({"rule": "batch_topk"}, selection_floor),
    "L1": ({"rule": "relu"}, dense_floor),
    "JumpReLU": ({"rule": "jumprelu"}, dense_floor),
    "L1, sparse": ({"rule": "relu", "l0": L0_SPARSE}, dense_floor),
    "JumpReLU, sparse": ({"rule": "jumprelu", "l0": L0_SPARSE}, dense_floor),
    "Gated": ({"rule": "gated"}, dense_floor),
    "p-annealing": ({"rule": "p_anneal"}, dense_floor),
    "Stochastic": ({"rule": "stochastic"}, dense_floor),
    "L1, bfloat16": ({"rule": "relu", "precision": "bf16"}, dense_floor),
    "plain L1": ({"rule": "plain"}, dense_floor),
}


def speed(name: str) -> dict[str, float]:
    """CPU-ms of a step, of its floor and of four passes, the least of several taken in turns."""
    options, floor = STEPS[name]
    step = Step(**options)
    ms, floor_ms, passes_ms = least_ms([step, partial(floor, step), partial(passes, step)], ROUNDS)
    return {"ms": ms, "floor_ms": floor_ms, "ratio": ms / floor_ms, "passes_ms": passes_ms, "l0": step.l0,
            "load": os.getloadavg()[0]}


def memory(name: str) -> dict[str, float]:
    """MB by which two steps at the full batch raise the process's peak above the same coder's at 64 samples.

    Scratch that the smaller steps freed is used again, so 0 is possible; B x M floats would not fit into it.
    """
    step = Step(**STEPS[name][0], n_latents=MANY)
    whole, step.x = step.x, step.x[:64]
    for _ in range(3):
        step()
    before = peak_mb()
    step.x = whole
    step(), step()
    return {"mb": peak_mb() - before, "matrix_mb": B * MANY * 4 / 2**20}


@pytest.fixture(scope="module")
def table():
    rows: dict[str, dict[str, float]] = {}
    yield rows
    form = {"ms": ".0f", "floor_ms": ".0f", "ratio": ".2f", "passes_ms": ".0f", "l0": ".0f", "load": ".1f"}
    print("\n" + "step".ljust(24) + "".join(f"{key:>10}" for key in form))
    for name, row in rows.items():
        print(name.ljust(24) + "".join(f"{row[key]:10{digits}}" for key, digits in form.items()))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("TopK", 1.3), ("BatchTopK", 1.2), ("L1", 1.3), ("JumpReLU", 1.3), ("TopK, bfloat16 screen", None)],
)
def test_step_against_its_floor(benchmark, table, name, wanted):
    row = table[name] = benchmark.pedantic(measured, (__file__, "speed", name), rounds=1)
    benchmark.extra_info.update(row)
    assert wanted is None or row["ratio"] <= wanted, f"{name}: {row['ratio']:.2f}x of its floor, wanted {wanted}x"


@pytest.mark.parametrize("rule", ["L1", "JumpReLU"])
def test_sparse_path_against_the_dense_one(benchmark, table, rule):
    dense = table.get(rule) or measured(__file__, "speed", rule)
    row = table[f"{rule}, sparse"] = benchmark.pedantic(measured, (__file__, "speed", f"{rule}, sparse"), rounds=1)
    faster = dense["ratio"] / row["ratio"]  # both have the same floor, measured beside them
    benchmark.extra_info.update(row, times_faster=faster)
    assert 0.8 * L0_SPARSE <= row["l0"] <= 1.25 * L0_SPARSE
    assert faster >= 2.7, f"{rule} at L0 {row['l0']:.0f}: {faster:.2f}x faster than dense, wanted 2.7x"


def test_pre_activations_are_never_stored(benchmark):
    rows = {}

    def run():
        rows.update({name: measured(__file__, "memory", name) for name in STEPS})

    benchmark.pedantic(run, rounds=1)
    matrix = rows["plain L1"]["matrix_mb"]
    print(f"\nMB a batch of {B:,} adds at {MANY:,} latents; its pre-activations are {matrix:.0f} MB")
    for name, row in rows.items():
        print(f"{name:24}{row['mb']:8.0f}")
    assert rows.pop("plain L1")["mb"] > 2 * matrix  # the measurement sees what is stored
    assert all(row["mb"] < matrix / 4 for row in rows.values())


if __name__ == "__main__":
    answer(speed, memory)
