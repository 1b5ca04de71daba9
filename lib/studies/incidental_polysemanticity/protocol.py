"""One run of everything the incidental_polysemanticity chapter shows: parameters and protocol, plain data out.

Runs are DataFrames with one row per trained network and autoencoder. The rigorous autoencoder sees activations scaled
to E|a|^2 = d, pays its penalty per sample and keeps decoder rows at unit length; `judged` measures what it is judged by
on held-out samples. Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Annotated, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from torch import Tensor

from lib.metrics import recovery
from lib.metrics.sparsity import fvu
from lib.params import Params as Base
from lib.rng import generator, numpy_generator
from lib.sparse_coders import SparseCoder, fit
from lib.studies.incidental_polysemanticity import collisions, leaky_sae
from lib.studies.incidental_polysemanticity import decoder_overlap as geometry
from lib.studies.incidental_polysemanticity import noise_cost as noise_basis
from lib.studies.incidental_polysemanticity.network import PUBLISHED, Cell, Trained, train
from lib.studies.incidental_polysemanticity.noise import unit_noise
from lib.studies.incidental_polysemanticity.published import train_published_networks
from lib.studies.incidental_polysemanticity.report import judged, matched_cosine, published_metrics, scaled, z_scored
from lib.tensors import device_named

Arrays = dict[str, np.ndarray]
Positive = Annotated[float, Field(gt=0)]
Pair = Annotated[tuple[Positive, ...], Field(min_length=2)]
INITS, NOISES, ACTS = ("random", "orthogonal"), ("none", "bipolar", "positive_kurtosis"), ("relu", "gelu")
LEVEL = 1e-4
"""The published penalty of both L1 and L2, always among those swept."""
LAWS = ("bipolar", "uniform", "gaussian", "laplace", "positive_kurtosis")
"""Laws of noise by rising kurtosis."""


class Params(Base):
    """Every knob of the study; the values per profile stand in params/incidental_polysemanticity."""

    profile: str = Field(pattern="^(smoke|quick|full)$", description="which parameter file these values come from")
    seed: int = Field(ge=0, description="root of every random stream of the rigorous parts")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where the ensembles run")
    published_seeds: int = Field(ge=2, le=100, description="seeds of the published programme, 0 .. (theirs 10)")
    published_steps: int = Field(ge=1, le=2000, description="steps of its networks (theirs 2000)")
    published_sae_steps: int = Field(ge=1, le=1000, description="steps of its autoencoders (theirs 1000)")
    seeds: int = Field(ge=2, le=1000, description="paired seeds of the factorial")
    steps: int = Field(ge=1, le=10000, description="steps of its networks")
    lr: float = Field(gt=0, le=0.1, description="their learning rate")
    l1_penalties: Pair = Field(description="weights of L1 swept, the published 1e-4 among them")
    l2_penalties: Pair = Field(description="weights of L2 swept, the published 1e-4 among them")
    sae_steps: int = Field(ge=1, le=10000, description="steps of the rigorous autoencoders")
    sae_lr: float = Field(gt=0, le=0.1, description="their learning rate")
    sae_penalty: float = Field(gt=0, description="their L1 penalty per sample, activations scaled to E|a|^2 = d")
    sae_penalties: Pair = Field(description="rising penalties for dead latents and for fidelity at matched l0")
    source_penalty: float = Field(gt=0, description="the one among them nearest to the source's strength")
    null_draws: int = Field(ge=20, description="sets of random directions")
    widths: tuple[Annotated[int, Field(ge=2, le=64)], ...] = Field(min_length=4, description="hidden units")
    width_seeds: int = Field(ge=2, description="networks per width")
    clip: float = Field(gt=0, description="largest gradient norm of the clipped networks")
    coder_seeds: int = Field(ge=2, description="networks on which library coders are trained")
    coder_steps: int = Field(ge=10, description="steps of each coder")
    jump_penalties: Pair = Field(description="l0 penalties of JumpReLU")
    relu_penalties: Pair = Field(description="l1 penalties of the library's ReLU")
    ks: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(min_length=1, description="active latents of TopK")
    collision_features: tuple[Annotated[int, Field(ge=4)], ...] = Field(min_length=2, description="n of the tied model")
    collision_units: int = Field(ge=8, description="its m")
    collision_runs: int = Field(ge=2, description="instances per n")
    collision_steps: int = Field(ge=1, description="AdamW steps of each")
    collision_penalty: float = Field(gt=0, description="its L1 penalty")
    kurtosis_runs: int = Field(ge=2, description="instances per law of noise (n=8, m=16)")
    kurtosis_steps: int = Field(ge=10, description="SGD steps of each")
    turn_draws: int = Field(ge=100, description="draws of noise for the cost of turning units")

    @model_validator(mode="after")
    def _holds_what_the_claims_compare(self) -> Self:
        if LEVEL not in self.l1_penalties or LEVEL not in self.l2_penalties:
            raise ValueError(f"the published penalty {LEVEL:g} must be among l1_penalties and l2_penalties")
        if self.source_penalty not in self.sae_penalties:
            raise ValueError(f"source_penalty {self.source_penalty:g} is not among sae_penalties {self.sae_penalties}")
        if not {8, 9} <= set(self.widths) or list(self.widths) != sorted(set(self.widths)):
            raise ValueError(f"widths must rise and hold 8 and 9, between which the claim has a step: {self.widths}")
        if self.coder_seeds > self.seeds or self.width_seeds > self.seeds:
            raise ValueError(f"coder_seeds and width_seeds cannot exceed the {self.seeds} seeds there are")
        return self


def published_arm(params: Params) -> dict:
    """The eight published combinations with the published draws, autoencoders untied (as printed) and tied.

    Returns:
        runs: DataFrame, one row per (storage, combination, seed): storage "untied" or "tied", combination 1..8, the
            cell's init, noise, reg, act, and train_mse, val_mse, w4, interference, macs, calibrated, null_sd (standard
            deviation of MACS over 200 column permutations), l0 (share > 0), sae_mse (on z-scored activations, as
            published), fvu (on the activations it was trained on).
        decoders: untied decoder columns, [8, seeds, 12, 16].
    """
    seeds, device = range(params.published_seeds), device_named(params.device)
    replica = train_published_networks(PUBLISHED, seeds, params.published_steps, device)
    network, frames, decoders = replica.networks, [], {}
    acts, permutations = network.acts.flatten(0, 1), generator(params.seed, "column permutations")
    own = {"train_mse": network.train_mse, "val_mse": network.val_mse, "w4": geometry.w4(network.weights)}
    for storage, tied in (("untied", "none"), ("tied", "storage")):
        sae = replica.autoencoders(tied, params.published_sae_steps)
        found = {name: values.flatten() for name, values in own.items()} | published_metrics(sae, acts, permutations)
        rows = _table(PUBLISHED, seeds, found)
        frames.append(rows.assign(storage=storage, combination=np.repeat(np.arange(1, 9), len(seeds))))
        decoders[storage] = sae.directions().unflatten(0, (8, len(seeds)))
    return {"runs": pd.concat(frames, ignore_index=True), "decoders": decoders["untied"].cpu().numpy()}


def factorial(params: Params) -> dict:
    """The full factorial init x noise x reg x act, each cell at every penalty of its regularisation.

    Returns:
        runs: DataFrame, one row per (cell, seed): init, noise, reg, act, penalty, seed, train_mse, val_mse and what
            `judged` measures, and polysemantic: share of first-layer units with two weights or more in [.8, 1.2].
    """
    sweeps = {"L1": params.l1_penalties, "L2": params.l2_penalties}
    cells = [
        Cell(init, noise, reg, act, penalty)
        for init, noise, (reg, penalties), act in product(INITS, NOISES, sweeps.items(), ACTS)
        for penalty in penalties
    ]
    return {"runs": _runs(params, cells, _seeds(params))}


def nothing(params: Params) -> dict:
    """What the metrics read where there is nothing: random directions, untrained networks, shuffled activations.

    Shuffled: each unit's activations in an order of their own, which keeps every unit and no relation between them.

    Returns:
        interference, macs: of 16 random directions in R^12, [draws].
        untrained, shuffled: DataFrames as `factorial` has them; shuffled ones judged on the true activations.
        recovery: mean matched cosine of 16 random directions with the features of a trained network, [draws].
    """
    seeds, rng = _seeds(params), numpy_generator(params.seed, "random directions")
    random = {
        name: geometry.random_direction_null(metric, params.null_draws, rng=rng)
        for name, metric in (("interference", geometry.weighted_overlap), ("macs", geometry.macs))
    }
    blank = [Cell(init, act=act) for init, act in product(INITS, ACTS)]
    network = _train(params, [PUBLISHED[0], PUBLISHED[7]], seeds)
    acts = scaled(network.acts)
    order = torch.rand(acts.shape, generator=generator(params.seed, "shuffle")).argsort(2).to(acts.device)
    sae = _autoencoders(params, acts.gather(2, order), seeds)
    judgements = judged(sae, network, acts)
    dictionary = geometry.feature_directions(network.features, acts)[0, 0].cpu().numpy()
    draws = recovery.random_dictionary_null(dictionary, 16, rng, params.null_draws, matched_cosine)
    return random | {
        "untrained": _runs(params, blank, seeds, steps=0), "recovery": draws,
        "shuffled": _table([PUBLISHED[0], PUBLISHED[7]], seeds, judgements),
    }


def strengths(params: Params) -> dict:
    """Autoencoders of combination 8 at every sae_penalty: leaky or ReLU, biases started at U(0, .1) or at 0.

    Returns:
        runs: DataFrame, one row per (slope, bias, penalty, seed) as `judged` has it, and dead_before: share of latents
            that never exceed 0 before training.
    """
    seeds, network = _seeds(params), _train(params, [PUBLISHED[7]], _seeds(params))
    acts, frames = scaled(network.acts), []
    for slope, bias, penalty in product((0.01, 0.0), (0.1, 0.0), params.sae_penalties):
        sae = _autoencoders(params, acts, seeds, penalty=penalty, slope=slope, bias=bias)
        names, start = leaky_sae.sae_layout(12), leaky_sae.initial(12, seeds, bias=bias).to(acts)
        before = leaky_sae.LeakySAE(**names.views(start), slope=slope, loss=sae.loss)
        found = judged(sae, network, acts) | {"dead_before": judged(before, network, acts)["dead"]}
        frames.append(_table([PUBLISHED[7]], seeds, found).assign(slope=slope, bias=bias, sae_penalty=penalty))
    return {"runs": pd.concat(frames, ignore_index=True)}


def coders(params: Params) -> dict:
    """Library coders on the first networks of `strengths`: JumpReLU, ReLU, ReLU + resampling, TopK, TopK + AuxK.

    Returns:
        runs: DataFrame, one row per (arm, setting, seed): l0, fvu, dead, recovery, interference.
    """
    seeds = _seeds(params)[: params.coder_seeds]
    network = _train(params, [PUBLISHED[7]], seeds)
    acts, val = scaled(network.acts), scaled(network.acts, network.val_acts)
    rows = []
    for s, seed in enumerate(seeds):
        dictionary = geometry.feature_directions(network.features[s], acts[0, s]).cpu().numpy()
        for arm, setting, coder in _trained_coders(params, acts[0, s], val[0, s], seed):
            rows.append({"arm": arm, "setting": setting, "seed": seed} | _coder_report(coder, val[0, s], dictionary))
    return {"runs": pd.DataFrame(rows)}


def _trained_coders(params: Params, acts: Tensor, val: Tensor, seed: int) -> list[tuple[str, float, SparseCoder]]:
    options = {"held_out": val, "steps": params.coder_steps, "batch_size": 512, "lr": params.sae_lr, "seed": seed,
               "dead_after": 5_000, "progress": False}
    arms = [("JumpReLU", p, {"rule": "jumprelu", "l0": p}) for p in params.jump_penalties]
    arms += [("ReLU", p, {"rule": "relu", "l1": p}) for p in params.relu_penalties]
    arms += [("TopK", k, {"rule": "topk", "k": k, "aux": 0.0}) for k in params.ks]
    arms += [("TopK + AuxK", k, {"rule": "topk", "k": k}) for k in params.ks]
    made = [(arm, float(value), SparseCoder(12, 16, seed=seed, device=acts.device, **own)) for arm, value, own in arms]
    fit([coder for _, _, coder in made], acts, **options)
    often = max(1, params.coder_steps // 4)
    strongest = params.relu_penalties[-1]
    coder = SparseCoder(12, 16, rule="relu", l1=strongest, seed=seed, device=acts.device)
    fit(coder, acts, resample_every=often, **options)
    return [*made, ("ReLU + resampling", float(strongest), coder)]


@torch.no_grad()
def _coder_report(coder: SparseCoder, val: Tensor, dictionary: np.ndarray) -> dict[str, float]:
    latents, decoder = coder.encode(val), coder.W_dec.detach()
    return {
        "l0": float((latents > 0).sum(1).float().mean()), "fvu": fvu(val.cpu(), coder(val).cpu()),
        "dead": float((~(latents > 0).any(0)).float().mean()),
        "recovery": matched_cosine(dictionary, decoder.cpu().numpy()),
        "interference": float(geometry.weighted_overlap(decoder.T)),
    }


def widths(params: Params) -> dict:
    """Combination 8 with other numbers of hidden units, 16 latents each; beside it random directions of the same width.

    Returns:
        runs: DataFrame, one row per (width, seed): val_mse and what `judged` measures.
        null: interference of random directions, [widths, draws].
    """
    rng, frames, null = numpy_generator(params.seed, "random directions of each width"), [], []
    for width in params.widths:
        runs = _runs(params, [replace(PUBLISHED[7], hidden_dim=width)], _seeds(params)[: params.width_seeds])
        frames.append(runs.assign(width=width))
        null.append(geometry.random_direction_null(geometry.weighted_overlap, params.null_draws, width, rng=rng))
    return {"runs": pd.concat(frames, ignore_index=True), "null": np.stack(null)}


def clipping(params: Params) -> dict:
    """The four published combinations with heavy-tailed noise, gradients clipped and not, otherwise the same draws.

    Returns:
        runs: DataFrame, one row per (clipped, cell, seed): val_mse, what `judged` measures, and sae_mse, the error on
            z-scored activations, which the source reports.
    """
    heavy, seeds, frames = [cell for cell in PUBLISHED if cell.noise == "positive_kurtosis"], _seeds(params), []
    for clip in (None, params.clip):
        network = _train(params, [replace(cell, clip=clip) for cell in heavy], seeds)
        acts = scaled(network.acts)
        sae, z = _autoencoders(params, acts, seeds), z_scored(network.acts.flatten(0, 1))
        found = judged(sae, network, acts) | {"val_mse": network.val_mse.flatten()}
        found["sae_mse"] = (sae.decode(sae.encode(z)) - z).square().mean((1, 2))
        frames.append(_table(heavy, seeds, found).assign(clipped=clip is not None))
    return {"runs": pd.concat(frames, ignore_index=True)}


def collision_counts(params: Params) -> dict:
    """The tied model y = ReLU(W Wᵀ x) under L1: units that represent two features, against n^2/4m.

    Returns:
        runs: DataFrame, one row per (n, instance): polysemantic units, expected (n^2/4m), expected_units (units chosen
            with both signs at finite n and m), and represented, the share of features with a unit.
        opposite: share of two-feature units whose weights differ in sign, [n]; nan where there is none.
    """
    m, frames, opposite = params.collision_units, [], []
    for n in params.collision_features:
        W = collisions.train(n, m, params.collision_runs, params.collision_steps, params.seed, params.collision_penalty,
                             device=device_named(params.device)).W.cpu()
        found = {"polysemantic": collisions.polysemantic_units(W).numpy(), "instance": np.arange(len(W)),
                 "represented": collisions.represented(W).any(2).double().mean(1).numpy()}
        expected = {"n": n, "expected": collisions.expected_collisions(n, m),
                    "expected_units": collisions.expected_shared_units(n, m)}
        frames.append(pd.DataFrame(found | expected))
        opposite.append(float(collisions.opposite_sign_share(W)))
    return {"runs": pd.concat(frames, ignore_index=True), "opposite": np.array(opposite)}


def kurtosis(params: Params) -> dict:
    """The tied model (n=8, m=16, SGD) under noise of five laws and equal variance, and what turning its units costs.

    Returns:
        law: [5], "none" and the first four of `LAWS` (t(3) diverges); step [T]; concentration [5, T, I], mean over
            features.
        tied, readout: relative change of the noise's expected cost when units are turned at random, [5, I] for the tied
            model trained under bipolar noise and [5, seeds] for the readout of the network, published combination 8.
    """
    at = np.unique(np.linspace(1, params.kurtosis_steps, 12).astype(int)).tolist()
    device, trained = device_named(params.device), {}
    for law in ("none", *LAWS[:4]):
        trained[law] = collisions.train(8, 16, params.kurtosis_runs, params.kurtosis_steps, params.seed, noise=law,
                                        optimiser="sgd", log_at=at, device=device)
    course = [collisions.concentration(done.history).mean(-1).cpu().numpy() for done in trained.values()]
    readout = _train(params, [PUBLISHED[7]], _seeds(params)).weights["W4"][0].cpu()  # [seeds, 8, 12]
    tied = trained["bipolar"].W.cpu()
    turned = {"tied": (tied, noise_basis.tied_relu_cost, 0.15), "readout": (readout, noise_basis.linear_cost, 0.1)}
    found = {name: np.stack([_turned(params, law, *case) for law in LAWS]) for name, case in turned.items()}
    return found | {"law": list(trained), "step": np.array(at), "concentration": np.stack(course)}


def _turned(params: Params, law: str, W: Tensor, cost: noise_basis.Cost, sigma: float) -> np.ndarray:
    noise = sigma * unit_noise(law, (params.turn_draws, W.shape[-1]), generator(params.seed, "turned", law))
    return noise_basis.turning_cost(W, noise, cost, 8, generator(params.seed, "turns")).numpy()


def _runs(params: Params, cells: list[Cell], seeds: range, steps: int | None = None) -> pd.DataFrame:
    network = _train(params, cells, seeds, steps)
    acts = scaled(network.acts)
    units = collisions.polysemantic_units(network.weights["W0"].mT).flatten()  # a row per feature, a column per unit
    own = {"train_mse": network.train_mse.flatten(), "val_mse": network.val_mse.flatten()}
    own["polysemantic"] = units / cells[0].hidden_dim
    return _table(cells, seeds, own | judged(_autoencoders(params, acts, seeds), network, acts))


def _train(params: Params, cells: list[Cell], seeds: range, steps: int | None = None) -> Trained:
    return train(cells, seeds, params.steps if steps is None else steps, device_named(params.device), params.lr)


def _autoencoders(
    params: Params, acts: Tensor, seeds: range, penalty: float | None = None, **own: float
) -> leaky_sae.LeakySAE:
    """One rigorous autoencoder per network, acts [C, S, n, d]; equal seeds start alike."""
    return leaky_sae.train_sae(
        acts.flatten(0, 1), seeds=list(seeds) * len(acts), steps=params.sae_steps, lr=params.sae_lr, per="sample",
        unit_decoder=True, penalty=params.sae_penalty if penalty is None else penalty, **own,
    )


def _seeds(params: Params) -> range:
    return range(1000 * params.seed, 1000 * params.seed + params.seeds)


def _table(cells: list[Cell] | tuple[Cell, ...], seeds: range, found: dict[str, Tensor | np.ndarray]) -> pd.DataFrame:
    """One row per (cell, seed), columns init, noise, reg, act, penalty, seed and what was found, each [C * S]."""
    names = ("init", "noise", "reg", "act", "penalty")
    rows = pd.DataFrame([{n: getattr(c, n) for n in names} | {"seed": s} for c, s in product(cells, seeds)])
    return rows.assign(**{name: np.asarray(torch.as_tensor(values).cpu()) for name, values in found.items()})
