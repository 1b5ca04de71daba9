"""What a sparse coder is trained on: reconstruction, the penalty of its rule, and the revival of dead latents.

Reconstruction is summed over dimensions and averaged over the batch, mean_b |x̂_b - x_b|^2; penalties are summed over
latents and averaged over the batch, so nothing depends on the batch size.

Large batches never store the [B, n_latents] matrix, but for two: matching_pursuit, and jumprelu with penalty target_l0
in bfloat16.
"""
from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from lib.sparse_coders import chunks, dense_kernels, kernels, rules, stochastic
from lib.sparse_coders.resampling import auxk
from lib.sparse_coders.selection import chunk_size

if TYPE_CHECKING:
    from lib.sparse_coders.coder import SparseCoder

FUSED_FROM = 1 << 20
"""B x n_latents from which the losses of dense rules are computed without storing that matrix."""
FULL_PRECISION = ("batch_topk", "matryoshka", "matching_pursuit")
"""Rules whose search for latents has no bfloat16 form."""


class Moment(NamedTuple):
    """Where training stands.

    Attributes:
        sparsity: factor on the penalty, 0 to 1 during its warm-up.
        progress: share of training done, 0 to 1.
        dead: ids of dead latents, int64 [n_dead], or None where there can be none yet.
        rng: source of masks and of k per sample, on the coder's device; needed by abs_topk with k_min and stochastic.
        decay: of the running mean of the batch thresholds that inference uses.
        bf16: multiply in bfloat16; not for the rules in `FULL_PRECISION`.
    """

    sparsity: float = 1.0
    progress: float = 0.0
    dead: Tensor | None = None
    rng: torch.Generator | None = None
    decay: float = 0.999
    bf16: bool = False


class Terms(NamedTuple):
    """The loss of a batch and its parts, scalars on the coder's device.

    Attributes:
        total: what is minimised, reconstruction + penalty + aux.
        reconstruction, penalty, aux: its parts, weights included.
        fired: on how many samples each latent was active, int64 [n_latents].
    """

    total: Tensor
    reconstruction: Tensor
    penalty: Tensor
    aux: Tensor
    fired: Tensor


def loss(coder: SparseCoder, x: Tensor, y: Tensor | None = None, moment: Moment | None = None) -> Terms:
    """Training loss of a coder on one batch, in its scaled units.

    Args:
        x: scaled input, [B, d_in + context].
        y: scaled target, [B, d_out]; None for an autoencoder, whose target is x without its context.
        moment: where training stands; by default its start, with full sparsity.
    """
    if moment and moment.bf16:
        check_bf16(coder.rule)
    y = x[:, : coder.d_in] if y is None else y
    moment = moment or Moment()
    return _LOSSES[coder.rule](coder, x, y, moment)


def check_bf16(rule: str) -> None:
    """Refuse bfloat16 for rules that would ignore it; ValueError says which."""
    if rule in FULL_PRECISION:
        raise ValueError(f"precision='bf16' would do nothing for rule {rule}, which chooses its latents in full "
                         "precision; use precision='float32'")


def reconstruction(recons: Tensor, y: Tensor) -> Tensor:
    """mean_b sum_d (ŷ - y)^2 of [B, d_out] tensors."""
    return (recons - y).square().sum(1).mean()


def _terms(recons_loss, penalty, fired, aux=None) -> Terms:
    aux = recons_loss.new_zeros(()) if aux is None else aux
    return Terms(recons_loss + penalty + aux, recons_loss, penalty, aux, fired)


def _topk_family(coder, x, y, moment) -> Terms:
    codes = training_codes(coder, x, moment)
    fired = torch.zeros(coder.n_latents, dtype=torch.int64, device=x.device)
    fired.index_add_(0, codes.indices, (codes.values.detach() != 0).long())
    if coder.rule == "matryoshka":
        recons_loss, recons = _nested(coder, codes, x, y)
    else:
        recons = coder._decode(codes, x)
        recons_loss = reconstruction(recons, y)
    aux, options = None, coder.options
    if options["aux"] and moment.dead is not None:
        weights, signed = (coder.W_enc, coder.b_enc, coder.W_dec), coder.rule == "abs_topk"
        aux = options["aux"] * auxk(x, *weights, coder.centre, y - recons, moment.dead, options["k_aux"], signed)
    return _terms(recons_loss, recons_loss.new_zeros(()), fired, aux)


def training_codes(coder: SparseCoder, x: Tensor, moment: Moment) -> kernels.Codes:
    """Codes of a training batch: k per sample, k B per batch, or log-uniform k; updates the inference threshold."""
    k, encoder = coder.options["k"], (x, coder.W_enc, coder.b_enc)
    if coder.rule == "abs_topk":
        codes = kernels.topk_codes(*encoder, k, centre=coder.centre, absolute=True, screen=moment.bf16)
        if coder.options["k_min"] is None:
            return codes
        magnitudes = codes.values.detach().abs().view(len(x), k)
        rank = magnitudes.argsort(1, descending=True).argsort(1)
        kept = rules.log_uniform_k(len(x), coder.options["k_min"], k, moment.rng)
        return codes.with_values(codes.values * (rank < kept[:, None]).flatten())
    if coder.rule == "topk":
        codes = kernels.topk_codes(*encoder, k, centre=coder.centre, screen=moment.bf16)
        return codes.with_values(codes.values.relu())
    floor = float(coder.batch_threshold)
    codes, threshold = kernels.batch_topk_codes(*encoder, k * len(x), floor=floor, centre=coder.centre)
    coder.batch_threshold.copy_(torch.nan_to_num(threshold, posinf=0.0))
    follow_threshold(coder.inference_threshold, threshold, moment.decay)
    return codes


@torch.no_grad()
def follow_threshold(average: Tensor, threshold: Tensor, decay: float) -> None:
    """Move a running mean of thresholds (negative: none yet) towards this batch's; 0 or inf: it had none."""
    threshold = threshold.to(average.dtype)
    moved = torch.where(average < 0, threshold, decay * average + (1 - decay) * threshold)
    average.copy_(torch.where((threshold > 0) & threshold.isfinite(), moved, average))


def _nested(coder, codes, x, y) -> tuple[Tensor, Tensor]:
    """Mean reconstruction loss of every prefix of latents, and the reconstruction by all of them."""
    recons, losses, low = coder.b_dec if coder.W_skip is None else coder.b_dec + x @ coder.W_skip.T, [], 0
    for high in coder.options["groups"]:
        inside = (codes.indices >= low) & (codes.indices < high)
        recons = recons + kernels.decode_codes(codes.with_values(codes.values * inside), coder.W_dec)
        losses.append(reconstruction(recons, y))
        low = high
    return torch.stack(losses).mean(), recons


def _is_large(coder, x) -> bool:
    return x.shape[0] * coder.n_latents >= FUSED_FROM


def _by_chunks(rule_loss, coder, x, y, moment) -> Terms:
    """`rule_loss(coder, x, y, moment)`, a mean over samples, of a large batch: added up chunk by chunk.

    Gradients are those of the parameters; where the batch itself wants one, it is taken whole.
    """
    if not _is_large(coder, x) or x.requires_grad or y.requires_grad:
        return rule_loss(coder, x, y, moment)
    names, parameters = zip(*coder.named_parameters(), strict=True)

    def part(x_part, y_part, *leaves):
        stand_in = copy.copy(coder)
        stand_in._parameters = coder._parameters | dict(zip(names, leaves, strict=True))
        *terms, fired = rule_loss(stand_in, x_part, y_part, moment)
        return *(len(x_part) / len(x) * term for term in terms), fired

    return Terms(*chunks.chunked_loss(part, (x, y), parameters, chunk_size(coder.n_latents, x.device)))


def _own_target(coder, x, y) -> Tensor:
    """What latents and bias have to make up, y without the skip connection's part."""
    return y if coder.W_skip is None else y - x @ coder.W_skip.T


def _relu(coder, x, y, moment) -> Terms:
    if not _is_large(coder, x) or moment.bf16:
        return _by_chunks(_relu_dense, coder, x, y, moment)
    lengths = None if coder.has_unit_rows else coder.W_dec.norm(dim=1)
    weight, own = moment.sparsity * coder.options["l1"], _own_target(coder, x, y)
    parameters = (coder.W_enc, coder.b_enc, coder.W_dec, coder.b_dec)
    out = dense_kernels.l1_loss(x, *parameters, weight, target=own, centre=coder.centre, weights=lengths)
    return Terms(out.loss, out.recon, weight * out.penalty, out.recon.new_zeros(()), out.fired)


def _p_anneal(coder, x, y, moment) -> Terms:
    _anneal(coder, x, moment)
    return _by_chunks(_relu_dense, coder, x, y, moment)


def _relu_dense(coder, x, y, moment) -> Terms:
    latents = coder.pre_acts(x, moment.bf16).relu()
    recons_loss, sized = reconstruction(coder._decode(latents, x, moment.bf16), y), _sized(coder, latents)
    if coder.rule == "p_anneal":
        sized = coder.exponent_weight.to(sized.dtype) * _power(sized, _exponent(coder, moment))
    size = sized.sum(1).mean()
    return _terms(recons_loss, moment.sparsity * coder.options["l1"] * size, (latents != 0).sum(0))


def _sized(coder, latents: Tensor) -> Tensor:
    """Latents, times the length of their decoder rows where those are free."""
    return latents if coder.has_unit_rows else latents * coder.W_dec.norm(dim=1)


def _power(sized: Tensor, exponent: float) -> Tensor:
    """f^p where f > 0, else 0; the gradient of f^p has no limit at 0."""
    return sized.clamp_min(1e-8).pow(exponent) * (sized.detach() > 0)


def _exponent(coder, moment) -> float:
    """p: 1 until p_start, then falling linearly to p_end."""
    start, end = coder.options["p_start"], coder.options["p_end"]
    return 1 + max(0.0, moment.progress - start) / max(1 - start, 1e-12) * (end - 1)


@torch.no_grad()
def _anneal(coder, x, moment) -> None:
    """Set p, and the weight w of w · mean_b sum_j f^p so that the penalty of this batch keeps its value as p falls.

    Source: Karvonen et al. 2024, "Measuring progress in dictionary learning with board games", p-annealing.
    """
    before, now = float(coder.exponent), _exponent(coder, moment)
    if before == now:
        return
    old, new = x.new_zeros(()), x.new_zeros(())
    for part in x.split(chunk_size(coder.n_latents, x.device)):
        sized = _sized(coder, coder.pre_acts(part, moment.bf16).relu())
        old += _power(sized, before).sum()
        new += _power(sized, now).sum()
    coder.exponent_weight.mul_(torch.where(new > 0, old / new, 1.0))
    coder.exponent.fill_(now)


def _gated_dense(coder, x, y, moment) -> Terms:
    projection = coder.pre_acts(x, moment.bf16) - coder.b_enc
    latents = rules.gated(projection, coder.b_enc, coder.log_scale, coder.b_mag)
    gate = (projection + coder.b_enc).relu()
    penalty = moment.sparsity * coder.options["l1"] * _sized(coder, gate).sum(1).mean()
    frozen = gate @ coder.W_dec.detach() + coder.b_dec.detach()
    if coder.W_skip is not None:
        frozen = frozen + x @ coder.W_skip.detach().T
    recons_loss = reconstruction(coder._decode(latents, x, moment.bf16), y)
    return _terms(recons_loss, penalty, (latents != 0).sum(0), aux=reconstruction(frozen, y))


def _jumprelu(coder, x, y, moment) -> Terms:
    options, penalty = coder.options, coder.options["penalty"]
    if penalty == "tanh" or moment.bf16 or not _is_large(coder, x):
        if penalty == "target_l0":  # no mean over samples
            return _jumprelu_dense(coder, x, y, moment)
        return _by_chunks(_jumprelu_dense, coder, x, y, moment)
    parameters = (coder.W_enc, coder.b_enc, coder.W_dec, coder.b_dec, coder.threshold)
    recons_loss, size, fired = dense_kernels.jumprelu_loss(
        x, *parameters, options["bandwidth"], target=_own_target(coder, x, y), centre=coder.centre
    )
    return _terms(recons_loss, _jumprelu_penalty(coder, size, moment), fired)


def _jumprelu_dense(coder, x, y, moment) -> Terms:
    h, options = coder.pre_acts(x, moment.bf16), coder.options
    latents = rules.jumprelu(h, coder.threshold, options["bandwidth"])
    recons_loss = reconstruction(coder._decode(latents, x, moment.bf16), y)
    if options["penalty"] == "tanh":
        size = (options["tanh_scale"] * latents * coder.W_dec.norm(dim=1)).tanh()
    else:
        size = rules.step(h, coder.threshold, options["bandwidth"])
    return _terms(recons_loss, _jumprelu_penalty(coder, size.sum(1).mean(), moment), (latents != 0).sum(0))


def _jumprelu_penalty(coder, size: Tensor, moment) -> Tensor:
    """Of the mean L0 (or sum of tanh) of the batch."""
    aimed = (size / coder.options["k"] - 1).square() if coder.options["penalty"] == "target_l0" else size
    return moment.sparsity * coder.options["l0"] * aimed


def _stochastic_dense(coder, x, y, moment) -> Terms:
    h = coder.pre_acts(x, moment.bf16)
    importance = stochastic.causal_importance(h, coder.gate_scale, coder.b_gate)
    mask, share = stochastic.sample_mask(importance, moment.rng, coder.options["sampling"]), coder.options["masked"]
    recons_loss = (1 - share) * reconstruction(coder._decode(h.relu() * mask, x, moment.bf16), y)
    if share:  # what inference does; random masks alone leave it untrained
        recons_loss = recons_loss + share * reconstruction(coder._decode(h.relu() * importance, x, moment.bf16), y)
    size = (importance + 1e-12).pow(coder.options["p"]).sum(1).mean()
    fired = ((h > 0) & (importance > 0)).sum(0)
    return _terms(recons_loss, moment.sparsity * coder.options["l1"] * size, fired)


def _matching_pursuit(coder, x, y, moment) -> Terms:
    latents = coder._latents(x)
    recons_loss = reconstruction(coder._decode(latents, x), y)
    return _terms(recons_loss, recons_loss.new_zeros(()), (latents != 0).sum(0))


_LOSSES = dict.fromkeys(("topk", "batch_topk", "matryoshka", "abs_topk"), _topk_family) | {
    "relu": _relu, "p_anneal": _p_anneal, "gated": partial(_by_chunks, _gated_dense), "jumprelu": _jumprelu,
    "stochastic": partial(_by_chunks, _stochastic_dense), "matching_pursuit": _matching_pursuit,
}
