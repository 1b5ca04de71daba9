"""What measures: trained coders against the features of their world, worlds without one, and gradients of masks."""
from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.metrics import recovery, sparsity
from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.sparse_coders import SparseCoder
from lib.sparse_coders.functions import causal_importance, sample_mask
from lib.sparse_coders.losses import reconstruction
from lib.sparse_coders.report import likeness, oriented, report
from lib.studies.sparse_coders_recovery import train
from lib.studies.sparse_coders_recovery.probe import linear_probe
from lib.studies.sparse_coders_recovery.samples import TOYS, OneWorld, ground_truth, samples, size
from lib.studies.sparse_coders_recovery.worlds import SLUG, World, stream


def sweep(params: OneWorld, world: str, arm: str, seed: int, plan: dict[str, Any]) -> dict[str, Any]:
    """Judge the coders of one arm in one world, one per setting; trains them where they are not there yet.

    Args:
        plan: as `train.plan_of` makes it.
    Returns:
        rows: DataFrame, one row per setting, columns as in `runs`; decoders [settings, n_latents, d] in the small toy.
    """
    truth, data = ground_truth(params, world, seed), samples(params, world, seed)
    held = train.inputs(params, world, arm, seed)[1]
    coders = train.untrained(params, world, arm, seed, plan["settings"], held.shape[1])
    for coder, state in zip(coders, reuse(train.coders, params, world, arm, seed, plan)["coders"], strict=True):
        coder.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    spec = train.ARMS[arm]
    if spec.context == "target":  # its decoder writes the directions of the other site
        truth = truth._replace(dictionary=truth.view)
    rows = [{"setting": getattr(coder.rule, spec.option)} | _judged(coder, truth, held, data.held[1], world)
            for coder in coders]
    if spec.context == "target":
        rows = [row | {"fvu": _unexplained(coder, held, data.held[2])} for row, coder in zip(rows, coders, strict=True)]
    found: dict[str, Any] = {"rows": pd.DataFrame(rows)}
    if world == "toy":
        found["decoders"] = np.stack([oriented(coder, held)[0] for coder in coders])
    return found


def facts(params: OneWorld, world: str, seed: int, draws: int) -> dict[str, float]:
    """What is known of a world without a trained coder: its own l0, a supervised probe, and random dictionaries.

    A random dictionary is an untrained TopK coder of equal size whose k is the world's own l0; it encodes with its
    decoder. Each null_* is the mean over `draws` of them, null_*_high their 97.5 % quantile.
    """
    truth, data = ground_truth(params, world, seed), samples(params, world, seed)
    x, features, _ = data.held
    active, width = features.cpu().numpy() != 0, truth.dictionary.shape[1]
    found = {"true_l0": float(active.sum(1).mean()), "n_features": len(truth.dictionary)}
    if not truth.signed:
        told_of = data.train[1] != 0
        told = recovery.detection(linear_probe(data.train[0][: len(told_of)], told_of, x), active)
        found |= {"probe_f1": float(np.nanmean(told.f1)), "probe_auc": float(np.nanmean(told.auc))}
    rows = []
    for draw in range(draws):
        own = {"k": max(1, round(found["true_l0"])), "seed": stream_seed(params.seed, SLUG, "null", seed, draw)}
        coder = SparseCoder(width, size(params, world, truth), "topk", **own, device=x.device)
        _prepare(coder, x)
        rows.append(_judged(coder, truth, x, features, world))
    table = pd.DataFrame(rows)
    means, highs = table.mean().add_prefix("null_"), table.quantile(0.975).add_prefix("null_").add_suffix("_high")
    return found | means.to_dict() | highs.to_dict()


def gate_gradients(params: train.Training, draws: int = 20) -> pd.DataFrame:
    """Norm of the gradient that reaches the causal importances through the mask, noise against Bernoulli.

    Returns:
        One row per seed, draw of the mask and sampling: columns seed, draw, sampling, gradient.
    """
    rows = []
    for seed in range(params.seeds):
        truth, data = ground_truth(params, "independent", seed), samples(params, "independent", seed)
        n, d = truth.dictionary.shape
        coder = SparseCoder(d, n, "stochastic", seed=stream_seed(params.seed, SLUG, "coder", seed))
        x = data.train[0][: params.batch].cpu()
        _prepare(coder, x)
        x, rng = x * coder.scale.float(), stream(params, "mask", seed)
        h = coder.pre_acts(x)
        importance = causal_importance(h, coder.gate_scale, coder.b_gate).detach().requires_grad_()
        for draw in range(draws):
            for sampling in ("noise", "bernoulli"):
                mask = sample_mask(importance, rng, sampling)
                loss = reconstruction((h.relu() * mask) @ coder.W_dec + coder.b_dec, x)
                (grad,) = torch.autograd.grad(loss, importance, retain_graph=True, allow_unused=True)
                size_ = 0.0 if grad is None else float(grad.norm())
                rows.append({"seed": seed, "draw": draw, "sampling": sampling, "gradient": size_})
    return pd.DataFrame(rows)


@torch.no_grad()
def _prepare(coder: SparseCoder, x: Tensor) -> None:
    """Scale and b_dec as training would set them before its first step."""
    coder.scale.fill_((x.shape[1] / x.square().sum(1).mean()).sqrt())
    coder.target_scale.copy_(coder.scale)
    coder.b_dec.copy_(x.mean(0) * coder.scale)


@torch.no_grad()
def _unexplained(coder: SparseCoder, x: Tensor, y: Tensor) -> float:
    """Share of a transcoder's target that its prediction leaves unexplained."""
    return sparsity.fvu(y, coder(x))


@torch.no_grad()
def _judged(coder: SparseCoder, truth: World, x: Tensor, features: Tensor, world: str) -> dict[str, float]:
    found = report(coder, truth, x, features)
    return found | (likeness(x[:300, : coder.d_in].cpu(), coder(x[:300]).cpu()) if world in TOYS else {})
