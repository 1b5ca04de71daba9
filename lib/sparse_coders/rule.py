"""What every encoder rule is: options, and how a coder's weights give latents and a loss."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

from lib.params import Options
from lib.sparse_coders import losses
from lib.sparse_coders.kernels import Codes, decode_codes
from lib.sparse_coders.losses import Moment, Terms, reconstruction
from lib.sparse_coders.selection import Encoder

RULES: dict[str, type[Rule]] = {}
"""Every rule by its name."""


class Weights:
    """W_enc [n_latents, d_in + context], b_enc, W_dec [n_latents, d_out], b_dec, W_skip, and what the rule adds.

    `SparseCoder` is one; others have its tensors with some replaced. W_enc, b_enc and W_skip may be None. Everything
    is in scaled units.
    """

    W_enc: Tensor | None
    b_enc: Tensor | None
    W_dec: Tensor
    b_dec: Tensor
    W_skip: Tensor | None
    is_transcoder: bool
    context: int

    def __init__(self, values: Mapping[str, Any]):
        vars(self).update(values)

    @property
    def centre(self) -> Tensor | None:
        """What is subtracted before encoding: b_dec, 0 for context columns; None for a transcoder."""
        if self.is_transcoder:
            return None
        return F.pad(self.b_dec, (0, self.context)) if self.context else self.b_dec

    @property
    def encoder(self) -> Encoder:
        """The affine map to pre-activations, as kernels take it."""
        return Encoder(self.W_enc, self.b_enc, self.centre)

    def centred(self, x: Tensor) -> Tensor:
        """x - b_dec, [B, d_in + context]."""
        centre = self.centre
        return x if centre is None else x - centre

    def pre_acts(self, x: Tensor, moment: Moment | None = None) -> Tensor:
        """h = (x - b_dec) W_encᵀ + b_enc of checked, scaled input [B, d_in + context]; [B, n_latents]."""
        x = self.centred(x)
        return bf16_product(x, self.W_enc.T) + self.b_enc if in_bf16(moment) else F.linear(x, self.W_enc, self.b_enc)

    def reconstruct(self, latents: Tensor | Codes, x: Tensor | None, moment: Moment | None = None) -> Tensor:
        """x̂ = f W_dec + b_dec (+ x W_skipᵀ), [B, d_out]; x is needed with a skip connection."""
        if isinstance(latents, Codes):
            total = decode_codes(latents, self.W_dec)
        else:
            total = bf16_product(latents, self.W_dec) if in_bf16(moment) else latents @ self.W_dec
        total = total + self.b_dec
        return total if self.W_skip is None else total + x @ self.W_skip.T

    def left(self, x: Tensor, y: Tensor) -> Tensor:
        """What the latents have to add up to, y - b_dec (- x W_skipᵀ), [B, d_out]."""
        return (y if self.W_skip is None else y - x @ self.W_skip.T) - self.b_dec


def in_bf16(moment: Moment | None) -> bool:
    """Whether products are to be made in bfloat16."""
    return moment is not None and moment.bf16


def bf16_product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in the dtype of a, multiplied in bfloat16."""
    return (a.bfloat16() @ b.bfloat16()).to(a.dtype)


class Rule(Options):
    """How latents are chosen and what is minimised, mean_b |x̂_b - y_b|^2 + cost.

    Attributes:
        has_encoder: whether coders have W_enc and b_enc.
        has_bf16: whether products in bfloat16 are of use.
        is_dense: whether `latents` gives [B, n_latents], or else Codes.
        is_signed: whether latents may be negative.
        in_units: the parameters that grow with a latent's size; none where a size decides which latents are on.
        per_latent: parameters the rule adds, [n_latents] each, with the value they start from.
        buffers: numbers it keeps, float64, with the value they start from.
        spans: the field of a `Moment` it reads that depends on how long training is, if any.
    """

    name: ClassVar[str] = ""
    has_encoder: ClassVar[bool] = True
    has_bf16: ClassVar[bool] = True
    is_dense: ClassVar[bool] = True
    is_signed: ClassVar[bool] = False
    in_units: ClassVar[tuple[str, ...]] = ()
    per_latent: ClassVar[dict[str, float]] = {}
    buffers: ClassVar[dict[str, float]] = {}
    spans: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "", **_: Any) -> None:
        super().__init_subclass__()
        if name:
            cls.name, cls.owner, RULES[name] = name, f"rule {name}", cls

    def sized(self, n_latents: int, d_out: int) -> Self:
        """These options for a coder of such size: counts within n_latents, defaults that depend on it filled in."""
        for name in ("k", "k_min", "k_aux"):
            if (getattr(self, name, None) or 1) > n_latents:
                raise ValueError(f"{name} {getattr(self, name)} is outside 1 to n_latents = {n_latents}")
        return self

    @property
    def has_unit_rows(self) -> bool:
        """Whether training keeps every row of W_dec at length 1."""
        return True

    def latents(self, w: Weights, x: Tensor, moment: Moment | None = None) -> Tensor | Codes:
        """f of x, [B, n_latents] or codes; without a moment the same for a sample whatever else is in the batch."""
        raise NotImplementedError(f"{self.owner} says no latents")

    def cost(self, w: Weights, latents: Tensor, moment: Moment) -> Tensor | None:
        """The penalty on latents [B, n_latents]; None is 0."""
        return None

    def terms(self, w: Weights, x: Tensor, y: Tensor, moment: Moment) -> Terms:
        """The loss of samples taken at once, a mean over them."""
        latents = self.latents(w, x, moment)
        error = reconstruction(w.reconstruct(latents, x, moment), y)
        return Terms.of(error, self.cost(w, latents, moment), (latents != 0).sum(0))

    def loss(self, w: Weights, x: Tensor, y: Tensor, moment: Moment) -> Terms:
        """The loss of a batch of any size."""
        return losses.by_chunks(self.terms, w, x, y, moment)

    def tidy(self, w: Weights) -> None:
        """Bring the rule's parameters back to where they may be after an optimiser's step."""


def rule_of(name: str, options: dict) -> Rule:
    """The rule of this name with these options."""
    if name not in RULES:
        raise ValueError(f"rule {name!r} is not one of {', '.join(RULES)}")
    return RULES[name](**options)
