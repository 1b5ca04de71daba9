"""TopK training steps of other libraries beside ours, in the same run: CPU-ms, and times the product none can avoid.

    make bench-peers

Makes a virtual environment of its own, _build/peers, with each library that pip can install beside the pinned torch; a
library that cannot be installed, imported or run gets a line that says so. At the end the libraries read the files that
`lib.sparse_coders.interchange` writes, and the reverse. Every library is measured in a process of
its own under the environment the book's kernels have, one thread, alternating with the product of its own forward pass
(2 B d M operations in chunks), so that a busy machine slows both. d = 384, 3,072 latents, batch 4,096, k = 32, float32.

A step is what the library's trainer does. Where a library leaves the loop to its user it is the usual one: forward,
backward, clip, fused Adam. `python tests/benchmarks/peers.py ours` measures one alone, as JSON.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

B, D, M, K = 4096, 384, 3072, 32
ROUNDS = 9
ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "_build" / "peers"
Step = Callable[[int], object]


def ours(x: torch.Tensor) -> Step:
    from lib.sparse_coders import FitOptions, SparseCoder
    from lib.sparse_coders.trainee import Trainee

    coder = SparseCoder(D, M, "topk", k=K)
    trainee = Trainee(coder, FitOptions(steps=10_000, batch_size=B, sparsity_warmup=0), 0)
    return lambda number: trainee.step(number, x, None)


def dictionary_learning(x: torch.Tensor) -> Step:
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=10_000, activation_dim=D, dict_size=M, k=K, layer=0, lm_name="none", seed=0, device="cpu"
    )
    return lambda number: trainer.update(number, x)


def sae_lens(x: torch.Tensor, sparse: bool = False) -> Step:
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    config = TopKTrainingSAEConfig(d_in=D, d_sae=M, k=K, use_sparse_activations=sparse)
    config.rescale_acts_by_decoder_norm = not sparse  # its default; the two have no gradient together
    sae = TopKTrainingSAE(config)

    def loss(number: int) -> torch.Tensor:
        given = TrainStepInput(x, {}, None, number, False)
        return sae.training_forward_pass(given).loss

    return usual_loop(sae, loss)


def sae_lens_sparse(x: torch.Tensor) -> Step:
    return sae_lens(x, sparse=True)


def overcomplete(x: torch.Tensor) -> Step:
    import matplotlib

    matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # gone from matplotlib; only its plots call it
    from overcomplete.sae import TopKSAE

    sae = TopKSAE(D, nb_concepts=M, top_k=K)
    return usual_loop(sae, lambda number: (sae(x)[2] - x).square().mean())


def sparsify(x: torch.Tensor) -> Step:
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    sae = SparseCoder(D, SparseCoderConfig(num_latents=M, k=K))

    def renormalise() -> None:
        sae.set_decoder_norm_to_unit_norm()

    return usual_loop(sae, lambda number: sae(x).fvu, sae.remove_gradient_parallel_to_decoder_directions, renormalise)


def usual_loop(module, loss, before: Callable = lambda: None, after: Callable = lambda: None) -> Step:
    """Forward, backward, clip and fused Adam, with what the library does before and after Adam's step."""
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-4, fused=True)

    def step(number: int) -> None:
        optimizer.zero_grad()
        loss(number).backward()
        before()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        after()

    return step


MEASURED = {
    "ours": (ours, None),
    "sparsify": (sparsify, "eai-sparsify"),
    "overcomplete": (overcomplete, "overcomplete"),
    "dictionary_learning": (dictionary_learning, "dictionary-learning"),
    "SAELens": (sae_lens, "sae-lens"),
    "SAELens, sparse": (sae_lens_sparse, "sae-lens"),
}
"""By name: what makes a step, and the package it comes from."""

PACKAGES = list(dict.fromkeys(package for _, package in MEASURED.values() if package))


def cpu_ms(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


@torch.no_grad()
def product(x: torch.Tensor, W: torch.Tensor) -> None:
    for part in x.split(512):
        part @ W.T


def measure(name: str) -> dict[str, float | str]:
    """CPU-ms of a step and of the product, the least of several taken in turns."""
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    x, W = (torch.randn(n, D, generator=rng) for n in (B, M))
    with open_torchvision(), contextlib.redirect_stdout(sys.stderr):
        step = MEASURED[name][0](x)
        step(0)
        times = [(cpu_ms(lambda n=n: step(n)), cpu_ms(lambda: product(x, W))) for n in range(1, ROUNDS + 1)]
    ms, floor = (min(column) for column in zip(*times, strict=True))
    return {"ms": ms, "floor_ms": floor, "ratio": ms / floor, "load": os.getloadavg()[0], "torch": torch.__version__}


@contextlib.contextmanager
def open_torchvision():
    """Let libraries import torchvision where only torch is a CPU build; a working install is left alone."""
    sys.path.insert(0, str(ROOT))
    from lib.torchvision_import import import_torchvision

    if "SUPERPOSITION_PEER" in os.environ:
        import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reason(text: str) -> str:
    """The last line that names an error, or the last there is."""
    lines = text.strip().splitlines() or ["it said nothing"]
    named = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|ERROR", line)]
    return (named or lines)[-1][:120]


def run(command: list[object], seconds: int, **environment: str) -> subprocess.CompletedProcess:
    """A finished command; one that takes too long counts as failed."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"took more than {seconds} s")


def install() -> dict[str, str]:
    """Install what can be; why not, by package, for the rest."""
    python = HOME / "bin" / "python"
    if not python.is_file():
        made = run([sys.executable, "-m", "venv", "--clear", HOME], 300)
        if made.returncode:
            return dict.fromkeys(PACKAGES, f"no environment for it: {reason(made.stderr)}")
    refused = {}
    for package in PACKAGES:
        print(f"installing {package} into {HOME.relative_to(ROOT)}", flush=True)
        done = run([python, "-m", "pip", "install", "--quiet", "-c", "constraints.txt", package], 1200)
        if done.returncode:
            refused[package] = f"cannot be installed: {reason(done.stderr)}"
    return refused


def version(package: str | None) -> str:
    if package is None:
        return ""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return run([HOME / "bin" / "python", "-c", code], 60).stdout.strip()


def interchange() -> str:
    """The tests that let the libraries read and write our files, run where they are; pytest comes from our side."""
    command = [HOME / "bin" / "python", "-m", "pytest", "tests/sparse_coders/test_interchange.py", "-k", "itself"]
    packages = sysconfig.get_paths()["purelib"]
    done = run([*command, "-W", "ignore", "-p", "no:cacheprovider"], 600, PYTHONPATH=f"{ROOT}:{packages}")
    return (done.stdout.strip().splitlines() or [reason(done.stderr)])[-1]


def main() -> None:
    """Install, measure one after the other, print the table; then let the libraries read our files."""
    from lib.press.jobs import KERNEL_ENVIRONMENT

    refused, rows = install(), {}
    for name, (_, package) in MEASURED.items():
        if package in refused:
            rows[name] = refused[package]
            continue
        python = HOME / "bin" / "python" if package else sys.executable
        peer = {"SUPERPOSITION_PEER": "1"} if package else {}
        done = run([python, __file__, name], 600, **KERNEL_ENVIRONMENT, **peer)
        failed = f"cannot be run: {reason(done.stderr)}"
        rows[name] = failed if done.returncode else json.loads(done.stdout.splitlines()[-1])
    print(f"\n{'TopK step':22}{'version':>10}{'CPU-ms':>8}{'product':>9}{'ratio':>7}{'x ours':>8}{'load':>6}")
    for name, row in rows.items():
        told = version(MEASURED[name][1])
        if isinstance(row, str):
            print(f"{name:22}{told:>10}  {row}")
            continue
        own = row["ratio"] / rows["ours"]["ratio"] if isinstance(rows["ours"], dict) else float("nan")
        print(f"{name:22}{told:>10}{row['ms']:8.0f}{row['floor_ms']:9.0f}{row['ratio']:7.2f}{own:8.1f}{row['load']:6.1f}")
    print(f"\nfiles read and written by the libraries themselves: {interchange()}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    print(json.dumps(measure(sys.argv[1]))) if len(sys.argv) > 1 else main()
