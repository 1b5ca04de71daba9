"""`fit`: the one training loop of sparse coders, any rule, one coder or many on the same batches."""
from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from lib import checkpoints
from lib.live import Progress
from lib.sparse_coders.coder import SparseCoder
from lib.sparse_coders.inputs import SampleBatches
from lib.sparse_coders.losses import check_bf16
from lib.sparse_coders.starts import start
from lib.sparse_coders.table import Table, group
from lib.sparse_coders.trainee import FitOptions, FitResult, Trainee


def fit(
    coder: SparseCoder | Sequence[SparseCoder], data: Any, *, target: Any = None, held_out: int | Any | None = None,
    checkpoint: str | Path | None = None, **options: Any,
) -> FitResult | list[FitResult]:
    """Train a coder, or several on the same batches, in place.

    Args:
        coder: one coder, or several whose inputs have one width; they may differ in everything else.
        data: activations [n_samples, d_in + context]: NumPy, torch, or a store with __len__ and batch(indices).
        target: what a transcoder predicts, [n_samples, d_out], in the same forms.
        held_out: samples kept from training for evaluation (default a twentieth, at most 8,192), or the samples
            themselves: x, or (x, y) for a transcoder.
        checkpoint: file to write every `checkpoint_every` steps and to resume from, bit for bit on CPU, if it exists.
        options: of `FitOptions`: steps, batch_size, lr, seed and the rest.
    Returns:
        A FitResult, or a list of them if a list was given.
    """
    chosen, many = FitOptions(**options), not isinstance(coder, SparseCoder)
    coders = list(coder) if isinstance(coder, Sequence) else [coder]
    batches = SampleBatches(data, target, held_out, chosen.batch_size, chosen.seed)
    _check(coders, batches)
    for each in coders if chosen.precision == "bf16" else ():
        check_bf16(each)
    path = None if checkpoint is None else Path(checkpoint)
    identity = None if path is None else _identity(coders, chosen, batches)
    first = batches.first()
    for each in coders:
        start(each, *first, chosen)
    trainees = [Trainee(each, chosen, index) for index, each in enumerate(coders)]
    parts = group(trainees)
    done = _resume(path, identity, parts)
    try:
        _train(parts, batches, done, chosen, path, identity)
    finally:
        for part in parts:
            part.release()
    results = [trainee.result(*batches.held) for trainee in trainees]
    return results if many else results[0]


def _train(
    parts: list[Trainee | Table], batches: SampleBatches, done: int, options: FitOptions, path: Path | None,
    identity: dict[str, Any] | None,
) -> None:
    steps = options.steps
    with Progress(steps, "training", done) if options.progress else nullcontext() as line:
        for step in range(done, steps):
            x, y = (None if rows is None else rows.to(parts[0].device) for rows in batches[step])
            for part in parts:
                part.step(step, x, y)
            if path and ((step + 1) % options.checkpoint_every == 0 or step + 1 == steps):
                checkpoints.write(path, identity, step + 1, [part.state() for part in parts])
            if line:
                line.advance()


def _resume(path: Path | None, identity: dict[str, Any] | None, parts: list[Trainee | Table]) -> int:
    """Continue from a checkpoint if there is one; the number of steps done."""
    if path is None or not path.is_file():
        return 0
    done, states = checkpoints.read(path, identity)
    for part, state in zip(parts, states, strict=True):
        part.restore(state)
    return done


def _identity(coders: list[SparseCoder], options: FitOptions, batches: SampleBatches) -> dict[str, Any]:
    """What a checkpoint must agree in: options, data, and the weights training starts from."""
    own = {f"coder {i}": json.dumps(coder.config(), sort_keys=True) for i, coder in enumerate(coders)}
    weights = checkpoints.content_digest([dict(coder.state_dict()) for coder in coders])
    data = {"data": batches.digest(), "held-out samples": len(batches.held[0]), "initial weights": weights}
    data["device"] = coders[0].W_dec.device.type
    return options.model_dump(exclude={"checkpoint_every", "progress"}) | own | data


def _check(coders: list[SparseCoder], batches: SampleBatches) -> None:
    if not coders or not all(isinstance(coder, SparseCoder) for coder in coders):
        raise ValueError(f"fit needs a SparseCoder or several, got {[type(coder).__name__ for coder in coders]}")
    if len({id(coder) for coder in coders}) < len(coders):
        raise ValueError("fit was given one coder twice; make another SparseCoder with the same arguments")
    for coder in coders:
        needs = coder.d_in + coder.context
        if batches.x.width != needs:
            raise ValueError(f"data is {batches.x.width} wide, this coder reads {needs} columns")
        if coder.is_transcoder != (batches.y is not None):
            raise ValueError("a transcoder (d_out given) needs a target" if coder.is_transcoder else
                             "an autoencoder takes no target; give d_out to make a transcoder")
        if batches.y is not None and batches.y.width != coder.d_out:
            raise ValueError(f"target is {batches.y.width} wide, this coder writes {coder.d_out} columns")
        _check_held_out(coder, *batches.held)


def _check_held_out(coder: SparseCoder, x: Tensor, y: Tensor | None) -> None:
    """Refuse what `FitResult.metrics` could not be computed of, before training rather than after."""
    wanted = (x[:, : coder.d_in] if y is None else y).to(coder.W_dec).double()
    if not (wanted - wanted.mean(0)).square().sum() > 1e-24 * wanted.square().sum():
        raise ValueError(f"the {len(x)} held-out samples are all the same, so there is no variance to explain; give "
                         "others with held_out")
