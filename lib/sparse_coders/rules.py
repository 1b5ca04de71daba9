"""Encoder rules, one class each: options, what a coder of the rule has beside its weights, latents, and loss.

`latents(w, x)` is inference, `latents(w, x, moment)` training; w are the coder's `Weights`, x its scaled input
[B, d_in + context], y its scaled target [B, d_out]. A new rule is a new subclass, known by its name from then on:

    class Half(Rule, name="half"):
        def latents(self, w, x, moment=None):
            return w.pre_acts(x, moment).relu() / 2

    SparseCoder(64, 512, "half")
"""
from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from lib.params import Count, Positive, Share, Weight
from lib.sparse_coders import dense_kernels, functions, kernels, losses
from lib.sparse_coders.kernels import Codes
from lib.sparse_coders.losses import Moment, Terms, reconstruction
from lib.sparse_coders.rule import Rule, Weights, in_bf16
from lib.sparse_coders.selection import chunk_size


class ReLU(Rule, name="relu"):
    """f = max(h, 0), cost = l1 · mean_b sum_j f_j. Source: Bricken et al. 2023, "Towards monosemanticity"."""

    l1: Weight = Field(1.0, description="weight of the penalty on magnitudes")
    l1_norm: Literal["unit", "decoder"] = Field(
        "unit", description='"unit" keeps decoder rows at length 1; "decoder" lets them go and counts f_j |w_j|')
    in_units: ClassVar = ("b_enc",)

    @property
    def has_unit_rows(self) -> bool:
        return self.l1_norm == "unit"

    def latents(self, w, x, moment=None):
        return w.pre_acts(x, moment).relu()

    def magnitudes(self, w: Weights, latents: Tensor) -> Tensor:
        """What is penalised: latents, times the length of their decoder rows where those are free."""
        return latents if self.has_unit_rows else latents * w.W_dec.norm(dim=1)

    def cost(self, w, latents, moment):
        return moment.sparsity * self.l1 * self.magnitudes(w, latents).sum(1).mean()

    def loss(self, w, x, y, moment):
        if type(self).latents is not ReLU.latents or moment.bf16 or not losses.is_large(w, x):
            return super().loss(w, x, y, moment)
        lengths, weight = None if self.has_unit_rows else w.W_dec.norm(dim=1), moment.sparsity * self.l1
        out = dense_kernels.l1_loss(x, w.left(x, y), w.encoder, w.W_dec, weight, weights=lengths)
        return Terms(out.loss, out.recon, weight * out.penalty, out.recon.new_zeros(()), out.fired)


class PAnneal(ReLU, name="p_anneal"):
    """f = max(h, 0), cost = l1 · w · mean_b sum_j f_j^p with p falling from 1 to p_end; w keeps the cost from jumping.
    Source: Karvonen et al. 2024, "Measuring progress in dictionary learning with board games", p-annealing.
    """

    p_end: Positive = Field(0.2, description="exponent at the end of training")
    p_start: Share = Field(0.5, description="share of training after which the exponent falls")
    buffers: ClassVar = {"exponent": 1.0, "exponent_weight": 1.0}
    spans: ClassVar = "progress"

    def exponent_at(self, progress: float) -> float:
        """p: 1 until p_start, then falling linearly to p_end."""
        return 1 + max(0.0, progress - self.p_start) / max(1 - self.p_start, 1e-12) * (self.p_end - 1)

    def cost(self, w, latents, moment):
        sized, p = self.magnitudes(w, latents), self.exponent_at(moment.progress)
        sized = w.exponent_weight.to(sized.dtype) * functions.power(sized, p)
        return moment.sparsity * self.l1 * sized.sum(1).mean()

    def loss(self, w, x, y, moment):
        self.anneal(w, x, moment)
        return Rule.loss(self, w, x, y, moment)

    @torch.no_grad()
    def anneal(self, w: Weights, x: Tensor, moment: Moment) -> None:
        """Set p, and the weight with which the penalty of this batch keeps its value as p falls."""
        before, now = float(w.exponent), self.exponent_at(moment.progress)
        if before == now:
            return
        old, new = x.new_zeros(()), x.new_zeros(())
        for part in x.split(chunk_size(len(w.W_dec), x.device)):
            sized = self.magnitudes(w, self.latents(w, part, moment))
            old += functions.power(sized, before).sum()
            new += functions.power(sized, now).sum()
        w.exponent_weight.mul_(torch.where(new > 0, old / new, 1.0))
        w.exponent.fill_(now)


class Gated(ReLU, name="gated"):
    """f = 1[π > 0] · max(e^r h̃ + b_mag, 0), π = h̃ + b_enc = h; cost = l1 · mean_b sum_j max(π_j, 0) + |x̂_π - y|^2,
    where x̂_π, the reconstruction from max(π, 0) by a decoder held fixed, teaches the gate.
    Source: Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders".
    """

    l1: Weight = Field(3.0, description="weight of the penalty on max(π, 0)")
    in_units: ClassVar = ("b_enc", "b_mag")
    per_latent: ClassVar = {"log_scale": 0.0, "b_mag": 0.0}

    def latents(self, w, x, moment=None):
        return self.gated(w, self.projection(w, x, moment))

    def projection(self, w: Weights, x: Tensor, moment: Moment | None) -> Tensor:
        """h̃ = (x - b_dec) W_encᵀ, [B, n_latents]."""
        return w.pre_acts(x, moment) - w.b_enc

    def gated(self, w: Weights, projection: Tensor) -> Tensor:
        """f of h̃, [B, n_latents]."""
        return (projection + w.b_enc > 0) * (projection * w.log_scale.exp() + w.b_mag).relu()

    def terms(self, w, x, y, moment):
        projection = self.projection(w, x, moment)
        latents, gate = self.gated(w, projection), (projection + w.b_enc).relu()
        cost = self.cost(w, gate, moment)
        frozen = gate @ w.W_dec.detach() + w.b_dec.detach()
        if w.W_skip is not None:
            frozen = frozen + x @ w.W_skip.detach().T
        error = reconstruction(w.reconstruct(latents, x, moment), y)
        return Terms.of(error, cost, (latents != 0).sum(0), aux=reconstruction(frozen, y))


class ProLU(ReLU, name="prolu"):
    """f = h̃ · 1[h̃ > 0] · 1[h > 0] with h̃ = (x - b_dec) W_encᵀ = h - b_enc: a bias cuts and does not shift, as
    JumpReLU's θ = max(-b_enc, 0); cost as of relu. The bias learns by a gradient made for it (`functions.prolu`).
    Source: Taggart 2024, "ProLU: a nonlinearity for sparse autoencoders".
    """

    gradient: Literal["ste", "relu"] = Field("ste", description='"ste" sends it through the gate, "relu" as max(h, 0)')

    def latents(self, w, x, moment=None):
        return functions.prolu(w.pre_acts(x, moment) - w.b_enc, w.b_enc, self.gradient == "ste")


class TopK(Rule, name="topk"):
    """f = max(h, 0) of the k largest h of each sample, 0 elsewhere; dead latents learn by AuxK (`losses.auxk`).
    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders".
    """

    k: Count = Field(32, description="active latents per sample")
    aux: Weight = Field(1 / 32, description="weight of the AuxK loss; 0: none")
    k_aux: Count | None = Field(None, description="dead latents it uses per sample; None: d_out / 2")
    is_dense: ClassVar = False

    def sized(self, n_latents, d_out):
        k_aux = max(1, min(d_out // 2, n_latents)) if self.k_aux is None else self.k_aux
        return super().sized(n_latents, d_out).replace(k_aux=k_aux)

    def latents(self, w, x, moment=None):
        codes = kernels.topk_codes(x, w.encoder, self.k, absolute=self.is_signed, screen=in_bf16(moment))
        return codes if self.is_signed else codes.with_values(codes.values.relu())

    def error(self, w: Weights, codes: Codes, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction loss, and the reconstruction."""
        recons = w.reconstruct(codes, x)
        return reconstruction(recons, y), recons

    def loss(self, w, x, y, moment):
        codes = self.latents(w, x, moment)
        fired = torch.zeros(len(w.W_dec), dtype=torch.int64, device=x.device)
        fired.index_add_(0, codes.indices, (codes.values.detach() != 0).long())
        error, recons = self.error(w, codes, x, y)
        if not self.aux or moment.dead is None:
            return Terms.of(error, None, fired)
        revived = losses.auxk(x, w.encoder, w.W_dec, y - recons, moment.dead, self.k_aux, self.is_signed)
        return Terms.of(error, None, fired, self.aux * revived)


class BatchTopK(TopK, name="batch_topk"):
    """f = h where h > τ, else 0; in training τ keeps the k B largest of the batch, in use it is their running mean.
    Source: Bussmann, Leask & Nanda 2024, "BatchTopK sparse autoencoders".
    """

    k: Count = Field(32, description="active latents per sample, on average")
    has_bf16: ClassVar = False
    buffers: ClassVar = {"inference_threshold": -1.0, "batch_threshold": 0.0}  # negative: not learned yet
    spans: ClassVar = "decay"

    def latents(self, w, x, moment=None):
        if moment is None and w.inference_threshold >= 0:
            return kernels.threshold_codes(x, w.encoder, w.inference_threshold.to(x.dtype))
        codes, threshold = kernels.batch_topk_codes(x, w.encoder, self.k * len(x), floor=float(w.batch_threshold))
        if moment is not None:
            w.batch_threshold.copy_(torch.nan_to_num(threshold, posinf=0.0))
            functions.follow(w.inference_threshold, threshold, moment.decay)
        return codes


class Matryoshka(BatchTopK, name="matryoshka"):
    """As batch_topk, with the reconstruction loss averaged over prefixes of the latents, each reconstructing alone.
    Source: Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse autoencoders".
    """

    groups: tuple[int, ...] | None = Field(
        None, description="rising prefix sizes ending in n_latents; None: n_latents / 16, / 8, / 4, / 2, / 1")

    def sized(self, n_latents, d_out):
        halves = tuple(sorted({n_latents >> shift for shift in range(5)} - {0}))
        sizes = halves if self.groups is None else self.groups
        if not sizes or list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != n_latents:
            raise ValueError(f"groups must be rising prefix sizes that end in n_latents = {n_latents}, got {sizes}")
        return super().sized(n_latents, d_out).replace(groups=sizes)

    def error(self, w, codes, x, y):
        recons, errors, low = w.b_dec if w.W_skip is None else w.b_dec + x @ w.W_skip.T, [], 0
        for high in self.groups:
            inside = (codes.indices >= low) & (codes.indices < high)
            recons = recons + kernels.decode_codes(codes.with_values(codes.values * inside), w.W_dec)
            errors.append(reconstruction(recons, y))
            low = high
        return torch.stack(errors).mean(), recons


class AbsTopK(TopK, name="abs_topk"):
    """f = h at the k largest |h| of each sample, with their signs, 0 elsewhere.
    Source: Zhu et al. 2025, "AbsTopK: rethinking sparse autoencoders for bidirectional features".
    """

    k_min: Count | None = Field(None, description="in training each sample's k is log-uniform from k_min to k")
    is_signed: ClassVar = True

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.k_min is not None and self.k_min > self.k:
            raise ValueError(f"k_min {self.k_min} is larger than k {self.k}")
        return self

    def latents(self, w, x, moment=None):
        codes = super().latents(w, x, moment)
        if moment is None or self.k_min is None:
            return codes
        magnitudes = codes.values.detach().abs().view(len(x), self.k)
        rank = magnitudes.argsort(1, descending=True).argsort(1)
        kept = functions.log_uniform_k(len(x), self.k_min, self.k, moment.rng)
        return codes.with_values(codes.values * (rank < kept[:, None]).flatten())


class JumpReLU(Rule, name="jumprelu"):
    """f = h · 1[h > θ] with a threshold θ for each latent, learned by a rectangle kernel of width `bandwidth`;
    cost = l0 · mean_b sum_j 1[h_j > θ_j], or of tanh(tanh_scale f_j |w_j|), or l0 · (mean_b sum_j 1[..] / k - 1)^2.
    Source: Rajamanoharan et al. 2024, "Jumping ahead".
    """

    l0: Weight = Field(1.0, description="weight of the penalty")
    penalty: Literal["l0", "tanh", "target_l0"] = Field("l0", description="what is penalised, as above")
    threshold: Weight = Field(0.1, description="θ before training")
    bandwidth: Positive = Field(0.1, description="width ε of the window around θ in which it has a gradient")
    tanh_scale: Positive = Field(4.0, description="of penalty tanh")
    k: Count | None = Field(
        default_factory=lambda given: 32 if given["penalty"] == "target_l0" else None,
        description="the l0 that penalty target_l0 aims at, 32")
    in_units: ClassVar = ("b_enc", "threshold")

    @model_validator(mode="after")
    def _aims(self) -> Self:
        if (self.k is not None) != (self.penalty == "target_l0"):
            raise ValueError("option k of rule jumprelu is the aim of penalty target_l0; give k and "
                             "penalty='target_l0', or neither")
        return self

    @property
    def per_latent(self) -> dict[str, float]:
        return {"threshold": self.threshold}

    def latents(self, w, x, moment=None):
        return functions.jumprelu(w.pre_acts(x, moment), w.threshold, self.bandwidth)

    def weighed(self, size: Tensor, moment: Moment) -> Tensor:
        """The penalty, of the mean L0 (or sum of tanh) of the batch."""
        aimed = (size / self.k - 1).square() if self.penalty == "target_l0" else size
        return moment.sparsity * self.l0 * aimed

    def terms(self, w, x, y, moment):
        h = w.pre_acts(x, moment)
        latents = functions.jumprelu(h, w.threshold, self.bandwidth)
        error = reconstruction(w.reconstruct(latents, x, moment), y)
        if self.penalty == "tanh":
            size = (self.tanh_scale * latents * w.W_dec.norm(dim=1)).tanh()
        else:
            size = functions.step(h, w.threshold, self.bandwidth)
        return Terms.of(error, self.weighed(size.sum(1).mean(), moment), (latents != 0).sum(0))

    def loss(self, w, x, y, moment):
        if self.penalty == "tanh" or moment.bf16 or not losses.is_large(w, x):
            whole = self.penalty == "target_l0"  # no mean over samples
            return self.terms(w, x, y, moment) if whole else super().loss(w, x, y, moment)
        out = dense_kernels.jumprelu_loss(x, w.left(x, y), w.encoder, w.W_dec, w.threshold, self.bandwidth)
        return Terms.of(out.recon, self.weighed(out.l0, moment), out.fired)

    def tidy(self, w):
        w.threshold.clamp_(min=0)


class Stochastic(Rule, name="stochastic"):
    """f = m · max(h, 0) with m = ci, in training m = ci + (1 - ci) u, u ~ U(0, 1): what is unimportant is ablated.
    ci = clamp(a h + c, 0, 1) is each latent's causal importance; cost = l1 · mean_b sum_j ci_j^p.
    Source: Bushnaq et al. 2025, "Stochastic parameter decomposition".
    """

    l1: Weight = Field(1.0, description="weight of the penalty on causal importances")
    p: Positive = Field(1.0, description="its exponent")
    sampling: Literal["noise", "bernoulli"] = Field(
        "noise", description='of masks; "bernoulli" ones have no gradient, and are here to show that')
    masked: Share = Field(0.5, description="share of the reconstruction loss taken at m = ci, as inference has it")
    per_latent: ClassVar = {"gate_scale": 1.0, "b_gate": 0.0}

    def latents(self, w, x, moment=None):
        h, importance = self.importance(w, x, moment)
        return h.relu() * importance

    def importance(self, w: Weights, x: Tensor, moment: Moment | None) -> tuple[Tensor, Tensor]:
        """h and ci, [B, n_latents] each."""
        h = w.pre_acts(x, moment)
        return h, functions.causal_importance(h, w.gate_scale, w.b_gate)

    def terms(self, w, x, y, moment):
        h, importance = self.importance(w, x, moment)
        mask = functions.sample_mask(importance, moment.rng, self.sampling)
        error = (1 - self.masked) * reconstruction(w.reconstruct(h.relu() * mask, x, moment), y)
        if self.masked:  # what inference does; random masks alone leave it untrained
            error = error + self.masked * reconstruction(w.reconstruct(h.relu() * importance, x, moment), y)
        size = (importance + 1e-12).pow(self.p).sum(1).mean()
        return Terms.of(error, moment.sparsity * self.l1 * size, ((h > 0) & (importance > 0)).sum(0))


class MatchingPursuit(Rule, name="matching_pursuit"):
    """f = what k steps of matching pursuit take of x - b_dec with the decoder's rows; there is no encoder.
    Source: Costa et al. 2025, "From flat to hierarchical: extracting sparse representations with matching pursuit".
    """

    k: Count = Field(32, description="steps")
    has_encoder: ClassVar = False
    has_bf16: ClassVar = False
    is_signed: ClassVar = True

    def latents(self, w, x, moment=None):
        return functions.matching_pursuit(w.centred(x), w.W_dec, self.k)

    def loss(self, w, x, y, moment):
        return self.terms(w, x, y, moment)
