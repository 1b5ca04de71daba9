"""`SparseCoder`: one class for sparse autoencoders and (skip-)transcoders, with every encoder rule, saved as one file.

W_enc [n_latents, d_in] and W_dec [n_latents, d_out] have one row per latent.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lib.params import Count, Options
from lib.rng import generator
from lib.sparse_coders import files, inputs, kernels, rules  # noqa: F401  (rules are known once they are defined)
from lib.sparse_coders.rule import Rule, Weights, rule_of
from lib.sparse_coders.selection import chunk_size
from lib.tensors import own_session, widest


class Sizes(Options):
    """What a coder is beside its rule; `SparseCoder` explains it."""

    owner: ClassVar = "SparseCoder"
    d_in: Count
    n_latents: Count
    d_out: Count | None
    skip: bool
    context: int = Field(ge=0)
    per_sample: bool
    seed: int


class SparseCoder(nn.Module, Weights):
    """Reconstruct activations as a sparse sum of latent directions, x̂ = f W_dec + b_dec with f = rule(h).

    Autoencoder: h = (x - b_dec) W_encᵀ + b_enc, and x itself is the target. Transcoder (`d_out` given): the target y
    is another activation, h = x W_encᵀ + b_enc and ŷ = f W_dec + b_dec (+ x W_skipᵀ). x is multiplied by the scalar
    `scale` on the way in and recons are divided by `target_scale` (both 1 until `fit` measures them), so latents and
    all options of rules are in units where E|x|^2 = d_in; with `per_sample` in units where every |x|^2 is d_in.

        coder = SparseCoder(d_in=64, n_latents=512, k=8)
        fit(coder, activations)
        latents, recons = coder.encode(x), coder(x)

    Args:
        d_in: width of the activation to encode.
        n_latents: number of latents.
        rule: how latents are chosen, a name of `lib.sparse_coders.rules`.
        d_out: width of a transcoder's target; None makes an autoencoder (d_out = d_in makes a transcoder).
        skip: add x W_skipᵀ to a transcoder's output.
        context: width of other sites, appended to x as further columns; the encoder reads them, the decoder does not
            write them (a Multi-Input coder; see `lib.sparse_coders.multi_input`).
        per_sample: divide every sample by its own length and multiply its recons back; `fit(..., normalise="sample")`
            sets it.
        seed: of the decoder directions.
        dtype, device: of the parameters.
        options: of the rule; its class in `lib.sparse_coders.rules` says which it has.
    Attributes:
        W_enc, b_enc, W_dec, b_dec, W_skip: parameters; W_enc, b_enc are None where the rule has no encoder.
        rule: the rule, with all its options as attributes: coder.rule.name, coder.rule.k.
        trained_on: samples seen in training so far.
    Raises:
        ValueError: sizes or options that cannot be.
    """

    @own_session()
    def __init__(
        self, d_in: int, n_latents: int, rule: str = "topk", *, d_out: int | None = None, skip: bool = False,
        context: int = 0, per_sample: bool = False, seed: int = 0, dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu", **options: Any,
    ):
        super().__init__()
        given = Sizes(d_in=d_in, n_latents=n_latents, d_out=d_out, skip=skip, context=context, per_sample=per_sample,
                      seed=seed)
        self.sizes, self.d_in, self.n_latents, self.context = given, given.d_in, given.n_latents, given.context
        self.is_transcoder, self.d_out = d_out is not None, given.d_out or given.d_in
        if skip and d_out is None:
            raise ValueError("skip on an autoencoder would copy x; give d_out to make a skip-transcoder")
        self.rule: Rule = rule_of(rule, options).sized(self.n_latents, self.d_out)
        if not self.rule.has_encoder and (context or self.is_transcoder):
            raise ValueError(f"{rule} encodes with its decoder: it takes no context and no d_out")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype}; fit(..., precision='bf16') computes in "
                             "bf16")
        self._make_parameters(dtype)
        self.to(device)

    def _make_parameters(self, dtype: torch.dtype) -> None:
        rng, n = generator(self.sizes.seed, "sparse coder"), self.n_latents
        W_dec = F.normalize(torch.randn(n, self.d_out, generator=rng, dtype=dtype, device=rng.device), dim=1)
        self.W_dec, self.b_dec = nn.Parameter(W_dec), nn.Parameter(torch.zeros(self.d_out, dtype=dtype))
        has_encoder, skipped = self.rule.has_encoder, torch.zeros(self.d_out, self.d_in + self.context, dtype=dtype)
        self.W_enc = nn.Parameter(self._initial_encoder(rng)) if has_encoder else None
        self.b_enc = nn.Parameter(torch.zeros(n, dtype=dtype)) if has_encoder else None
        self.W_skip = nn.Parameter(skipped) if self.sizes.skip else None
        for name in ("scale", "target_scale"):
            self.register_buffer(name, torch.ones((), dtype=torch.float64))
        self.register_buffer("trained_on", torch.zeros((), dtype=torch.int64))
        for name, value in self.rule.per_latent.items():
            self.register_parameter(name, nn.Parameter(torch.full((n,), value, dtype=dtype)))
        for name, value in self.rule.buffers.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As modules do, with the numbers of float64 in float32 where they go to a device without float64."""
        if widest(fn(torch.zeros(1, device=self.W_dec.device)).device) != torch.float64:
            for name, value in self.named_buffers():
                self._buffers[name] = value.float() if value.is_floating_point() else value
        return super()._apply(fn, recurse)

    def _initial_encoder(self, rng: torch.Generator) -> Tensor:
        """A copy of W_dec for an autoencoder, random unit rows for a transcoder; context columns start at 0."""
        if not self.is_transcoder:
            rows = self.W_dec.detach().clone()
        else:
            drawn = torch.randn(self.n_latents, self.d_in, generator=rng, dtype=self.W_dec.dtype, device=rng.device)
            rows = F.normalize(drawn, dim=1)
        return F.pad(rows, (0, self.context))  # [n_latents, d_in + context]

    def replaced(self, parameters: Mapping[str, Tensor]) -> Weights:
        """The coder's tensors with these in place of its own; the coder itself stays as it is."""
        own = {"W_enc": None, "b_enc": None, "W_skip": None, **dict(self.named_buffers()), **parameters}
        return Weights(own | {"is_transcoder": self.is_transcoder, "context": self.context})

    def encode(self, x: Tensor) -> Tensor:
        """Latents of activations, the same for a sample whatever else is in the batch.

        (Before training, batch_topk and matryoshka know no threshold and take the k B largest of the batch.)

        Args:
            x: activations, torch or NumPy, floating point, [B, d_in + context].
        Returns:
            latents, [B, n_latents], in the graph of the coder: `.detach()` before `.numpy()`.
        """
        latents = self.rule.latents(self, self._scaled(x)[0])
        return latents if self.rule.is_dense else latents.dense(self.n_latents)

    def encode_sparse(self, x: Tensor) -> kernels.Codes:
        """The non-zero latents of `encode` as codes: values, indices, offsets of each sample.

        Without gradients, the [B, n_latents] matrix is never stored.

        Args: as `encode`.
        """
        x, _ = self._scaled(x)
        if not self.rule.is_dense:
            return self.rule.latents(self, x).nonzero()
        return kernels.sparse(self.rule.latents(self, part) for part in x.split(chunk_size(self.n_latents, x.device)))

    def decode(self, latents: Tensor | kernels.Codes, x: Tensor | None = None) -> Tensor:
        """Activations of latents, x̂ = f W_dec + b_dec (+ x W_skipᵀ) in the data's own units.

        Args:
            latents: torch or NumPy, floating point, [B, n_latents]; or codes.
            x: what they were encoded from; needed with a skip connection, and with `per_sample`.
        Returns:
            recons, [B, d_out].
        """
        if isinstance(latents, kernels.Codes):
            latents = inputs.checked_codes(latents, self.n_latents, self.W_dec.dtype)
        else:
            latents = self.checked(latents, self.n_latents, "latents")
        if x is None and (self.W_skip is not None or self.per_sample):
            reason = "has a skip connection" if self.W_skip is not None else "scales every sample by its own length"
            raise ValueError(f"this coder {reason}: decode(latents, x) needs x too")
        x, scale = (None, self.target_scale.to(self.W_dec.dtype)) if x is None else self._scaled(x)
        return self.reconstruct(latents, x) / scale

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of x (a transcoder's prediction of y), [B, d_out]; arguments and errors as `encode`."""
        x, scale = self._scaled(x)
        return self.reconstruct(self.rule.latents(self, x), x) / scale

    def _scaled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.scaled(self.checked(x, self.d_in + self.context, "x"))

    def scaled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x in the coder's units, and what brings its target there: `target_scale`, or one factor a sample, [B, 1].

        With `per_sample` both `scale` x and `target_scale` are divided by |scale x| / sqrt(width); a sample that is 0
        stays 0, its factor `target_scale`. A transcoder's target is divided by the length of its input.

        Args:
            x: checked input in the data's units, of any dtype, [B, d_in + context].
        """
        x, factor = x * self.scale.to(x.dtype), self.target_scale.to(x.dtype)
        if not self.per_sample:
            return x, factor
        size = torch.linalg.vector_norm(x, dim=1, keepdim=True) / x.shape[1] ** 0.5
        size = torch.where(size > 0, size, 1)
        return x / size, factor / size

    @property
    def per_sample(self) -> bool:
        """Whether every sample is divided by its own length, beside `scale`."""
        return self.sizes.per_sample

    def checked(self, x: Tensor, width: int, name: str) -> Tensor:
        """x as a finite tensor [B, width] of the coder's dtype and device; errors as `inputs.checked`."""
        return inputs.checked(x, width, name, self.W_dec.dtype, self.W_dec.device)

    @torch.no_grad()
    def tidy(self) -> None:
        """After an optimiser step: decoder rows back to length 1, thresholds back to >= 0."""
        if self.rule.has_unit_rows:
            self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp_min(torch.finfo(self.W_dec.dtype).tiny))
        self.rule.tidy(self)

    @torch.no_grad()
    def fold_scale(self) -> Self:
        """Put `scale` and `target_scale` into the weights, so that both are 1 and outputs are the same; returns self.

        Latents keep their values: W_enc <- s W_enc, W_dec <- W_dec / t, b_dec <- b_dec / t, W_skip <- s W_skip / t.
        With `per_sample`, where s changes no input, all that is written is multiplied by s / t, and W_enc stays.
        Matching pursuit needs unit rows in the data's units, so its scale cannot be folded.
        """
        if self.W_enc is None and not self.scale == 1:
            raise ValueError(f"{self.rule.name} encodes with its unit decoder rows: its scale cannot be folded")
        s, t = (scale.to(self.W_dec.dtype) for scale in (self.scale, self.target_scale))
        s, t = (torch.ones_like(s), t / s) if self.per_sample else (s, t)
        self.W_dec.div_(t)
        self.b_dec.div_(t)
        if self.W_enc is not None:
            self.W_enc.mul_(s)
        if self.W_skip is not None:
            self.W_skip.mul_(s / t)
        self.scale.fill_(1)
        self.target_scale.fill_(1)
        return self

    def config(self) -> dict[str, Any]:
        """Constructor arguments that make a coder of this shape and rule, ready for JSON."""
        named = {"rule": self.rule.name, "dtype": str(self.W_dec.dtype).removeprefix("torch.")}
        return self.sizes.model_dump() | named | self.rule.model_dump(mode="json")

    def save(self, path: str | Path) -> Path:
        """Write the coder to one safetensors file with its configuration inside; `load(path)` gives it back exactly."""
        dtype = self.W_dec.dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"a coder of {dtype} cannot be saved; coder.float().save(path) writes float32")
        wide = {name: b.cpu().double() for name, b in self.named_buffers() if b.is_floating_point()}
        return files.save(path, self.config(), self.state_dict() | wide)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())


def load(path: str | Path, device: str | torch.device = "cpu") -> SparseCoder:
    """The coder that `SparseCoder.save` wrote."""
    config, tensors = files.load(path)
    try:
        coder = SparseCoder(**config | {"dtype": getattr(torch, config["dtype"])})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has a configuration no coder can have: {error}; save the coder again") from error
    files.check_tensors(path, tensors, coder.state_dict())
    coder.load_state_dict(tensors)
    return coder.to(device)
