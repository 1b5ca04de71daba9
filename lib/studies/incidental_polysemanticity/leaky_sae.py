"""The published 12 -> 16 -> 12 autoencoder with a leaky ReLU, one per network and all of them at once.

As published encoder and decoder are one storage on a CPU: the encoder is a transposed view of the decoder, and two
Adam updates land on it. Moving or casting the module copies both and unties them.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.ensembles import Layout, train_ensemble
from lib.press.runs import reuse
from lib.rng import generator
from lib.studies.incidental_polysemanticity.groups import Autoencoders
from lib.studies.incidental_polysemanticity.network import Cell, trained
from lib.tensors import as_array, device_named

N_LATENTS = 16


class LeakySAE(NamedTuple):
    """Autoencoders of I rows, latents = leaky_relu(W_enc a + b_enc), reconstruction = W_dec^T latents.

    Attributes:
        W_enc, W_dec: one row per latent, [I, n_latents, d]; b_enc: [I, n_latents].
        slope: of the leaky ReLU below 0; 0 is a ReLU.
    """

    W_enc: Tensor
    b_enc: Tensor
    W_dec: Tensor
    slope: float

    def encode(self, acts: Tensor) -> Tensor:
        """Latents [I, n, n_latents] of activations [I, n, d]."""
        return F.leaky_relu(torch.baddbmm(self.b_enc.unsqueeze(1), acts, self.W_enc.mT), self.slope)

    def decode(self, latents: Tensor) -> Tensor:
        """Reconstructions [I, n, d]."""
        return latents @ self.W_dec

    def plain(self) -> dict:
        """The fields as arrays and a number, from which `of` makes them again."""
        return {name: as_array(value) for name, value in self._asdict().items()}

    @classmethod
    def of(cls, slope: float, device: torch.device, **arrays: np.ndarray) -> LeakySAE:
        """Autoencoders from their plain fields."""
        return cls(slope=slope, **{name: torch.tensor(value, device=device) for name, value in arrays.items()})

    def directions(self) -> Tensor:
        """Decoder directions as columns, [I, d, n_latents], as `decoder_overlap` takes them."""
        return self.W_dec.mT


def sae_layout(d: int) -> Layout:
    """W_enc, b_enc, W_dec, in the order torch's own parameters come in; W_dec has one row per latent."""
    return Layout(W_enc=(N_LATENTS, d), b_enc=(N_LATENTS,), W_dec=(N_LATENTS, d))


def initial_row(d: int, rng: torch.Generator, bias: float = 0.1) -> Tensor:
    """One starting row [P]: decoder U(±1/4) scaled to unit norm, encoder its transpose, bias U(0, bias).

    Drawn as torch draws the two Linear layers, whose own encoder is thrown away.
    """
    torch.empty(N_LATENTS * d + N_LATENTS).uniform_(generator=rng)
    decoder = torch.empty(d, N_LATENTS).uniform_(-(N_LATENTS**-0.5), N_LATENTS**-0.5, generator=rng)
    rows = decoder.div_(decoder.norm(dim=0, keepdim=True) + 1e-8).T.contiguous()  # [N_LATENTS, d]
    b_enc = torch.empty(N_LATENTS).uniform_(0, bias, generator=rng)
    return sae_layout(d).pack(W_enc=rows, b_enc=b_enc, W_dec=rows)


def initial(d: int, seeds: Sequence[int], bias: float = 0.1) -> Tensor:
    """Starting rows [S, P], each from the stream (seed, "sae"), so that equal seeds start alike and rows are paired."""
    return torch.stack([initial_row(d, generator(seed, "sae"), bias) for seed in seeds])


def autoencoded(params: Autoencoders, cells: Sequence[Cell], seeds: range, penalty: float, **own) -> LeakySAE:
    """The rigorous `autoencoders` of networks; trains those that are not there yet."""
    found = reuse(autoencoders, params, [astuple(cell) for cell in cells], seeds, penalty, **own)
    return LeakySAE.of(**found, device=device_named(params.device))


def autoencoders(
    params: Autoencoders, cells: list[tuple], seeds: range, penalty: float, slope: float = 0.01, bias: float = 0.1,
    of: Literal["trained", "untrained", "shuffled"] = "trained",
) -> dict:
    """Train one rigorous autoencoder per network: scaled activations, penalty per sample, decoder rows of unit length.

    Equal seeds start alike. Shuffled: each unit's activations in an order of their own, which keeps every unit and no
    relation between them.
    """
    acts = scaled(trained(params, [Cell(*cell) for cell in cells], seeds, of == "untrained").acts)  # [C, S, n, d]
    if of == "shuffled":
        order = torch.rand(acts.shape, generator=generator(params.seed, "shuffle")).argsort(2).to(acts.device)
        acts = acts.gather(2, order)
    start = initial(acts.shape[-1], list(seeds) * len(acts), bias)
    return train_sae(acts.flatten(0, 1), start, params.sae_steps, "unit", penalty, slope, params.sae_lr).plain()


def scaled(acts: Tensor, others: Tensor | None = None) -> Tensor:
    """`others` (default: acts) in units where each network's activations acts [..., n, d] have root mean square 1."""
    size = acts.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(1e-12)
    return (acts if others is None else others) / size


def train_sae(
    acts: Tensor, start: Tensor, steps: int = 1000, rule: Literal["none", "storage", "unit"] = "none",
    penalty: float = 1e-4, slope: float = 0.01, lr: float = 1e-3,
) -> LeakySAE:
    """Train one autoencoder per row by full-batch Adam.

    Args:
        acts: one set of activations per row, [I, n, d]; start: as `initial` gives them, [I, P].
        rule: `none` and `storage` as published, mean over all entries of (a - â)^2 plus penalty * sum over samples and
            latents of |f|, so that the penalty grows with the batch; `storage` keeps one matrix, on which both Adam
            updates land. `unit`: mean over samples of |a - â|^2 + penalty * sum|f|, decoder rows of unit length.
    Source: ngugi_taming, models.py and main.py.
    """
    rows, n, d = acts.shape
    if rule not in ("none", "storage", "unit"):
        raise ValueError(f"rule {rule!r} is not none, storage or unit")
    if len(start) != rows:
        raise ValueError(f"{len(start)} starts for {rows} rows of activations")
    table, names, done = start.to(acts), sae_layout(d), []
    for part in torch.arange(rows).split(16 if acts.device.type == "cpu" else rows):  # what fits a CPU's cache
        step = _Step(names, acts[part].mT.contiguous(), penalty, slope, rule)
        done.append(step.settled(train_ensemble(step, table[part], steps, lr).theta))
    at = names.views(torch.cat(done))
    return LeakySAE(at["W_enc"], at["b_enc"], at["W_dec"], slope)


class _Step:
    """Loss and gradient of a table, ties and unit lengths settled first; `scale` is the weight of the error."""

    def __init__(self, names: Layout, acts: Tensor, penalty: float, slope: float, rule: str):
        (d, n), self.names, self.acts, self.slope = acts.shape[1:], names, acts, slope
        self.tied, self.unit_decoder, self.seen = rule == "storage", rule == "unit", None
        self.scale, self.penalty = (1 / n, penalty / n) if self.unit_decoder else (1 / (n * d), penalty)

    def settled(self, theta: Tensor) -> Tensor:
        """The table after the constraints: both updates on the shared storage, decoder rows of unit length."""
        at = self.names.views(theta)
        if self.tied and self.seen is not None:
            at["W_dec"].add_(at["W_enc"] - self.before)
        if self.unit_decoder:
            at["W_dec"].div_(at["W_dec"].norm(dim=2, keepdim=True).clamp_min(1e-12))
        if self.tied:
            at["W_enc"].copy_(at["W_dec"])
            self.before = at["W_dec"].clone()
        return theta

    def __call__(self, theta: Tensor, grad: Tensor) -> Tensor:
        self.settled(theta)
        if self.seen is not theta:
            self.seen, self.at, self.into = theta, self.names.views(theta), self.names.views(grad)
        at, into = self.at, self.into
        pre = torch.bmm(at["W_enc"], self.acts).add_(at["b_enc"].unsqueeze(2))  # [I, n_latents, n]
        latents = F.leaky_relu(pre, self.slope)
        d = torch.bmm(at["W_dec"].mT, latents).sub_(self.acts)  # [I, d, n]
        error = torch.linalg.vector_norm(d, dim=(1, 2)).square_()
        size = torch.linalg.vector_norm(latents, ord=1, dim=(1, 2))
        d.mul_(2 * self.scale)
        into["W_dec"].copy_(torch.bmm(latents, d.mT))
        back = torch.bmm(at["W_dec"], d).add_(latents.sign_(), alpha=self.penalty)
        back = torch.ops.aten.leaky_relu_backward(back, pre, self.slope, False)
        into["W_enc"].copy_(torch.bmm(back, self.acts.mT))
        torch.sum(back, 2, out=into["b_enc"])
        return self.scale * error + self.penalty * size
