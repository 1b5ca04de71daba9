"""`fit`: the one training loop of sparse coders, any rule, one coder or many on the same batches."""
from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from lib import checkpoints
from lib.live import Progress
from lib.sparse_coders.batches import SampleBatches
from lib.sparse_coders.coder import SparseCoder
from lib.sparse_coders.losses import check_bf16
from lib.sparse_coders.table import Table, group
from lib.sparse_coders.trainee import FitResult, Plan, Trainee, start


@overload
def fit(coder: SparseCoder, data: Any, **options: Any) -> FitResult: ...
@overload
def fit(coder: Sequence[SparseCoder], data: Any, **options: Any) -> list[FitResult]: ...
def fit(
    coder: SparseCoder | Sequence[SparseCoder], data: Any, *, target: Any = None, steps: int = 2000,
    batch_size: int = 4096, lr: float | None = None, seed: int = 0, lr_warmup: int | None = None, lr_decay: float = 0.0,
    sparsity_warmup: int | None = None, clip: float = 1.0, dead_after: int = 10_000_000,
    resample_every: int | None = None, normalise: bool = True, b_dec: str = "mean", precision: str = "float32",
    held_out: int | Any | None = None, log_every: int = 50, checkpoint: str | Path | None = None,
    checkpoint_every: int = 1000, progress: bool = True,
) -> FitResult | list[FitResult]:
    """Train a coder, or several on the same batches, in place.

    Args:
        coder: one coder, or several whose inputs have one width; they may differ in everything else.
        data: activations [n_samples, d_in + context]: NumPy, torch, or a store with __len__ and batch(indices).
        target: what a transcoder predicts, [n_samples, d_out], in the same forms.
        steps: optimiser steps.
        batch_size: samples per step; at most the number of training samples.
        lr: of Adam; default 2e-4 / sqrt(n_latents / 2^14), for each coder its own.
        seed: of the order of samples and of noise; the coder's own seed drew its directions.
        lr_warmup, sparsity_warmup: steps; default 1,000 and 2,000, at most a tenth and a fifth of training.
        lr_decay: share of training, at its end, over which lr falls linearly to 0.
        clip: largest global norm of a coder's gradient.
        dead_after: a latent silent for so many samples is dead.
        resample_every: reinitialise dead latents after so many steps, their Adam moments zeroed.
        normalise: measure `scale` so that E|x|^2 = d (once; a coder trained before keeps its own).
        b_dec: "mean" or "geometric_median" of the first data, or "zero".
        precision: "float32", or "bf16" for matrix products in bfloat16 with parameters and sums as they are; topk and
            abs_topk: a bfloat16 screen before the exact choice; batch_topk, matryoshka, matching_pursuit: refused.
        held_out: samples kept from training for evaluation (default a twentieth, at most 8,192), or the samples
            themselves: x, or (x, y) for a transcoder.
        log_every: steps between rows of the history.
        checkpoint: file to write every `checkpoint_every` steps and to resume from, bit for bit on CPU, if it exists.
        progress: show one line of progress.
    Returns:
        A FitResult, or a list of them if a list was given.
    """
    many = not isinstance(coder, SparseCoder)
    coders = list(coder) if isinstance(coder, Sequence) else [coder]
    plan = Plan(
        steps, batch_size, lr, seed,
        min(1000, steps // 10) if lr_warmup is None else lr_warmup, lr_decay,
        min(2000, steps // 5) if sparsity_warmup is None else sparsity_warmup,
        clip, dead_after, resample_every, normalise, b_dec, precision, log_every,
    )
    batches = SampleBatches(data, target, held_out, batch_size, seed)
    _check(coders, batches, checkpoint_every)
    for each in coders if precision == "bf16" else ():
        check_bf16(each.rule)
    path = None if checkpoint is None else Path(checkpoint)
    identity = None if path is None else _coders_identity(coders, plan, batches)
    first = batches.first()
    for each in coders:
        start(each, *first, normalise, b_dec)
    trainees = [Trainee(each, plan, index) for index, each in enumerate(coders)]
    parts = group(trainees)
    done = _resume_coders(path, identity, parts)
    try:
        _train(parts, batches, done, steps, path, identity, checkpoint_every, progress)
    finally:
        for part in parts:
            part.release()
    results = [trainee.result(*batches.held) for trainee in trainees]
    return results if many else results[0]


def _train(parts, batches, done, steps, path, identity, checkpoint_every, progress) -> None:
    with Progress(steps, "training", done) if progress else nullcontext() as line:
        for step in range(done, steps):
            x, y = (None if rows is None else rows.to(parts[0].device) for rows in batches[step])
            for part in parts:
                part.step(step, x, y)
            if path and ((step + 1) % checkpoint_every == 0 or step + 1 == steps):
                checkpoints.write(path, identity, step + 1, [part.state() for part in parts])
            if line:
                line.advance()


def _resume_coders(path: Path | None, identity: dict[str, Any], parts: list[Trainee | Table]) -> int:
    """Continue from a checkpoint if there is one; the number of steps done."""
    if path is None or not path.is_file():
        return 0
    done, states = checkpoints.read(path, identity)
    for part, state in zip(parts, states, strict=True):
        part.restore(state)
    return done


def _coders_identity(coders: list[SparseCoder], plan: Plan, batches: SampleBatches) -> dict[str, Any]:
    """What a checkpoint must agree in: options, data, and the weights training starts from."""
    own = {f"coder {i}": json.dumps(coder.config(), sort_keys=True) for i, coder in enumerate(coders)}
    weights = checkpoints.content_digest([dict(coder.state_dict()) for coder in coders])
    data = {"data": batches.digest(), "held-out samples": len(batches.held[0]), "initial weights": weights}
    data["device"] = coders[0].W_dec.device.type
    return asdict(plan) | own | data


def _check(coders: list[SparseCoder], batches: SampleBatches, checkpoint_every: int) -> None:
    if not coders or not all(isinstance(coder, SparseCoder) for coder in coders):
        raise ValueError(f"fit needs a SparseCoder or several, got {[type(coder).__name__ for coder in coders]}")
    if len({id(coder) for coder in coders}) < len(coders):
        raise ValueError("fit was given one coder twice; make another SparseCoder with the same arguments")
    if isinstance(checkpoint_every, bool) or not isinstance(checkpoint_every, int) or checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be a whole number of at least 1, got {checkpoint_every!r}")
    for coder in coders:
        needs = coder.d_in + coder.context
        if batches.x.width != needs:
            raise ValueError(f"data is {batches.x.width} wide, this coder reads {needs} columns")
        if coder.is_transcoder != (batches.y is not None):
            raise ValueError(
                "a transcoder (d_out given) needs a target" if coder.is_transcoder
                else "an autoencoder takes no target; give d_out to make a transcoder"
            )
        if batches.y is not None and batches.y.width != coder.d_out:
            raise ValueError(f"target is {batches.y.width} wide, this coder writes {coder.d_out} columns")
        _check_held_out(coder, *batches.held)


def _check_held_out(coder: SparseCoder, x: Tensor, y: Tensor | None) -> None:
    """Refuse what `FitResult.metrics` could not be computed of, before training rather than after."""
    wanted = (x[:, : coder.d_in] if y is None else y).to(coder.W_dec).double()
    if not (wanted - wanted.mean(0)).square().sum() > 1e-24 * wanted.square().sum():
        raise ValueError(f"the {len(x)} held-out samples are all the same, so there is no variance to explain; give "
                         "others with held_out")
