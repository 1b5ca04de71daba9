"""One run of everything the spd_causal_graphs chapter shows: parameters and protocol, plain data out.

A seed is a network: its weights, the decompositions of it (arms), their effects, regressions and transcoders are
nested in it. Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lib.data.images import load
from lib.metrics.recovery import uniqueness
from lib.params import Params as Base
from lib.press.runs import collect, reuse
from lib.rng import generator, numpy_generator, stream_seed
from lib.sparse_coders import SparseCoder, fit
from lib.spd import Decomposition, Mask, SPDConfig, decompose
from lib.spd.losses import Step, divergence
from lib.spd.masks import Noise
from lib.spd.metrics import identity_error, one_hot_importance
from lib.spd.targets import train_toy_model
from lib.studies.spd_causal_graphs import effects as causal
from lib.studies.spd_causal_graphs import graph, predictors, regression
from lib.studies.spd_causal_graphs.agreement import agreement, best_pairs, rotation_null
from lib.studies.spd_causal_graphs.joint import train_joint
from lib.studies.spd_causal_graphs.mlp import MLP, pixels, train_mlp
from lib.studies.spd_causal_graphs.variants import variants
from lib.tensors import denormals_flushed, device_named
from lib.training import evaluate

SLUG = "spd_causal_graphs"
ARMS = ("noise", "again", "bernoulli", "published", "unimportant", "joint noise", "joint bernoulli")
"""Decompositions of one network: the main one; another seed; Bernoulli masks; with a penalty on the size of V and U, to
be read by the published rules; without the importance loss; two of networks trained with their decomposition."""
TAU, LEAST = 0.1, 1e-3
"""A component is active above this importance, and alive if active on more than this share of images."""


class Params(Base):
    """Every knob of the study; the values per profile stand in params/spd_causal_graphs."""

    profile: str = Field(pattern="^(smoke|quick|full)$", description="which parameter file these values come from")
    seed: int = Field(ge=0, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where networks are trained and decomposed")
    seeds: int = Field(ge=2, le=100, description="networks, each with its own decompositions")
    data: str = Field(pattern="^(digits|mnist_5k|mnist)$", description="the images")
    held_out: int = Field(ge=100, description="images kept from all training, which judge everything")
    hidden: int = Field(ge=4, description="hidden units of the network")
    components: int = Field(ge=10, description="C of each layer (the report: 500)")
    importance: float = Field(gt=0, description="weight of the importance loss")
    faithfulness: float = Field(ge=0, description="weight of the faithfulness loss")
    size_penalty: float = Field(ge=0, description="L1 on V and U in the published arm")
    steps: int = Field(ge=10, description="steps that train a network, and as many that decompose it")
    batch: int = Field(ge=16, description="images per step of both")
    least_images: int = Field(ge=2, description="images an output component must matter on to have effects")
    null_draws: int = Field(ge=2, description="draws of each null")
    orders: int = Field(ge=1, description="random orders of Shapley values")
    most: int = Field(ge=3, description="largest number of predictors in stepwise regression")
    coder_k: tuple[int, ...] = Field(min_length=2, description="active latents of the transcoders")
    coder_l1: tuple[float, ...] = Field(min_length=2, description="sparsity weights of the ReLU transcoder")
    coder_sizes: tuple[float, ...] = Field(min_length=2, description="latents per component in the size sweep")
    coder_steps: int = Field(ge=10, description="steps that train a transcoder")
    toy_steps: int = Field(ge=10, description="steps that decompose the toy model with a known answer")
    toy_components: int = Field(ge=5, description="C of each of its layers")
    toy_rate: float = Field(gt=0, description="largest learning rate there")
    toy_seeds: int = Field(ge=2, le=100, description="decompositions of it per kind of mask")


class Data(NamedTuple):
    """uint8 images from 0 to 255 with labels, and the images as the network reads them."""

    train: np.ndarray
    train_labels: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray

    def pixels(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Training and held-out images, [n, d_in] in [0, 1]."""
        return pixels(self.train, 255).to(device), pixels(self.held, 255).to(device)


def data(params: Params) -> Data:
    """The images; the last `held_out` of the data set, or of its test split, are held out."""
    if params.data == "mnist":
        train, test = load("mnist", "train"), load("mnist", "test")
        return Data(train.images, train.labels, test.images[-params.held_out :], test.labels[-params.held_out :])
    found = load("mnist_5k", seed=params.seed) if params.data == "mnist_5k" else load("digits")
    if params.data == "digits":  # stored by writer
        found = found.take(numpy_generator(params.seed, SLUG, "digits").permutation(len(found)))
    grey = np.round(found.images * (255 / found.peak)).astype(np.uint8)
    cut = len(found) - params.held_out
    return Data(grey[:cut], found.labels[:cut], grey[cut:], found.labels[cut:])


def trained(params: Params, seed: int) -> dict[str, Any]:
    """Train one network and decompose it in every arm; in the joint arms both at once.

    Returns:
        arm -> network and decomposition, arrays by name, and reading, see `reading`.
    """
    device, own = device_named(params.device), data(params)
    sizes, network_seed = _sizes(params, own), stream_seed(params.seed, SLUG, "network", seed)
    given = own.train, own.train_labels, sizes, network_seed, params.steps
    frozen, _ = train_mlp(*given, params.batch, device=params.device)
    found = {}
    for arm in ARMS:
        config = _config(params, arm)
        if arm.startswith("joint"):
            network, dec = train_joint(*given, config, params.batch, device=params.device)
        else:
            start = stream_seed(params.seed, SLUG, "decomposition", seed, "again" if arm == "again" else "first")
            network, dec = frozen, decompose(frozen, own.pixels(device)[0], config, start).decomposition
        weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
        found[arm] = {"network": weights, "decomposition": dec.arrays(), "reading": reading(network, dec, own)}
    return found


def reading(network: MLP, dec: Decomposition, own: Data) -> dict[str, float]:
    """What a decomposition is like on held-out images, by both rules of being alive.

    Returns:
        accuracy; l0_1, l0_2, alive_1, alive_2 by importance; large_1, large_2, components whose mean |activation| is
        above .1, the published rule; kl of the output with both layers masked by their importances, kl_1 with the first
        alone, without delta; leftover_1, leftover_2, |W - Ŵ| / |W|.
    """
    x = own.pixels(next(network.parameters()).device)[1]
    ci, capture = dec.causal_importance(x), dec.capture(x)
    masks = {name: Mask(g, delta=0.0) for name, g in ci.items()}
    found = {"accuracy": evaluate(network, own.held, own.held_labels)}
    for place, (name, g) in enumerate(ci.items(), start=1):
        found[f"l0_{place}"] = float((g > TAU).sum(1).float().mean())
        found[f"alive_{place}"] = int(_alive(g).sum())
        found[f"large_{place}"] = int((capture.acts[name].abs().mean(0) > 0.1).sum())
        found[f"leftover_{place}"] = float(dec.delta(name).detach().norm() / dec.sites[name].weight.norm())
    with torch.no_grad():
        for name, used in (("kl", masks), ("kl_1", {"fc1": masks["fc1"]})):
            found[name] = float(divergence(dec(x, used), capture.result, "kl"))
    return found


def readings(params: Params, seed: int) -> dict[str, Any]:
    """`reading` of every arm of one network: rows, DataFrame with columns seed and arm."""
    found = reuse(trained, params=params, seed=seed)
    return {"rows": pd.DataFrame([{"seed": seed, "arm": arm, **own["reading"]} for arm, own in found.items()])}


def arms(params: Params) -> pd.DataFrame:
    """`reading` of every network and arm, a row each."""
    return pd.concat(list(over_seeds(readings, params).rows), ignore_index=True)


def over_seeds(function: Any, params: Params) -> pd.DataFrame:
    """`function(params, seed)` of every seed, a row each; in worker processes where that is worth starting them."""
    todo = [{"params": params, "seed": seed} for seed in range(params.seeds)]
    return collect(function, todo, 1 if params.profile == "smoke" else None, label=function.__name__)


def restored(params: Params, seed: int, arm: str) -> tuple[MLP, Decomposition, causal.TwoLayers]:
    """A network, its decomposition and its two layers as tensors."""
    found, own = reuse(trained, params=params, seed=seed)[arm], data(params)
    device, network = device_named(params.device), MLP(_sizes(params, own), 0)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in found["network"].items()})
    network = network.to(device).eval().requires_grad_(False)
    dec = Decomposition(network, own.pixels(device)[1][:2], params.components).load(found["decomposition"])
    layers = [part.detach() for name in ("fc1", "fc2") for part in
              (dec.parts[name].V, dec.parts[name].U, dec.delta(name), dec.sites[name].bias)]
    return network, dec, causal.TwoLayers(*layers)


def analysis(params: Params, seed: int) -> dict[str, Any]:
    """Effects between the alive components of one network, what predicts them, and what chance would give.

    Returns:
        inputs, outputs, numbers of components; mean, median, low, high, significant [I, J], n, sd, level [J] and
        sign_in, sign_out of `_effects`; on_edges, DataFrame with a row per kept edge and the four predictors; the
        80 % rule (`graph.sparsity`), variants, nulls of the signs and of the largest effects, regressions
        (`regression.regress_all`); ci and directions for figures.
    """
    _, dec, net = restored(params, seed, "noise")
    x = data(params).pixels(net.V1.device)[1]
    ci1, ci2 = (dec.causal_importance(x)[name] for name in ("fc1", "fc2"))
    ins = np.flatnonzero(_alive(ci1).cpu())
    outs = np.flatnonzero(((ci2 > TAU).sum(0) >= params.least_images).cpu())
    on, rng = ci2[:, outs] > TAU, numpy_generator(params.seed, SLUG, "effects", seed)
    a1, a2 = net.activations(x)
    values = causal.ablation_effects(net, x, ins, outs)
    found = causal.edges(values, on, rng)
    signs = predictors.orientation(a1, ci1, TAU)[ins], predictors.orientation(a2, ci2, TAU)[outs]
    unit = (a2[:, outs].std(0) * signs[1]).cpu().numpy()
    keep = graph.strongest(found.mean) & found.significant
    guess = predictors.predictions(net, x, ci1, on, ins, outs, TAU)
    table = pd.DataFrame({name: (value / unit)[keep] for name, value in guess.items()})
    level = np.array([float(a2[on[:, p], j].mean()) for p, j in enumerate(outs)])
    means = [x[on[:, place]].mean(0) - x.mean(0) for place in range(len(outs))]
    return {
        "inputs": ins, "outputs": outs, **found._asdict(), "level": level, "unit": unit, "keep": keep,
        "on_edges": table.assign(effect=(found.mean / unit)[keep]),
        "gauge": predictors.random_gauge_flips(net, ins, outs, found.mean, keep, params.null_draws,
                                               _rng(params, "gauge", seed, x)),
        **graph.sparsity(net, x, on, ins, outs, values, params.null_draws, rng),
        "variants": variants(net, x, ci1, on, ins, outs, found.mean, keep, params.orders,
                             _rng(params, "orders", seed, x)),
        "large_null": causal.largest_at_random(net, x, on, ins, outs, unit, params.null_draws,
                                               _rng(params, "random components", seed, x)),
        **regression.regress_all(a1[:, ins].cpu().numpy(), a2[:, outs].cpu().numpy(), params.most, rng),
        "reads": (net.V1[:, ins] * signs[0]).T.cpu().numpy(), "where": torch.stack(means).cpu().numpy(),
        "writes": (net.U2[outs] * signs[1][:, None]).cpu().numpy(), "pixel_sd": x.std(0).cpu().numpy(),
        "ci": torch.cat([ci1[:, ins], ci2[:, outs]], dim=1).cpu().numpy(),
    }


def published_reading(params: Params, seed: int) -> dict[str, Any]:
    """The published arm: alive by activation, bias after the ReLU, no delta, all images, no orientation.

    Returns:
        needed [J]; flips and n, of the raw path among its 80 % edges; largest, two raw effects of each sign.
    """
    _, _, net = restored(params, seed, "published")
    x = data(params).pixels(net.V1.device)[1]
    ins, outs = (np.flatnonzero(a.abs().mean(0).cpu() > 0.1) for a in net.activations(x))
    everywhere = torch.ones(len(x), net.V2.shape[1], dtype=torch.bool, device=x.device)
    mean = causal.mean_effects(net, x, everywhere, form="published").cpu().numpy()[np.ix_(ins, outs)]
    path = (net.U1[ins] @ net.V2[:, outs]).cpu().numpy()
    found, ranked = predictors.flips(path, mean, graph.strongest(mean)), np.sort(mean.ravel())
    return {"needed": graph.inputs_needed(mean), "flips": found.count, "edges": found.n, "n_inputs": len(ins),
            "largest": ranked[[-1, -2, 0, 1]]}


def transcoders(params: Params, seed: int) -> dict[str, Any]:
    """Transcoders of the first layer beside its components: x -> x W1ᵀ + b1, the map that is decomposed.

    Returns:
        rows, DataFrame: rule, setting, n_latents, l0, kl, alive, matched, forward, backward, encoder, distinct, null,
            null_high; components, how the decomposition agrees with another seed's (matched); coders, the same for a
            transcoder; reads [n, d_in] and component_reads of the best matched pairs, with their cosines.
    """
    network, dec, net = restored(params, seed, "noise")
    x, held = data(params).pixels(net.V1.device)
    ci1 = dec.causal_importance(held)["fc1"]
    alive, own_sign = _alive(ci1), predictors.orientation(held @ net.V1, ci1, TAU)
    U, V = ((part[alive] * own_sign[alive, None]).cpu().numpy() for part in (net.U1, net.V1.T))
    coders = _coders(params, seed, net)
    target, held_target = network.fc1(x), network.fc1(held)
    with denormals_flushed():
        fit(list(coders.values()), x, target=target, steps=params.coder_steps, batch_size=params.batch,
            seed=stream_seed(params.seed, SLUG, "order", seed), held_out=(held, held_target), lr_decay=0.25,
            dead_after=20 * params.batch, progress=False)
    rng, rows, kept = numpy_generator(params.seed, SLUG, "rotations", seed), [], {}
    for (rule, setting, size, again), coder in coders.items():
        told, read, write = _told(network, coder, held)
        kept[rule, setting, size, again] = write
        if again or not len(write):
            continue
        found, null = agreement(U, write), rotation_null(U, write, rng, params.null_draws)
        rows.append({"rule": rule, "setting": setting, "size": size, **told, **found._asdict(),
                     "encoder": agreement(V, read).matched, "distinct": uniqueness(write, U),
                     "null": float(null.mean()), "null_high": float(np.quantile(null, 0.95))})
    middle = ("topk", params.coder_k[len(params.coder_k) // 2], 1.0)
    return {"rows": pd.DataFrame(rows), "components": _other_seed(params, seed, U),
            "coders": agreement(kept[*middle, False], kept[*middle, True]).matched,
            **best_pairs(V, U, *_told(network, coders[*middle, False], held)[1:])}


def _coders(params: Params, seed: int, net: causal.TwoLayers) -> dict[tuple, SparseCoder]:
    """Every transcoder by (rule, setting, latents per component, whether it is the second seed's)."""
    middle = params.coder_k[len(params.coder_k) // 2]
    wanted = [(rule, k, 1.0, False) for rule in ("topk", "batch_topk") for k in params.coder_k]
    wanted += [("relu", weight, 1.0, False) for weight in params.coder_l1]
    wanted += [("topk", middle, size, False) for size in params.coder_sizes if size != 1]
    wanted += [("topk", middle, 1.0, True)]
    made = {}
    for rule, setting, size, again in wanted:
        own = stream_seed(params.seed, SLUG, "transcoder", seed, str(again))
        knob = {"l1" if rule == "relu" else "k": setting}
        n = max(int(size * params.components), *params.coder_k)
        made[rule, setting, size, again] = SparseCoder(
            net.V1.shape[0], n, rule, d_out=net.U1.shape[1], seed=own, device=net.V1.device, **knob
        )
    return made


@torch.no_grad()
def _told(network: MLP, coder: SparseCoder, x: Tensor) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """What a transcoder is like in the network, and the directions its alive latents read and write."""
    latents, wanted = coder.encode(x), network(x)
    fires = latents != 0
    out = network(x, lambda name, module, z: coder(z) if name == "fc1" else module(z))
    alive = (fires.float().mean(0) > LEAST).cpu()
    told = {"l0": float(fires.sum(1).float().mean()), "kl": float(divergence(out, wanted, "kl")),
            "alive": int(alive.sum()), "n_latents": coder.n_latents}
    return told, *(part.detach().cpu().numpy()[alive.numpy()] for part in (coder.W_enc, coder.W_dec))


def _other_seed(params: Params, seed: int, U: np.ndarray) -> float:
    """Agreement of the components' written directions with those of another decomposition of the same network."""
    _, dec, net = restored(params, seed, "again")
    held = data(params).pixels(net.V1.device)[1]
    ci1 = dec.causal_importance(held)["fc1"]
    sign, alive = predictors.orientation(held @ net.V1, ci1, TAU), _alive(ci1)
    return agreement(U, (net.U1 * sign[:, None])[alive].cpu().numpy()).matched


def toy(params: Params, mask: str) -> dict[str, Any]:
    """The toy model of five features in two dimensions, whose answer is known, decomposed with one kind of mask.

    Returns:
        errors, entries off the identity over both layers, and used, components above TAU on some feature; [seeds].
    """
    model, _ = train_toy_model(5, 2, params.seed, 32, 1500, 256, device=device_named(params.device))
    seeds = [stream_seed(params.seed, SLUG, "toy", seed) for seed in range(params.toy_seeds)]
    config = SPDConfig(params.toy_components, width=8, steps=params.toy_steps, batch_size=256, warmup_steps=50,
                       lr=params.toy_rate, faithfulness=1.0, importance=1e-2, mask=mask)
    found = decompose(model, one_feature, config, seeds, log_every=params.toy_steps)
    importances = [one_hot_importance(result.decomposition, 5) for result in found]
    errors = [sum(map(identity_error, own.values())) for own in importances]
    used = [sum(int((g > TAU).any(0).sum()) for g in own.values()) for own in importances]
    return {"errors": np.array(errors), "used": np.array(used)}


def one_feature(rng: torch.Generator, samples: int) -> Tensor:
    """One active feature of five per sample, U(0, 1), [samples, 5]: no batch is spent on empty samples."""
    which = torch.randint(5, (samples,), generator=rng, device=rng.device)
    return F.one_hot(which, 5) * torch.rand(samples, 1, generator=rng, device=rng.device)


def gate_gradients(params: Params, draws: int = 10) -> pd.DataFrame:
    """Norm of the reconstruction loss's gradient in the gates of an untrained decomposition, by mask and draw."""
    rows = []
    for seed in range(params.seeds):
        network, _, net = restored(params, seed, "noise")
        x = data(params).pixels(net.V1.device)[0][: params.batch]
        dec = Decomposition(network, x[:2], params.components, seed=stream_seed(params.seed, SLUG, "gradient", seed))
        gates = [t for name, t in dec.named_parameters().items() if ".gate." in name]
        for mask in ("uniform", "bernoulli"):
            noise = Noise([stream_seed(params.seed, SLUG, "mask", seed)], False, x.device)
            for draw in range(draws):
                loss = Step(dec, x, _config(params, "noise", mask), noise).recon()
                grads = torch.autograd.grad(loss, gates, allow_unused=True)
                size = sum(float(g.square().sum()) for g in grads if g is not None) ** 0.5
                rows.append({"seed": seed, "mask": mask, "draw": draw, "gradient": size})
    return pd.DataFrame(rows)


def _rng(params: Params, label: str, seed: int, like: Tensor) -> torch.Generator:
    return generator(params.seed, SLUG, label, seed, device=like.device)


def _sizes(params: Params, own: Data) -> tuple[int, int, int]:
    return own.train[0].size, params.hidden, int(own.train_labels.max()) + 1


def _config(params: Params, arm: str, mask: str | None = None) -> SPDConfig:
    mask, penalty = mask or ("bernoulli" if "bernoulli" in arm else "uniform"), params.size_penalty
    return SPDConfig(params.components, steps=params.steps, batch_size=params.batch, divergence="kl", mask=mask,
                     faithfulness=params.faithfulness, importance=0.0 if arm == "unimportant" else params.importance,
                     l1=penalty if arm == "published" else 0.0)


def _alive(importance: Tensor) -> Tensor:
    return (importance > TAU).float().mean(0) > LEAST  # bool [C]
