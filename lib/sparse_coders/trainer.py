"""`fit`: training of sparse coders, any rule, one coder or many on the same batches."""
from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lib import checkpoints
from lib.loop import Row, Training, loss_digest, run
from lib.sparse_coders.coder import SparseCoder
from lib.sparse_coders.inputs import SampleBatches
from lib.sparse_coders.losses import check_bf16
from lib.sparse_coders.starts import start
from lib.sparse_coders.table import group
from lib.sparse_coders.trainee import COLUMNS, ExtraLoss, FitOptions, FitResult, Trainee
from lib.tensors import own_session, widest
from lib.watch import Told


@own_session()
def fit(
    coder: SparseCoder | Sequence[SparseCoder], data: Any, *, target: Any = None, held_out: int | Any | None = None,
    extra_loss: ExtraLoss | None = None, **options: Any,
) -> FitResult | list[FitResult]:
    """Train a coder, or several on the same batches, in place.

    Args:
        coder: one coder, or several whose inputs have one width; they may differ in everything else.
        data: activations [n_samples, d_in + context]: NumPy, torch, or a store with __len__ and batch(indices).
        target: what a transcoder predicts, [n_samples, d_out], in the same forms.
        held_out: samples kept from training for evaluation (default a twentieth, at most 8,192), or the samples
            themselves: x, or (x, y) for a transcoder.
        extra_loss: (coder, step) -> a scalar to add to each coder's loss, with its weight, a function of the two alone;
            such as `lib.activations.language.end_to_end` gives. A checkpoint knows it by its `identity`, a text, if it
            has that, else by its values at the start.
        options: of `FitOptions`: steps, batch_size, lr, seed, checkpoint and the rest.
    Returns:
        A FitResult, or a list of them if a list was given.
    """
    chosen, many = FitOptions(**options), not isinstance(coder, SparseCoder)
    coders = list(coder) if isinstance(coder, Sequence) else [coder]
    batches = SampleBatches(data, target, held_out, chosen.batch_size, chosen.seed)
    _check(coders, batches)
    for each in coders if chosen.precision == "bf16" else ():
        check_bf16(each)
    first = batches.first()
    for each in coders:
        start(each, *first, chosen)
    training = Fitting(coders, batches, chosen, extra_loss)
    try:
        rows = run(training, chosen.steps, chosen)
    finally:
        training.release()
    results = training.results(rows)
    return results if many else results[0]


class Fitting(Training):
    """Coders in training on the same batches; a row has the values of each, [coders, columns]."""

    remedy = "lower lr, or look for NaN in the data"

    def __init__(
        self, coders: list[SparseCoder], batches: SampleBatches, options: FitOptions,
        extra_loss: ExtraLoss | None = None,
    ):
        self.batches, self.options, self.samples = batches, options, batches.batch_size
        self.extra_loss = extra_loss
        self.trainees = [Trainee(each, options, index, extra_loss) for index, each in enumerate(coders)]
        self.parts = group(self.trainees)
        self.device = self.trainees[0].device

    def step(self, step: int, log: bool) -> Tensor:
        x, y = (None if rows is None else rows.to(self.device) for rows in self.batches[step])
        terms = {trainee: found for part in self.parts for trainee, found in part.step(step, x, y).items()}
        self.fired = [found.fired for found in terms.values()] if log and self.options.watch else []
        values = []  # the history's numbers of each coder, or its loss alone
        for found in (terms[trainee] for trainee in self.trainees):
            values += (*found[:4], found.fired.sum() / self.samples) if log else found[:1]
        wide = widest(self.device)
        return torch.stack([value.detach().to(self.device, wide) for value in values]).view(len(terms), -1)

    def told(self, values: Tensor) -> Told:
        """Means over the coders; share of dead latents, and of the batch's samples on which each latent fired."""
        silent = torch.cat([trainee.since.cpu() for trainee in self.trainees])
        seen = min(self.options.dead_after, int(self.trainees[0].tokens))
        rates = torch.cat([fired.cpu() for fired in self.fired]) / self.samples
        own = dict(zip(COLUMNS[3:], values.mean(0).tolist(), strict=True))
        return own | {"dead": float((silent >= seen).float().mean()), "rates": rates.tolist()}

    @torch.no_grad()
    def identity(self, steps: int) -> dict[str, Any]:
        coders, own = [trainee.coder for trainee in self.trainees], {}
        own |= {f"coder {i}": json.dumps(coder.config(), sort_keys=True) for i, coder in enumerate(coders)}
        weights = checkpoints.content_digest([dict(coder.state_dict()) for coder in coders])
        data = {"data": self.batches.digest(), "held-out samples": len(self.batches.held[0])}
        own |= data | {"initial weights": weights, "device": self.device.type}
        return own | ({} if self.extra_loss is None else {"extra loss": loss_digest(self.extra_loss, coders, steps)})

    def spread(self, steps: int) -> list[str]:
        here, there = (self.options.replace(steps=n).moment(1, None, None) for n in (self.options.steps, steps))
        spans = {rule.name: rule.spans for rule in (trainee.coder.rule for trainee in self.trainees) if rule.spans}
        rules = [f"rule {name}" for name, field in spans.items() if getattr(here, field) != getattr(there, field)]
        return rules + ["lr_decay"] * (self.options.lr_decay > 0)

    def kept(self) -> list[dict[str, Any]]:
        return [part.kept() for part in self.parts]

    def release(self) -> None:
        """Give every coder parameters of its own."""
        for part in self.parts:
            part.release()

    def results(self, rows: list[Row]) -> list[FitResult]:
        """Of every coder."""
        found = []
        for index, trainee in enumerate(self.trainees):
            history = trainee.history([(step, values[index]) for step, values in rows], self.samples)
            found.append(FitResult(trainee.coder, history, trainee.metrics(*self.batches.held)))
        return found


def _check(coders: list[SparseCoder], batches: SampleBatches) -> None:
    if not coders or not all(isinstance(coder, SparseCoder) for coder in coders):
        raise ValueError(f"fit needs a SparseCoder or several, got {[type(coder).__name__ for coder in coders]}")
    if len({id(coder) for coder in coders}) < len(coders):
        raise ValueError("fit was given one coder twice; make another SparseCoder with the same arguments")
    for coder in coders:
        _check_trainable(coder)
        needs = coder.d_in + coder.context
        if batches.x.width != needs:
            raise ValueError(f"data is {batches.x.width} wide, this coder reads {needs} columns")
        if coder.is_transcoder != (batches.y is not None):
            raise ValueError("a transcoder (d_out given) needs a target" if coder.is_transcoder else
                             "an autoencoder takes no target; give d_out to make a transcoder")
        if batches.y is not None and batches.y.width != coder.d_out:
            raise ValueError(f"target is {batches.y.width} wide, this coder writes {coder.d_out} columns")
        _check_held_out(coder, *batches.held)


def _check_trainable(coder: SparseCoder) -> None:
    """Refuse a coder whose weights no optimiser could move."""
    if not any(p.requires_grad for p in coder.parameters()):
        raise ValueError("the coder is frozen; coder.requires_grad_() lets it train")
    if any(p.is_inference() for p in coder.parameters()):
        raise ValueError("the coder was copied in inference mode, which keeps no gradients: copy it outside")
    if coder.W_dec.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"a coder of {coder.W_dec.dtype} does not train; make it float32 with coder.float()")


def _check_held_out(coder: SparseCoder, x: Tensor, y: Tensor | None) -> None:
    """Refuse what `FitResult.metrics` could not be computed of, before training rather than after."""
    wanted = (x[:, : coder.d_in] if y is None else y).to(coder.W_dec)
    wanted = wanted.to(widest(wanted.device))
    if not (wanted - wanted.mean(0)).square().sum() > 1e-24 * wanted.square().sum():
        raise ValueError(f"the {len(x)} held-out samples are all the same, so there is no variance to explain; give "
                         "others with held_out")
