"""Several TopK coders of one shape in training as one table: one matrix product, one optimiser, S coders."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lib.sparse_coders import kernels
from lib.sparse_coders.losses import Terms, auxk
from lib.sparse_coders.rule import Weights
from lib.sparse_coders.rules import TopK
from lib.sparse_coders.selection import Encoder
from lib.sparse_coders.trainee import Trainee, adam

UP_TO = 1 << 19
"""Batch x n_latents up to which a table is faster on a CPU (1.5 times for toys); beyond, S steps are as fast."""


def group(trainees: list[Trainee]) -> list[Trainee | Table]:
    """Coders that can share a table, together; the others as they are, in the order of their first coder."""
    together: dict[tuple, list[Trainee]] = {}
    for index, trainee in enumerate(trainees):
        together.setdefault(_key(trainee) or (index,), []).append(trainee)
    return [Table(same) if len(same) > 1 else same[0] for same in together.values()]


def _key(trainee: Trainee) -> tuple | None:
    """What coders of a table have in common; None for a coder that trains alone."""
    coder, options = trainee.coder, trainee.options
    large = trainee.device.type == "cpu" and options.batch_size * coder.n_latents > UP_TO
    frozen = not all(p.requires_grad for p in coder.parameters())
    alone = trainee.extra_loss or options.resample_every or options.precision != "float32"
    if type(coder.rule) is not TopK or frozen or alone or large:
        return None
    shapes = tuple((name, tuple(p.shape)) for name, p in coder.named_parameters())
    units = coder.per_sample, float(coder.scale), float(coder.target_scale)
    return coder.is_transcoder, shapes, trainee.dtype, trainee.device, *units


class Table:
    """S coders whose parameters are slices of stacked ones, stepped together; each with its own k and clipping.

    Args:
        trainees: TopK coders of one kind, shape, dtype, device and scale. Until `release`, their parameters are views.
    """

    def __init__(self, trainees: list[Trainee]):
        self.trainees, self.options, self.device = trainees, trainees[0].options, trainees[0].device
        self.stacked: dict[str, Tensor] = {}
        for name, _ in trainees[0].coder.named_parameters():
            stack = torch.stack([getattr(trainee.coder, name).detach() for trainee in trainees]).requires_grad_()
            for trainee, part in zip(trainees, stack.detach(), strict=True):
                getattr(trainee.coder, name).data = part
            self.stacked[name] = stack
        self.optimizer = adam(list(self.stacked.values()), trainees[0].lr)
        first = trainees[0].coder
        own = {"W_skip": None, "is_transcoder": first.is_transcoder, "context": first.context}
        self.weights = Weights(own | self.stacked)
        self.ks = [trainee.coder.rule.k for trainee in trainees]

    def step(self, step: int, x: Tensor, y: Tensor | None) -> dict[Trainee, Terms]:
        """As `Trainee.step`, for all coders."""
        x, y = self.trainees[0].scaled(x, y)
        terms = self.terms(x, x[:, : self.trainees[0].coder.d_in] if y is None else y)
        self.optimizer.zero_grad()
        torch.stack([term.total for term in terms]).sum().backward()
        with torch.no_grad():
            grad, rows = self.stacked["W_dec"].grad, self.stacked["W_dec"]
            grad.sub_((grad * rows).sum(2, keepdim=True) * rows)
            self._clip()
        self.optimizer.param_groups[0]["lr"] = self.trainees[0].lr * self.options.lr_factor(step)
        self.optimizer.step()
        for trainee, term in zip(self.trainees, terms, strict=True):
            trainee.coder.tidy()
            trainee.count(len(x), term)
        return dict(zip(self.trainees, terms, strict=True))

    def terms(self, x: Tensor, y: Tensor) -> list[Terms]:
        """The loss of each coder; x [B, d_in + context] and y [B, d_out] scaled."""
        w = self.weights
        codes = kernels.topk_codes(x, self.weights.encoder, self.ks)
        codes = codes.with_values(codes.values.relu())
        recons = kernels.decode_codes(codes, w.W_dec) + w.b_dec  # [B, S, d_out]
        if w.W_skip is not None:
            recons = recons + (x @ w.W_skip.flatten(0, 1).T).view_as(recons)
        residual = y[:, None] - recons
        losses = residual.square().sum(2).sum(0) / len(x)  # [S]
        fired = torch.zeros(w.b_enc.numel(), dtype=torch.int64, device=x.device)
        fired.index_add_(0, codes.indices, (codes.values.detach() != 0).long())
        aux = [self._aux(number, x, residual[:, number]) for number in range(len(self.trainees))]
        zero = losses.new_zeros(())
        parts = zip(losses, aux, fired.view(len(self.trainees), -1), strict=True)
        return [Terms(loss + extra, loss, zero, extra, counts) for loss, extra, counts in parts]

    def _aux(self, number: int, x: Tensor, residual: Tensor) -> Tensor:
        coder, dead, w = self.trainees[number].coder, self.trainees[number].dead(), self.weights
        if dead is None or not coder.rule.aux:
            return residual.new_zeros(())
        encoder = Encoder(w.W_enc[number], w.b_enc[number], coder.centre)
        return coder.rule.aux * auxk(x, encoder, w.W_dec[number], residual, dead, coder.rule.k_aux)

    def _clip(self) -> None:
        """Limit each coder's own gradient norm."""
        grads = [stack.grad.flatten(1) for stack in self.stacked.values()]
        norms = torch.stack([grad.norm(dim=1) for grad in grads]).norm(dim=0)  # [S]
        factor = (self.options.clip / (norms + 1e-6)).clamp(max=1.0)
        for grad in grads:
            grad.mul_(factor[:, None])

    def release(self) -> None:
        """Give every coder parameters of its own again."""
        for trainee in self.trainees:
            for parameter in trainee.coder.parameters():
                parameter.data = parameter.data.clone()

    def kept(self) -> dict[str, Any]:
        """As `Trainee.kept`, for all coders."""
        return {"runs": [trainee.kept() for trainee in self.trainees], "optimizer": self.optimizer}
