"""What is measured of trained networks, decompositions and transcoders: plain data out; nothing is trained here."""
from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from lib.metrics.recovery import uniqueness
from lib.press.runs import reuse
from lib.rng import generator, numpy_generator, stream_seed
from lib.sparse_coders import SparseCoder
from lib.spd import Decomposition, Mask
from lib.spd.losses import Step, divergence
from lib.spd.masks import Noise
from lib.spd.metrics import identity_error, one_hot_importance
from lib.studies.spd_causal_graphs import effects as causal
from lib.studies.spd_causal_graphs import graph, predictors, regression
from lib.studies.spd_causal_graphs.agreement import agreement, best_pairs, rotation_null
from lib.studies.spd_causal_graphs.common import SLUG, Common
from lib.studies.spd_causal_graphs.joint import joined
from lib.studies.spd_causal_graphs.mlp import MLP
from lib.studies.spd_causal_graphs.train import Data, data, network
from lib.studies.spd_causal_graphs.train_coders import Coding, restored_coders
from lib.studies.spd_causal_graphs.train_spd import ARMS, Decomposing, config, decomposed
from lib.studies.spd_causal_graphs.train_toy import FEATURES, Toy, restored_toys
from lib.studies.spd_causal_graphs.variants import variants
from lib.training import evaluate

TAU, LEAST = 0.1, 1e-3
"""A component is active above this importance, and alive if active on more than this share of images."""
LARGE, PUBLISHED_LEAST = 0.1, 10
"""The report calls a component alive above this mean |activation|, and averages over no fewer images than these."""


class Nulls(Decomposing):
    """Of every null."""

    null_draws: int = Field(ge=2, description="draws of each null")


class Analysing(Nulls):
    """Of effects and regressions."""

    least_images: int = Field(ge=2, description="images an output component must matter on to have effects")
    orders: int = Field(ge=1, description="random orders of Shapley values")
    most: int = Field(ge=3, description="largest number of predictors in stepwise regression")


class Comparing(Coding, Nulls):
    """Of components beside transcoders."""


def restored(params: Decomposing, seed: int, arm: str) -> tuple[MLP, Decomposition, causal.TwoLayers]:
    """A network, its decomposition and its two layers as tensors."""
    found = reuse(joined if arm.startswith("joint") else decomposed, params, seed, arm)
    frozen = network(params, found["network"])
    example = torch.zeros(2, frozen.sizes[0], device=frozen.fc1.weight.device)
    dec = Decomposition(frozen, example, params.components).load(found["decomposition"])
    layers = [part.detach() for name in ("fc1", "fc2") for part in
              (dec.parts[name].V, dec.parts[name].U, dec.delta(name), dec.sites[name].bias)]
    return frozen, dec, causal.TwoLayers(*layers)


def readings(params: Decomposing, seed: int) -> dict[str, Any]:
    """`reading` of every arm of one network: rows, DataFrame with columns seed and arm."""
    own = data(params)
    rows = [{"seed": seed, "arm": arm, **reading(*restored(params, seed, arm)[:2], own)} for arm in ARMS]
    return {"rows": pd.DataFrame(rows)}


def reading(frozen: MLP, dec: Decomposition, own: Data) -> dict[str, float]:
    """What a decomposition is like on held-out images, by both rules of being alive.

    Returns:
        accuracy; l0_1, l0_2, alive_1, alive_2 by importance; large_1, large_2 by the published rule (LARGE); kl of the
        output with both layers masked by their importances, kl_1 with the first alone, without delta; leftover_1,
        leftover_2, |W - Ŵ| / |W|.
    """
    x = own.pixels(frozen.fc1.weight.device)[1]
    ci, capture = dec.causal_importance(x), dec.capture(x)
    masks = {name: Mask(g, delta=0.0) for name, g in ci.items()}
    found = {"accuracy": evaluate(frozen, own.held, own.held_labels)}
    for place, (name, g) in enumerate(ci.items(), start=1):
        found[f"l0_{place}"] = float((g > TAU).sum(1).float().mean())
        found[f"alive_{place}"] = int(_alive(g).sum())
        found[f"large_{place}"] = int((capture.acts[name].abs().mean(0) > LARGE).sum())
        found[f"leftover_{place}"] = float(dec.delta(name).detach().norm() / dec.sites[name].weight.norm())
    with torch.no_grad():
        for name, used in (("kl", masks), ("kl_1", {"fc1": masks["fc1"]})):
            found[name] = float(divergence(dec(x, used), capture.result, "kl"))
    return found


def analysis(params: Analysing, seed: int) -> dict[str, Any]:
    """Effects between the alive components of one network, what predicts them, and what chance would give.

    Returns:
        inputs, outputs, numbers of components; mean, median, low, high, p_value, significant [I, J]; n, unit and level
        [J]; keep [I, J], the significant edges of the 80 % rule; on_edges, DataFrame with a row per kept edge and the
        four predictors; the 80 % rule (`graph.sparsity`), variants, nulls of the signs and of the largest effects,
        regressions (`regression.regress_all`); ci and directions for figures.
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
        "large_null": causal.largest_at_random(net, x, on, ins, outs, np.sign(unit), params.null_draws,
                                               _rng(params, "random components", seed, x)),
        **regression.regress_all(a1[:, ins].cpu().numpy(), a2[:, outs].cpu().numpy(), params.most, rng),
        "reads": (net.V1[:, ins] * signs[0]).T.cpu().numpy(), "where": torch.stack(means).cpu().numpy(),
        "writes": (net.U2[outs] * signs[1][:, None]).cpu().numpy(), "pixel_sd": x.std(0).cpu().numpy(),
        "ci": torch.cat([ci1[:, ins], ci2[:, outs]], dim=1).cpu().numpy(),
    }


def published_reading(params: Nulls, seed: int) -> dict[str, Any]:
    """The published arm: alive by activation, bias after the ReLU, no delta, no orientation.

    Returns:
        needed [J] and chance_needed [200], as in `graph.sparsity`; wrong, share of wrong signs by predictor, among the
        80 % edges; largest [4], the `effects.extremes`, and large_null [draws, 4], those of random components.
    Source: report_components, causal effects: images where the output's importance is above .1, ten of them at least.
    """
    _, dec, net = restored(params, seed, "published")
    x, rng = data(params).pixels(net.V1.device)[1], numpy_generator(params.seed, SLUG, "published", seed)
    ci1, ci2 = (dec.causal_importance(x)[name] for name in ("fc1", "fc2"))
    on, (large1, large2) = ci2 > TAU, ((a.abs().mean(0) > LARGE).cpu() for a in net.activations(x))
    ins, outs = np.flatnonzero(large1), np.flatnonzero(large2 & (on.sum(0) >= PUBLISHED_LEAST).cpu())
    mean = causal.mean_effects(net, x, on, form="published").cpu().numpy()[np.ix_(ins, outs)]
    on, keep = on[:, outs], graph.strongest(mean)
    guess = predictors.predictions(net, x, ci1, on, ins, outs, TAU)
    chance = graph.random_needed(len(ins), len(outs), rng, draws=200)
    return {"needed": graph.inputs_needed(mean), "chance_needed": chance,
            "wrong": {step: predictors.flips(path, mean, keep).share for step, path in guess.items()},
            "largest": causal.extremes(mean),
            "large_null": causal.largest_at_random(net, x, on, ins, outs, np.ones(len(outs)), params.null_draws,
                                                   _rng(params, "random components", seed, x))}


def transcoders(params: Comparing, seed: int) -> dict[str, Any]:
    """Transcoders of the first layer beside its components: x -> x W1ᵀ + b1, the map that is decomposed.

    Returns:
        rows, DataFrame: rule, setting, n_latents, l0, kl, alive, matched, forward, backward, encoder, distinct, null,
            null_high; components, how the decomposition agrees with another seed's (matched); coders, the same for a
            transcoder; reads [n, d_in] and component_reads of the best matched pairs, with their cosines.
    """
    frozen, dec, net = restored(params, seed, "noise")
    held = data(params).pixels(net.V1.device)[1]
    ci1 = dec.causal_importance(held)["fc1"]
    alive, own_sign = _alive(ci1), predictors.orientation(held @ net.V1, ci1, TAU)
    U, V = ((part[alive] * own_sign[alive, None]).cpu().numpy() for part in (net.U1, net.V1.T))
    coders = restored_coders(params, seed, frozen)
    rng, rows, kept = numpy_generator(params.seed, SLUG, "rotations", seed), [], {}
    for (rule, setting, size, again), coder in coders.items():
        told, read, write = _told(frozen, coder, held)
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
            **best_pairs(V, U, *_told(frozen, coders[*middle, False], held)[1:])}


@torch.no_grad()
def _told(frozen: MLP, coder: SparseCoder, x: Tensor) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """What a transcoder is like in the network, and the directions its alive latents read and write."""
    latents, wanted = coder.encode(x), frozen(x)
    fires = latents != 0
    out = frozen(x, lambda name, module, z: coder(z) if name == "fc1" else module(z))
    alive = (fires.float().mean(0) > LEAST).cpu()
    told = {"l0": float(fires.sum(1).float().mean()), "kl": float(divergence(out, wanted, "kl")),
            "alive": int(alive.sum()), "n_latents": coder.n_latents}
    return told, *(part.detach().cpu().numpy()[alive.numpy()] for part in (coder.W_enc, coder.W_dec))


def _other_seed(params: Decomposing, seed: int, U: np.ndarray) -> float:
    """Agreement of the components' written directions with those of another decomposition of the same network."""
    _, dec, net = restored(params, seed, "again")
    held = data(params).pixels(net.V1.device)[1]
    ci1 = dec.causal_importance(held)["fc1"]
    sign, alive = predictors.orientation(held @ net.V1, ci1, TAU), _alive(ci1)
    return agreement(U, (net.U1 * sign[:, None])[alive].cpu().numpy()).matched


def toy(params: Toy, mask: str) -> dict[str, Any]:
    """The toy model, whose answer is known, decomposed with one kind of mask.

    Returns:
        errors, entries off the identity over both layers, and used, components above TAU on some feature; [seeds].
    """
    importances = [one_hot_importance(dec, FEATURES) for dec in restored_toys(params, mask)]
    errors = [sum(map(identity_error, own.values())) for own in importances]
    used = [sum(int((g > TAU).any(0).sum()) for g in own.values()) for own in importances]
    return {"errors": np.array(errors), "used": np.array(used)}


def gate_gradients(params: Decomposing, seed: int, draws: int = 10) -> list[dict[str, Any]]:
    """Norm of the reconstruction loss's gradient in the gates of an untrained decomposition, by mask and draw."""
    frozen, _, net = restored(params, seed, "noise")
    x, rows = data(params).pixels(net.V1.device)[0][: params.batch], []
    dec = Decomposition(frozen, x[:2], params.components, seed=stream_seed(params.seed, SLUG, "gradient", seed))
    gates = [t for name, t in dec.named_parameters().items() if ".gate." in name]
    for mask in ("uniform", "bernoulli"):
        noise = Noise([stream_seed(params.seed, SLUG, "mask", seed)], False, x.device)
        for draw in range(draws):
            loss = Step(dec, x, config(params, "noise", mask), noise).recon()
            grads = torch.autograd.grad(loss, gates, allow_unused=True)
            size = sum(float(g.square().sum()) for g in grads if g is not None) ** 0.5
            rows.append({"seed": seed, "mask": mask, "draw": draw, "gradient": size})
    return rows


def _rng(params: Common, label: str, seed: int, like: Tensor) -> torch.Generator:
    return generator(params.seed, SLUG, label, seed, device=like.device)


def _alive(importance: Tensor) -> Tensor:
    return (importance > TAU).float().mean(0) > LEAST  # bool [C]
