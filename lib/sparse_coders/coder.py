"""`SparseCoder`: one class for sparse autoencoders and (skip-)transcoders, with every encoder rule, saved as one file.

W_enc [n_latents, d_in] and W_dec [n_latents, d_out] have one row per latent.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.rng import generator
from lib.sparse_coders import files, inputs, kernels, rules, stochastic
from lib.sparse_coders.options import check_sizes, resolve


class SparseCoder(nn.Module):
    """Reconstruct activations as a sparse sum of latent directions, x̂ = f W_dec + b_dec with f = rule(h).

    Autoencoder: h = (x - b_dec) W_encᵀ + b_enc, and x itself is the target. Transcoder (`d_out` given): the target y
    is another activation, h = x W_encᵀ + b_enc and ŷ = f W_dec + b_dec (+ x W_skipᵀ). x is multiplied by the scalar
    `scale` on the way in and recons are divided by `target_scale` (both 1 until `fit` measures them), so latents and
    all options below are in units where E|x|^2 = d_in.

        coder = SparseCoder(d_in=64, n_latents=512, k=8)
        fit(coder, activations)
        latents, recons = coder.encode(x), coder(x)

    Args:
        d_in: width of the activation to encode.
        n_latents: number of latents.
        rule: how latents are chosen, one of relu, p_anneal, gated, topk, batch_topk, matryoshka, abs_topk, jumprelu,
            stochastic, matching_pursuit. `lib.sparse_coders.options.RULES` lists each rule's options; giving a rule
            an option it does not have is an error.
        d_out: width of a transcoder's target; None makes an autoencoder (d_out = d_in makes a transcoder).
        skip: add x W_skipᵀ to a transcoder's output.
        context: width of other sites, appended to x as further columns; the encoder reads them, the decoder does not
            write them (a Multi-Input coder; see `lib.sparse_coders.multi_input`).
        k: active latents per sample (topk family, default 32; samples average k in batch_topk and matryoshka), steps
            of matching_pursuit, or the l0 that penalty "target_l0" aims at.
        k_min: abs_topk: in training, each sample's k is drawn log-uniformly from k_min to k.
        aux, k_aux: topk family: weight of the AuxK loss (1/32; 0: none) and dead latents used per sample (d_out / 2).
        l1: weight of the penalty on magnitudes (relu, p_anneal, gated) or causal importances (stochastic).
        l1_norm: "unit" keeps decoder rows at length 1; "decoder" lets them go and multiplies latents by their length.
        p_start, p_end: p_anneal: from this fraction of training on, the exponent falls from 1, to p_end at the end.
        l0, penalty: jumprelu: weight and form, "l0", "tanh" or "target_l0".
        threshold, bandwidth, tanh_scale: jumprelu: initial θ, width of the kernel ε, and c of tanh(c · f).
        groups: matryoshka: rising prefix sizes ending in n_latents (default: n_latents / 16, / 8, / 4, / 2, / 1).
        p, sampling, masked: stochastic: exponent of the penalty; "noise" masks, or the gradient-free "bernoulli" ones;
            share of the reconstruction loss taken at m = ci, as inference has it, instead of at a random mask (0.5).
        seed: of the decoder directions.
        dtype, device: of the parameters.
    Attributes:
        W_enc, b_enc, W_dec, b_dec, W_skip: parameters; matching_pursuit has no encoder (W_enc, b_enc are None).
        options: the rule's options, defaults filled in.
        trained_on: samples seen in training so far.
        per_latent: initial values of the parameters the rule adds, by name; each is [n_latents].
    Raises:
        ValueError: sizes or options that cannot be.
    """

    def __init__(
        self, d_in: int, n_latents: int, rule: str = "topk", *, d_out: int | None = None, skip: bool = False,
        context: int = 0, k: int | None = None, k_min: int | None = None, aux: float | None = None,
        k_aux: int | None = None, l1: float | None = None, l1_norm: str | None = None, p_start: float | None = None,
        p_end: float | None = None, l0: float | None = None, penalty: str | None = None, threshold: float | None = None,
        bandwidth: float | None = None, tanh_scale: float | None = None, groups: Sequence[int] | None = None,
        p: float | None = None, sampling: str | None = None, masked: float | None = None, seed: int = 0,
        dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu",
    ):
        given = {name: value for name, value in locals().items() if name not in _NOT_OPTIONS}
        super().__init__()
        self.d_in, self.n_latents, self.rule, self.context = d_in, n_latents, rule, context
        self.is_transcoder, self.d_out, self.seed = d_out is not None, d_out or d_in, seed
        check_sizes(d_in, n_latents, d_out, context, skip, rule, dtype)
        self.options = resolve(rule, n_latents, self.d_out, given)
        self._make_parameters(skip, dtype)
        self.to(device)

    def _make_parameters(self, skip: bool, dtype: torch.dtype) -> None:
        rng = generator(self.seed, "sparse coder")
        W_dec = F.normalize(torch.randn(self.n_latents, self.d_out, generator=rng, dtype=dtype), dim=1)
        self.W_dec, self.b_dec = nn.Parameter(W_dec), nn.Parameter(torch.zeros(self.d_out, dtype=dtype))
        has_encoder = self.rule != "matching_pursuit"
        self.W_enc = nn.Parameter(self._initial_encoder(rng)) if has_encoder else None
        self.b_enc = nn.Parameter(torch.zeros(self.n_latents, dtype=dtype)) if has_encoder else None
        self.W_skip = nn.Parameter(torch.zeros(self.d_out, self.d_in + self.context, dtype=dtype)) if skip else None
        one = torch.ones((), dtype=torch.float64)
        self.register_buffer("scale", one.clone())
        self.register_buffer("target_scale", one.clone())
        self.register_buffer("trained_on", torch.zeros((), dtype=torch.int64))
        self._make_rule_parameters(dtype)

    def _initial_encoder(self, rng: torch.Generator) -> Tensor:
        """A copy of W_dec for an autoencoder, random unit rows for a transcoder; context columns start at 0."""
        if not self.is_transcoder:
            rows = self.W_dec.detach().clone()
        else:
            drawn = torch.randn(self.n_latents, self.d_in, generator=rng, dtype=self.W_dec.dtype)
            rows = F.normalize(drawn, dim=1)
        return F.pad(rows, (0, self.context))  # [n_latents, d_in + context]

    def _make_rule_parameters(self, dtype: torch.dtype) -> None:
        self.per_latent = {
            "jumprelu": {"threshold": self.options.get("threshold")},
            "gated": {"log_scale": 0.0, "b_mag": 0.0},
            "stochastic": {"gate_scale": 1.0, "b_gate": 0.0},
        }.get(self.rule, {})
        for name, value in self.per_latent.items():
            self.register_parameter(name, nn.Parameter(torch.full((self.n_latents,), value, dtype=dtype)))
        buffers = {
            "batch_topk": {"inference_threshold": -1.0, "batch_threshold": 0.0},  # negative: not learned yet
            "matryoshka": {"inference_threshold": -1.0, "batch_threshold": 0.0},
            "p_anneal": {"exponent": 1.0, "exponent_weight": 1.0},
        }.get(self.rule, {})
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float64))

    @property
    def centre(self) -> Tensor | None:
        """What is subtracted before encoding: b_dec, 0 for context columns; None for a transcoder."""
        if self.is_transcoder:
            return None
        return F.pad(self.b_dec, (0, self.context)) if self.context else self.b_dec

    @property
    def has_unit_rows(self) -> bool:
        """Whether training keeps every row of W_dec at length 1."""
        return self.options.get("l1_norm") != "decoder"

    def pre_acts(self, x: Tensor, bf16: bool = False) -> Tensor:
        """h = (x - b_dec) W_encᵀ + b_enc of checked, scaled input [B, d_in + context]; [B, n_latents]."""
        x = x if self.centre is None else x - self.centre
        return product(x, self.W_enc.T, bf16) + self.b_enc if bf16 else F.linear(x, self.W_enc, self.b_enc)

    def encode(self, x: Tensor) -> Tensor:
        """Latents of activations, the same for a sample whatever else is in the batch.

        (Before training, batch_topk and matryoshka know no threshold and take the k B largest of the batch.)

        Args:
            x: activations, torch or NumPy, floating point, [B, d_in + context].
        Returns:
            latents, [B, n_latents].
        """
        return self._latents(self._scaled(x))

    def _latents(self, x: Tensor) -> Tensor:
        """`encode` of checked, scaled input."""
        if self.rule == "matching_pursuit":
            return rules.matching_pursuit(x if self.centre is None else x - self.centre, self.W_dec, self.options["k"])
        h = self.pre_acts(x)
        match self.rule:
            case "topk":
                return rules.topk(h, self.options["k"])
            case "abs_topk":
                return rules.abs_topk(h, self.options["k"])
            case "batch_topk" | "matryoshka" if self.inference_threshold < 0:
                return rules.batch_topk(h, self.options["k"] * len(h))[0]
            case "batch_topk" | "matryoshka":
                return rules.above(h, self.inference_threshold.to(h.dtype))
            case "jumprelu":
                return rules.jumprelu(h, self.threshold.to(h.dtype), self.options["bandwidth"])
            case "gated":
                return rules.gated(h - self.b_enc, self.b_enc, self.log_scale, self.b_mag)
            case "stochastic":
                return h.relu() * stochastic.causal_importance(h, self.gate_scale, self.b_gate)
        return rules.relu(h)

    def encode_sparse(self, x: Tensor) -> kernels.Codes:
        """The non-zero latents of `encode` as codes: values, indices, offsets of each sample.

        Where the rule allows it, the [B, n_latents] matrix is never stored.

        Args: as `encode`.
        """
        x = self._scaled(x)
        if self.rule in ("topk", "abs_topk"):
            absolute = self.rule == "abs_topk"
            codes = kernels.topk_codes(
                x, self.W_enc, self.b_enc, self.options["k"], centre=self.centre, absolute=absolute
            )
            return (codes if absolute else codes.with_values(codes.values.relu())).nonzero()
        if self.rule in ("relu", "p_anneal", "jumprelu", "batch_topk", "matryoshka"):
            lowest = self._lowest()
            if lowest is not None:
                return kernels.threshold_codes(x, self.W_enc, self.b_enc, lowest, centre=self.centre)
        return rules.sparse(self._latents(x))

    def _lowest(self) -> Tensor | float | None:
        if self.rule == "jumprelu":
            return self.threshold
        if self.rule in ("relu", "p_anneal"):
            return 0.0
        return None if self.inference_threshold < 0 else self.inference_threshold.to(self.W_dec.dtype)

    def decode(self, latents: Tensor | kernels.Codes, x: Tensor | None = None) -> Tensor:
        """Activations of latents, x̂ = f W_dec + b_dec (+ x W_skipᵀ) in the data's own units.

        Args:
            latents: torch or NumPy, floating point, [B, n_latents]; or codes.
            x: what they were encoded from; needed with a skip connection.
        Returns:
            recons, [B, d_out].
        """
        if isinstance(latents, kernels.Codes):
            latents = inputs.checked_codes(latents, self.n_latents, self.W_dec.dtype)
        else:
            latents = self.checked(latents, self.n_latents, "latents")
        if self.W_skip is not None and x is None:
            raise ValueError("this coder has a skip connection: decode(latents, x) needs x too")
        return self._decode(latents, self._scaled(x) if self.W_skip is not None else None) / self._out_scale

    def _decode(self, latents: Tensor | kernels.Codes, x: Tensor | None, bf16: bool = False) -> Tensor:
        """`decode` in scaled units."""
        is_codes = isinstance(latents, kernels.Codes)
        total = kernels.decode_codes(latents, self.W_dec) if is_codes else product(latents, self.W_dec, bf16)
        total = total + self.b_dec
        return total if self.W_skip is None else total + x @ self.W_skip.T

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction of x (a transcoder's prediction of y), [B, d_out]; arguments and errors as `encode`."""
        x = self._scaled(x)
        return self._decode(self._latents(x), x) / self._out_scale

    @property
    def _out_scale(self) -> Tensor:
        return self.target_scale.to(self.W_dec.dtype)

    def _scaled(self, x: Tensor) -> Tensor:
        return self.checked(x, self.d_in + self.context, "x") * self.scale.to(self.W_dec.dtype)

    def checked(self, x: Tensor, width: int, name: str) -> Tensor:
        """x as a finite tensor [B, width] of the coder's dtype and device; errors as `inputs.checked`."""
        return inputs.checked(x, width, name, self.W_dec.dtype, self.W_dec.device)

    @torch.no_grad()
    def tidy(self) -> None:
        """After an optimiser step: decoder rows back to length 1, thresholds back to >= 0."""
        if self.has_unit_rows:
            self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True).clamp_min(torch.finfo(self.W_dec.dtype).tiny))
        if self.rule == "jumprelu":
            self.threshold.clamp_(min=0)

    @torch.no_grad()
    def fold_scale(self) -> Self:
        """Put `scale` and `target_scale` into the weights, so that both are 1 and outputs are the same; returns self.

        Latents keep their values: W_enc <- s W_enc, W_dec <- W_dec / t, b_dec <- b_dec / t, W_skip <- s W_skip / t.
        Matching pursuit needs unit rows in the data's units, so its scale cannot be folded.
        """
        if self.rule == "matching_pursuit" and not self.scale == 1:
            raise ValueError("matching_pursuit encodes with its unit decoder rows: its scale cannot be folded")
        s, t = self.scale.to(self.W_dec.dtype), self._out_scale
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
        sizes = {"d_in": self.d_in, "n_latents": self.n_latents, "rule": self.rule, "context": self.context}
        kind = {"d_out": self.d_out if self.is_transcoder else None, "skip": self.W_skip is not None}
        return sizes | kind | {"seed": self.seed, "dtype": str(self.W_dec.dtype).removeprefix("torch.")} | self.options

    def save(self, path: str | Path) -> Path:
        """Write the coder to one safetensors file with its configuration inside; `load(path)` gives it back exactly."""
        dtype = self.W_dec.dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"a coder of {dtype} cannot be saved; coder.float().save(path) writes float32")
        wide = {name: b.double() for name, b in self.named_buffers() if b.is_floating_point()}
        return files.save(path, self.config(), self.state_dict() | wide)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())


_NOT_OPTIONS = ("self", "__class__", "d_in", "n_latents", "rule", "d_out", "skip", "context", "seed", "dtype", "device")


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


def product(a: Tensor, b: Tensor, bf16: bool) -> Tensor:
    """a @ b in the dtype of a, multiplied in bfloat16 if asked."""
    return (a.bfloat16() @ b.bfloat16()).to(a.dtype) if bf16 else a @ b
