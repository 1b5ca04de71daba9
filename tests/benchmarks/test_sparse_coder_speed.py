"""Training steps of sparse coders against the arithmetic they cannot avoid, by process CPU time, and their memory.

d = 384, 3,072 latents, batch 4,096, k = 32, float32, one thread. A step is forward, backward, gradient projection,
clip, fused Adam and renormalisation. Each is measured in a process of its own, because the allocator's settings are
read when a process starts, and in turns with its floor, so that a busy machine slows both:

    TopK, BatchTopK   one product (2 B d M operations) and the search for the k largest
    L1, JumpReLU      five products (10 B d M operations)

Called as a script with the name of a measurement, this file prints it as JSON.
"""
from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from lib.content import ROOT
from lib.press.jobs import KERNEL_ENVIRONMENT
from lib.rng import generator
from lib.sparse_coders import dense_kernels, kernels
from lib.sparse_coders.selection import largest

B, D, M, K = 4096, 384, 3072, 32
L0_SPARSE, COEFFICIENT, WIDTH = 80, 1e-3, 0.05
MANY = 24_576
"""Latents in the measurement of memory; pre-activations of the batch would take 403 MB."""
ROUNDS = 7

Call = Callable[[], object]


class Step:
    """Parameters, optimiser and data of one coder; calling it trains one step. `l0` is that of the last step."""

    def __init__(self, loss: Callable[[Step], torch.Tensor], n_latents: int = M, l0: int | None = None):
        rng = generator(0, "benchmark")
        self.x, self.loss, self.floor = torch.randn(B, D, generator=rng), loss, None
        rows = F.normalize(torch.randn(n_latents, D, generator=rng), dim=1)
        shift = float(torch.quantile(self.x[:256] @ rows.T, 1 - l0 / n_latents)) if l0 else 0.0
        self.W_enc, self.W_dec = (torch.nn.Parameter(rows.clone()) for _ in range(2))
        self.b_enc, self.b_dec = torch.nn.Parameter(torch.zeros(n_latents)), torch.nn.Parameter(torch.zeros(D))
        self.theta = torch.nn.Parameter(torch.full((n_latents,), shift or 0.01))
        if loss is not jumprelu:
            self.b_enc.data -= shift
        self.parameters = [self.W_enc, self.b_enc, self.W_dec, self.b_dec, self.theta]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-7, fused=True)  # so small that L0 stays what it is

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self).backward()
        with torch.no_grad():
            rows, gradient = self.W_dec, self.W_dec.grad
            gradient -= (gradient * rows).sum(1, keepdim=True) * rows
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            rows /= rows.norm(dim=1, keepdim=True)
            self.theta.clamp_(min=0)


def from_codes(step: Step, codes: kernels.Codes) -> torch.Tensor:
    recons = kernels.decode_codes(codes, step.W_dec) + step.b_dec
    step.l0 = len(codes.values) / len(step.x)
    return (recons - step.x).square().sum(1).mean()


def topk(step: Step, **options) -> torch.Tensor:
    codes = kernels.topk_codes(step.x, step.W_enc, step.b_enc, K, centre=step.b_dec, **options)
    return from_codes(step, codes.with_values(codes.values.relu()))


def screened(step: Step) -> torch.Tensor:
    return topk(step, screen=True)


def batch_topk(step: Step) -> torch.Tensor:
    encoder = (step.x, step.W_enc, step.b_enc)
    codes, threshold = kernels.batch_topk_codes(*encoder, K * len(step.x), floor=step.floor, centre=step.b_dec)
    step.floor = float(threshold)
    return from_codes(step, codes)


def l1(step: Step) -> torch.Tensor:
    coder = (step.x, step.W_enc, step.b_enc, step.W_dec, step.b_dec)
    got = dense_kernels.l1_loss(*coder, COEFFICIENT, centre=step.b_dec)
    step.l0 = int(got.fired.sum()) / len(step.x)
    return got.loss


def jumprelu(step: Step) -> torch.Tensor:
    coder = (step.x, step.W_enc, step.b_enc, step.W_dec, step.b_dec)
    got = dense_kernels.jumprelu_loss(*coder, step.theta, WIDTH, centre=step.b_dec)
    step.l0 = float(got.l0)
    return got.recon + COEFFICIENT * got.l0


def plain_l1(step: Step) -> torch.Tensor:
    """What the chunked losses are compared with for memory."""
    f = F.linear(step.x - step.b_dec, step.W_enc, step.b_enc).relu()
    return (f @ step.W_dec + step.b_dec - step.x).square().sum(1).mean() + COEFFICIENT * f.sum(1).mean()


@torch.no_grad()
def selection_floor(step: Step) -> None:
    """One product, and the faster of two exact searches for the k largest."""
    for x in step.x.split(512):
        h = torch.addmm(step.b_enc, x, step.W_enc.T)
        h.gather(1, largest(h, K))


@torch.no_grad()
def dense_floor(step: Step) -> None:
    """The five products of a dense step, in chunks too."""
    for x in step.x.split(512):
        f = x @ step.W_enc.T
        error = f @ step.W_dec
        f.T @ error
        (error @ step.W_dec.T).T @ x


SPEED = {
    "TopK": (topk, None, selection_floor),
    "TopK, bfloat16 screen": (screened, None, selection_floor),
    "BatchTopK": (batch_topk, None, selection_floor),
    "L1": (l1, None, dense_floor),
    "JumpReLU": (jumprelu, None, dense_floor),
    "L1, sparse": (l1, L0_SPARSE, dense_floor),
    "JumpReLU, sparse": (jumprelu, L0_SPARSE, dense_floor),
}


def cpu_seconds(call: Call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def speed(name: str) -> dict[str, float]:
    """CPU-ms of a step and of its floor, the least of several taken in turns."""
    loss, l0, floor = SPEED[name]
    step = Step(loss, l0=l0)
    times = [(cpu_seconds(step), cpu_seconds(lambda: floor(step))) for _ in range(ROUNDS + 1)][1:]
    ms, floor_ms = (1000 * min(column) for column in zip(*times, strict=True))
    return {"ms": ms, "floor_ms": floor_ms, "ratio": ms / floor_ms, "l0": step.l0, "load": os.getloadavg()[0]}


def memory(name: str) -> dict[str, float]:
    """MB by which two steps at the full batch raise the process's peak above the same coder's at 64 samples.

    Scratch that the smaller steps freed is used again, so 0 is possible; B x M floats would not fit into it.
    """
    loss, l0, _ = SPEED.get(name, (plain_l1, None, None))
    step = Step(loss, MANY, l0=l0)
    whole, step.x = step.x, step.x[:64]
    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step.x = whole
    step(), step()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mb": (after - before) / 1024, "matrix_mb": B * MANY * 4 / 2**20}


def measured(kind: str, name: str) -> dict[str, float]:
    """`speed` or `memory` in a fresh process with the environment kernels of the press have."""
    command = [sys.executable, __file__, kind, name]
    environment = {**os.environ, **KERNEL_ENVIRONMENT}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def table():
    rows: dict[str, dict[str, float]] = {}
    yield rows
    lines = [f"{'step':24}{'CPU-ms':>8}{'floor':>8}{'ratio':>8}{'L0':>8}{'load':>8}"]
    for name, row in rows.items():
        ms, floor, ratio, l0, load = (row[key] for key in ("ms", "floor_ms", "ratio", "l0", "load"))
        lines.append(f"{name:24}{ms:8.0f}{floor:8.0f}{ratio:8.2f}{l0:8.0f}{load:8.1f}")
    print("\n" + "\n".join(lines))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("TopK", 1.4), ("BatchTopK", 1.4), ("L1", 1.3), ("JumpReLU", 1.3), ("TopK, bfloat16 screen", None)],
)
def test_step_against_its_floor(benchmark, table, name, wanted):
    row = table[name] = benchmark.pedantic(measured, ("speed", name), rounds=1)
    benchmark.extra_info.update(row)
    assert wanted is None or row["ratio"] <= wanted, f"{name}: {row['ratio']:.2f}x of its floor, wanted {wanted}x"


@pytest.mark.parametrize("rule", ["L1", "JumpReLU"])
def test_sparse_path_against_the_dense_one(benchmark, table, rule):
    dense = table.get(rule) or measured("speed", rule)
    row = table[f"{rule}, sparse"] = benchmark.pedantic(measured, ("speed", f"{rule}, sparse"), rounds=1)
    faster = dense["ratio"] / row["ratio"]  # both have the same floor, measured beside them
    benchmark.extra_info.update(row, times_faster=faster)
    assert 0.8 * L0_SPARSE <= row["l0"] <= 1.25 * L0_SPARSE
    assert faster >= 2.5, f"{rule} at L0 {row['l0']:.0f}: {faster:.2f}x faster than dense, wanted 2.5x"


def test_pre_activations_are_never_stored(benchmark):
    rows = {}

    def run():
        rows.update({name: measured("memory", name) for name in (*SPEED, "plain L1")})

    benchmark.pedantic(run, rounds=1)
    matrix = rows["plain L1"]["matrix_mb"]
    print(f"\nMB a batch of {B:,} adds at {MANY:,} latents; its pre-activations are {matrix:.0f} MB")
    for name, row in rows.items():
        print(f"{name:24}{row['mb']:8.0f}")
    assert rows.pop("plain L1")["mb"] > 2 * matrix  # the measurement sees what is stored
    assert all(row["mb"] < matrix / 4 for row in rows.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"speed": speed, "memory": memory}[sys.argv[1]](sys.argv[2])))
