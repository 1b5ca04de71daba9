"""One run of everything the sparse_coders_recovery chapter shows: parameters and protocol, plain data out.

A world is a ground truth with samples; an arm is an encoder rule with the sparsity knob that is swept. One run trains
one arm in one world with one seed at every setting of its knob. The seed draws the world's directions, its samples,
the coder and the order of training from streams of their own. Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from lib.data.planted import Planted
from lib.metrics import recovery
from lib.models.published_sae import train_published_sae
from lib.models.toy_training import train_grid
from lib.params import Params as Base
from lib.press.runs import collect, reuse
from lib.rng import generator, stream_seed
from lib.sparse_coders import SparseCoder, fit
from lib.sparse_coders.losses import reconstruction
from lib.sparse_coders.multi_input import join_sites, shuffled_context
from lib.sparse_coders.report import likeness, oriented, report
from lib.sparse_coders.stochastic import causal_importance, sample_mask
from lib.studies.sparse_coders_recovery.worlds import World, bench_law, flat_twin, planted_world, small_law, toy_world
from lib.tensors import denormals_flushed, device_named

SLUG = "sparse_coders_recovery"
RULES = ("relu", "p_anneal", "gated", "jumprelu", "stochastic", "topk", "batch_topk", "matryoshka", "abs_topk",
         "multi_input", "matching_pursuit")
"""The arms of the main comparison."""
TOYS = ("toy", "large toy")
PUBLISHED = ("relu", "shifted", "topk 5", "topk 2", "topk 16", "topk 64")
"""Activations of the published arm; the first three are the source's."""
Numbers = tuple[float, ...]
Counts = tuple[int, ...]


class Params(Base):
    """Every knob of the study; the values per profile stand in params/sparse_coders_recovery."""

    profile: str = Field(pattern="^(smoke|quick|full)$", description="which parameter file these values come from")
    seed: int = Field(ge=0, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where toy models and coders are trained")
    seeds: int = Field(ge=2, le=100, description="ground truths per world, each with its own coders")
    toy_sparsity: float = Field(ge=0, lt=1, description="S of the features of both toy models")
    toy_steps: int = Field(ge=50, le=20000, description="steps that train a toy model (batch 256, cosine)")
    large_features: int = Field(ge=10, le=2000, description="n of the large toy model; the small one has 20 in 5")
    large_hidden: int = Field(ge=3, le=500, description="its m")
    toy_k: Counts = Field(min_length=2, description="active latents per sample swept in the toy worlds")
    planted_features: int = Field(ge=21, description="features of the planted dictionary (SynthSAEBench: 16384)")
    planted_width: int = Field(ge=4, description="its dimensions (768)")
    planted_latents: int = Field(ge=4, description="latents of its coders (4096)")
    planted_roots: int = Field(ge=1, description="trees in it, of 4 children a node (128)")
    planted_depth: int = Field(ge=1, le=3, description="levels below a root (3)")
    planted_rarest: float = Field(gt=0, le=0.4, description="frequency of its rarest feature (0.0005)")
    planted_k: Counts = Field(min_length=2, description="active latents per sample swept there")
    small_features: int = Field(ge=15, description="features of the dictionaries of the SV claims, as many latents")
    small_width: int = Field(ge=4, description="their dimensions")
    small_k: Counts = Field(min_length=2, description="active latents per sample swept there")
    l1: Numbers = Field(min_length=2, description="weights of penalties on magnitudes, in units of sqrt(d)")
    l0: Numbers = Field(min_length=2, description="weights of penalties on counts and importances, in units of d")
    samples: int = Field(ge=500, description="training samples of a world")
    held_out: int = Field(ge=100, description="samples that judge a coder")
    steps: int = Field(ge=10, description="steps that train a coder in the toy and small worlds")
    gate_steps: int = Field(ge=10, description="the same for stochastic coders in small worlds")
    planted_steps: int = Field(ge=10, description="the same in the planted world")
    batch: int = Field(ge=16, description="samples per step")
    dead_after: int = Field(ge=100, description="silent samples after which a latent is dead")
    null_draws: int = Field(ge=2, description="random dictionaries per world and seed")
    published_samples: int = Field(ge=64, description="samples of the published arm (theirs 1000)")
    published_width: int = Field(ge=4, description="dimensions per position, of 20 positions side by side (theirs 768)")
    published_epochs: int = Field(ge=1, le=100, description="passes over them (theirs 100)")


class Arm(NamedTuple):
    """An encoder rule, the knob that sets its sparsity (k, l1 or l0), fixed options, and the encoder's extra input."""

    rule: str
    knob: str
    options: dict[str, Any]
    context: str = "none"


ARMS = {rule: Arm(rule, "k", {}) for rule in ("topk", "batch_topk", "matryoshka", "abs_topk", "matching_pursuit")}
ARMS |= {rule: Arm(rule, "l1", {}) for rule in ("relu", "p_anneal", "gated")}
ARMS |= {
    "jumprelu": Arm("jumprelu", "l0", {"bandwidth": 0.5, "threshold": 0.5}),
    "stochastic": Arm("stochastic", "l1", {}),
    "unablated": Arm("stochastic", "l1", {"masked": 1.0}),
    "noise": Arm("stochastic", "l1", {"masked": 0.0}),
    "bernoulli": Arm("stochastic", "l1", {"masked": 0.0, "sampling": "bernoulli"}),
    "multi_input": Arm("topk", "k", {}, "other site"),
    "shuffled_input": Arm("topk", "k", {}, "shuffled site"),
}


class Data(NamedTuple):
    """Samples of a world: x, features (in training of the first samples only) and their second view."""

    train: tuple[Tensor, Tensor, Tensor]
    held: tuple[Tensor, Tensor, Tensor]


def toy_models(params: Params, large: bool = False) -> dict[str, np.ndarray]:
    """Toy models in superposition, one per seed: importance .7^i and 20 features in 5 dimensions, or the large one.

    Returns:
        W [seeds, m, n] and b [seeds, n].
    """
    n, m = (params.large_features, params.large_hidden) if large else (20, 5)
    decay = 0.7 ** (20 / n)  # the same range of importances
    device = device_named(params.device)
    importance = torch.tensor(decay ** np.arange(n), dtype=torch.float32, device=device)
    density = torch.tensor([1 - params.toy_sparsity], device=device)
    rng = _rng(params, "toy model", n, device=device)
    grid = train_grid(density, importance, m, params.seeds, params.toy_steps, 256, rng)
    return {"W": grid.W[0].cpu().numpy(), "b": grid.b[0].cpu().numpy()}


def runs(params: Params) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every run of the study and what is known of every world.

    Returns:
        runs: one row per world, arm, seed and setting, with what `lib.sparse_coders.report.report` measures; in toy
        worlds cka, procrustes and rsa too.
        worlds: one row per world and seed: true_l0, n_features, probe_f1, probe_auc, and null_* of those metrics; no
            probe_* where features are signed: a linear probe cannot tell +x and -x, both active, from an inactive 0.
    """
    seeds = range(params.seeds)
    cells = [(world, arm) for world in ("toy", "planted") for arm in RULES]
    cells += [("large toy", arm) for arm in ("relu", "jumprelu", "topk")]
    cells += [(world, arm) for world in ("independent", "signed") for arm in ("topk", "abs_topk")]
    cells += [("independent", arm) for arm in ("noise", "bernoulli", "multi_input", "shuffled_input")]
    cells += [(world, arm) for world in ("hierarchy", "flat") for arm in ("unablated", "stochastic")]
    names = list(dict.fromkeys(world for world, _ in cells))
    asked = [{"params": params, "world": w, "seed": s} for w in names for s in seeds]
    known = _collected(facts, asked, "worlds", params)
    # all arms of one world and seed in a row, so that a worker makes its samples once
    order = [(w, a, s) for w in names for s in seeds for world, a in cells if world == w]
    todo = [{"params": params, "world": w, "arm": a, "seed": s} for w, a, s in order]
    done = _collected(sweep, todo, "coders", params)
    rows = [row.rows.assign(world=row.world, arm=row.arm, seed=row.seed) for row in done.itertuples()]
    return pd.concat(rows, ignore_index=True), known.drop(columns="params")


def sweep(params: Params, world: str, arm: str, seed: int) -> dict[str, Any]:
    """Train one arm in one world at every setting of its knob, all settings from one start and on the same batches.

    Returns:
        rows: DataFrame, one row per setting, columns as in `runs`; decoders [settings, n_latents, d] in the small toy.
    """
    truth, data, spec = ground_truth(params, world, seed), samples(params, world, seed), ARMS[arm]
    rng = _rng(params, world, "shuffle", seed)
    train, held = (_encoder_input(part, spec.context, rng) for part in data)
    d, n_latents = truth.dictionary.shape[1], size(params, world, truth)
    settings = knobs(params, world, spec.knob, d)
    own = dict(d_in=d, n_latents=n_latents, rule=spec.rule, context=train.shape[1] - d, **spec.options)
    if spec.rule == "matryoshka":
        own["groups"] = [n_latents // 4, n_latents // 2, n_latents]
    own |= {"seed": stream_seed(params.seed, SLUG, "coder", seed), "device": device_named(params.device)}
    coders = [SparseCoder(**own, **{spec.knob: value}) for value in settings]
    slow = params.gate_steps if spec.rule == "stochastic" and world not in TOYS else params.steps
    steps = params.planted_steps if world == "planted" else slow
    order = stream_seed(params.seed, SLUG, "order", seed)
    with denormals_flushed():
        fit(coders, train, steps=steps, batch_size=params.batch, seed=order, held_out=held, lr_decay=0.25,
            dead_after=params.dead_after, progress=False)
    rows = [{"setting": value} | _judged(coder, truth, held, data.held[1], world) for value, coder in
            zip(settings, coders, strict=True)]
    found: dict[str, Any] = {"rows": pd.DataFrame(rows)}
    if world == "toy":
        found["decoders"] = np.stack([oriented(coder, held)[0] for coder in coders])
    return found


def facts(params: Params, world: str, seed: int) -> dict[str, float]:
    """What is known of a world without a trained coder: its own l0, a supervised probe, and random dictionaries.

    A random dictionary is an untrained TopK coder of equal size whose k is the world's own l0; it encodes with its
    decoder. Each null_* is the mean over params.null_draws of them, null_*_high their 97.5 % quantile.
    """
    truth, data = ground_truth(params, world, seed), samples(params, world, seed)
    x, features, _ = data.held
    active, width = features.cpu().numpy() != 0, truth.dictionary.shape[1]
    found = {"true_l0": float(active.sum(1).mean()), "n_features": len(truth.dictionary)}
    if not truth.signed:
        told_of = data.train[1] != 0
        told = recovery.detection(recovery.linear_probe(data.train[0][: len(told_of)], told_of, x), active)
        found |= {"probe_f1": float(np.nanmean(told.f1)), "probe_auc": float(np.nanmean(told.auc))}
    draws = []
    for draw in range(params.null_draws):
        own = {"k": max(1, round(found["true_l0"])), "seed": stream_seed(params.seed, SLUG, "null", seed, draw)}
        coder = SparseCoder(width, size(params, world, truth), "topk", **own, device=x.device)
        _prepare(coder, x)
        draws.append(_judged(coder, truth, x, features, world))
    table = pd.DataFrame(draws)
    means, highs = table.mean().add_prefix("null_"), table.quantile(0.975).add_prefix("null_").add_suffix("_high")
    return found | means.to_dict() | highs.to_dict()


def gate_gradients(params: Params, draws: int = 20) -> pd.DataFrame:
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
        x, rng = x * coder.scale.float(), _rng(params, "mask", seed)
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


def published_arm(params: Params, seed: int, n_latents: int = 256) -> dict[str, Any]:
    """The published autoencoders on samples of the planted law, twenty positions side by side, standardised.

    Returns:
        rows: DataFrame, one row per activation: activation, loss, train_loss, inactive, inactive_before.
    """
    rng, n = _rng(params, "published", seed), 2 * params.published_samples
    law = _bench(params, params.published_width, _rng(params, "published directions", seed))
    x = law.sample(20 * n, rng)[0].reshape(n, -1)  # [n, 20 d]
    train, held = x.split(params.published_samples)
    mean, std = train.mean(0), train.std(0)
    train, held = (train - mean) / std, (held - mean) / std
    done = train_published_sae(train, held, PUBLISHED, n_latents, params.published_epochs, rng)
    columns = {name: values.numpy() for name, values in done._asdict().items()}
    return {"rows": pd.DataFrame({"activation": PUBLISHED, **columns})}


def published_runs(params: Params) -> pd.DataFrame:
    """`published_arm` of every seed, columns seed, activation, loss, train_loss, inactive, inactive_before."""
    todo = [{"params": params, "seed": seed} for seed in range(params.seeds)]
    done = _collected(published_arm, todo, "published arm", params)
    return pd.concat([row.rows.assign(seed=row.seed) for row in done.itertuples()], ignore_index=True)


def example(params: Params, arms: tuple[str, ...], seed: int = 0) -> dict[str, Any]:
    """Directions of one toy model and what some arms made of them.

    Returns:
        dictionary [n_features, d]; decoders, arm -> [settings, n_latents, d].
    """
    truth = ground_truth(params, "toy", seed)
    done = collect(sweep, [{"params": params, "world": "toy", "arm": arm, "seed": seed} for arm in arms], 1, "examples")
    found = dict(zip(arms, done.decoders, strict=True))  # reused from `runs`, which made them
    return {"dictionary": truth.dictionary.cpu().numpy(), "decoders": found}


@functools.lru_cache(maxsize=2)
def ground_truth(params: Params, world: str, seed: int) -> World:
    """The directions of a world and the law of its samples."""
    origin = "hierarchy" if world == "flat" else world
    device, rng = device_named(params.device), _rng(params, origin, "directions", seed)
    if world in TOYS:
        models = reuse(toy_models, params, world == "large toy")
        return toy_world(*(torch.from_numpy(models[name][seed]).to(device) for name in ("W", "b")), params.toy_sparsity)
    if world == "planted":
        law = _bench(params, params.planted_width, rng)
    else:
        law = small_law(params.small_features, params.small_width, world in ("hierarchy", "flat"), rng)
    parent = None
    if world == "flat":  # the twin of that seed's hierarchy
        law, parent = flat_twin(law, rng), law.parent.to(device)
    view = _rng(params, world, "site", seed, device=device)
    return planted_world(law.to(device), view, world == "signed", parent)


@functools.lru_cache(maxsize=2)
def samples(params: Params, world: str, seed: int) -> Data:
    """Training and held-out samples of a world, from streams of their own."""
    truth, parts = ground_truth(params, world, seed), []
    for label, n in (("train", params.samples), ("held", params.held_out)):
        rng = _rng(params, world, label, seed, device=truth.dictionary.device)
        parts.append(truth.sample(n, rng, min(n, params.held_out)))
    return Data(*parts)


def size(params: Params, world: str, truth: World) -> int:
    """Latents of a coder: as many as the toy model has features, stored or not; as the parameters say elsewhere."""
    if world in TOYS:
        return truth.law.W.shape[1]
    return params.planted_latents if world == "planted" else params.small_features


def knobs(params: Params, world: str, knob: str, d: int) -> list[Any]:
    """The settings of a knob in a world of width d."""
    if knob == "k":
        return list(params.toy_k if world in TOYS else params.planted_k if world == "planted" else params.small_k)
    return [value * d**0.5 for value in params.l1] if knob == "l1" else [value * d for value in params.l0]


def _bench(params: Params, d: int, rng: torch.Generator) -> Planted:
    shape = params.planted_features, d, params.planted_roots, params.planted_depth, params.planted_rarest
    return bench_law(*shape, rng)


@torch.no_grad()
def _prepare(coder: SparseCoder, x: Tensor) -> None:
    """Scale and b_dec as training would set them before its first step."""
    coder.scale.fill_((x.shape[1] / x.square().sum(1).mean()).sqrt())
    coder.target_scale.copy_(coder.scale)
    coder.b_dec.copy_(x.mean(0) * coder.scale)


def _collected(function: Any, configs: list[dict[str, Any]], label: str, params: Params) -> pd.DataFrame:
    """`collect` with worker processes only where the runs take longer than starting them."""
    pooled = params.profile == "full" or (params.profile == "quick" and label == "coders")
    return collect(function, configs, None if pooled else 1, label)


@torch.no_grad()
def _judged(coder: SparseCoder, truth: World, x: Tensor, features: Tensor, world: str) -> dict[str, float]:
    found = report(coder, truth, x, features)
    return found | (likeness(x[:300, : coder.d_in].cpu(), coder(x[:300]).cpu()) if world in TOYS else {})


def _encoder_input(part: tuple[Tensor, Tensor, Tensor], context: str, rng: torch.Generator) -> Tensor:
    x, _, other = part
    if context == "none":
        return x
    joined = join_sites(x, other)
    return joined if context == "other site" else shuffled_context(joined.cpu(), x.shape[1], rng).to(x.device)


def _rng(params: Params, *labels: str | int, device: Any = "cpu") -> torch.Generator:
    return generator(params.seed, SLUG, *labels, device=device)
