"""What is measured of trained networks, decompositions and transcoders: plain data out; nothing is trained here."""
from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from lib.press.runs import reuse
from lib.rng import generator, numpy_generator, stream_seed
from lib.sparse_coders import SparseCoder
from lib.spd import Decomposition, Mask
from lib.spd.losses import Step, divergence
from lib.spd.masks import Noise
from lib.spd.metrics import identity_error, one_hot_importance, use
from lib.studies.spd_causal_graphs import effects as causal
from lib.studies.spd_causal_graphs import graph, predictors, regression
from lib.studies.spd_causal_graphs.agreement import agreement, rotation_null
from lib.studies.spd_causal_graphs.common import SLUG, Common
from lib.studies.spd_causal_graphs.mlp import MLP
from lib.studies.spd_causal_graphs.together import MaskedNetwork, joined, whole
from lib.studies.spd_causal_graphs.train import Data, data, network
from lib.studies.spd_causal_graphs.train_coders import Coding, restored_coders
from lib.studies.spd_causal_graphs.train_spd import (
    ARMS,
    JOINT,
    WHOLE,
    ByRecipe,
    Decomposing,
    by_recipe,
    config,
    decomposed,
)
from lib.studies.spd_causal_graphs.train_toy import FEATURES, Toy, restored_toys
from lib.studies.spd_causal_graphs.variants import variants

TAU, LEAST = 0.1, 1e-3
"""A component is active above this importance, and alive if active on more than this share of images."""
LARGE, PUBLISHED_LEAST = 0.1, 10
"""The report calls a component alive above this mean |activation|, and averages over no fewer images than these."""
MUTE = {**dict.fromkeys(("needed", "chance_needed", "lasso", "steps", "all", "lasso_null", "steps_null"), np.nan),
        "wrong": dict.fromkeys(predictors.STEPS, np.nan), "largest": np.full(4, np.nan),
        "large_null": np.full(4, np.nan)}
"""The report's reading of a decomposition without effects."""


class Drawing(Common):
    """Of every null."""

    null_draws: int = Field(ge=2, description="draws of each null")


class Nulls(Decomposing, Drawing):
    """Of what decompositions are compared with."""


class Analysing(Nulls):
    """Of effects and regressions."""

    least_images: int = Field(ge=2, description="images an output component must matter on to have effects")
    orders: int = Field(ge=1, description="random orders of Shapley values")
    most: int = Field(ge=3, description="largest number of predictors in stepwise regression")


class Reporting(ByRecipe, Drawing):
    """Of the report's own recipe."""


class Comparing(Coding, Nulls):
    """Of components beside transcoders."""


def restored(params: Decomposing, seed: int, arm: str) -> tuple[MLP, Decomposition, causal.TwoLayers]:
    """A network, its decomposition and its two layers as tensors."""
    made = {JOINT: joined, WHOLE: whole}.get(arm)
    found = reuse(made, params, seed) if made else reuse(decomposed, params, seed, arm)
    return _as_trained(params, found, MaskedNetwork if arm == WHOLE else Decomposition)


def _as_trained(
    params: Common, found: dict[str, Any], kind: type[Decomposition] = Decomposition, gate: str = "mlp"
) -> tuple[MLP, Decomposition, causal.TwoLayers]:
    frozen, values = network(params, found["network"]), found["decomposition"]
    example = torch.zeros(2, frozen.sizes[0], device=frozen.fc1.weight.device)
    dec = kind(frozen, example, len(values["fc1.U"]), gate).load(values)
    layers = [part.detach() for name in ("fc1", "fc2") for part in
              (dec.parts[name].V, dec.parts[name].U, dec.delta(name), dec.sites[name].bias)]
    return frozen, dec, causal.TwoLayers(*layers)


def readings(params: Decomposing, seed: int) -> dict[str, Any]:
    """`reading` of every arm of one network, and how alike the patterns are that its alive input components read.

    Returns:
        rows, DataFrame with columns seed and arm; alike, mean cosine of one-to-one pairs with the main arm's patterns
            (of the main arm: with that of another network); nan where none is alive.
    """
    own, rows, reads = data(params), [], {}
    for arm in ARMS:
        frozen, dec, net = restored(params, seed, arm)
        rows.append({"seed": seed, "arm": arm, **reading(frozen, dec, own)})
        reads[arm] = _alive_parts(dec, net, own)[0]
    other = _alive_parts(*restored(params, int(seed == 0), "noise")[1:], own)[0]
    alike = [agreement(reads["noise"], other if arm == "noise" else own) for arm, own in reads.items()]
    return {"rows": pd.DataFrame(rows).assign(alike=alike)}


def reading(frozen: MLP, dec: Decomposition, own: Data) -> dict[str, float]:
    """What a decomposition is like on held-out images, by both rules of being alive.

    Returns:
        accuracy of the whole network, masked of the network with both layers masked by their importances, without
        delta; l0_1, l0_2, alive_1, alive_2 by importance; large_1, large_2 by the published rule (LARGE); kl, what
        masking changes in the output, kl_1 with the first layer alone; leftover_1, leftover_2, |W - Ŵ| / |W|.
    """
    x = own.pixels(frozen.fc1.weight.device)[1]
    ci, capture = dec.causal_importance(x), dec.capture(x)
    masks = {name: Mask(g, delta=0.0) for name, g in ci.items()}
    found = {}
    for place, (name, site) in enumerate(use(dec, capture, TAU, LEAST).items(), start=1):
        found |= {f"{key}_{place}": getattr(site, key) for key in ("l0", "alive", "leftover")}
        found[f"large_{place}"] = int((capture.acts[name].abs().mean(0) > LARGE).sum())
    with torch.no_grad():
        outs = {name: dec(x, used) for name, used in (("kl", masks), ("kl_1", {"fc1": masks["fc1"]}))}
        found |= {name: float(divergence(out, capture.result, "kl")) for name, out in outs.items()}
        right = {"accuracy": frozen(x), "masked": outs["kl"]}
    labels = torch.from_numpy(np.asarray(own.held_labels)).to(x.device)
    return found | {name: float((out.argmax(1) == labels).double().mean()) for name, out in right.items()}


def analysis(params: Analysing, seed: int) -> dict[str, Any]:
    """Effects between the alive components of one network, what predicts them, and what chance would give.

    Returns:
        inputs, outputs, numbers of components; mean, low, high, significant [I, J]; n, unit and level [J];
        keep [I, J], the significant edges of the 80 % rule; on_edges, DataFrame with a row per kept edge and the
        four predictors; matrices, what two of them, the Lasso and the effects say of all pairs, [I, J] each, signs and
        units those of oriented components; the 80 % rule (`graph.sparsity`), variants, nulls of the signs and of the
        largest effects, regressions (`regression.regress_all`); directions for figures.
    """
    _, dec, net = restored(params, seed, "noise")
    x = data(params).pixels(net.V1.device)[1]
    ci1, ci2 = (dec.causal_importance(x)[name] for name in ("fc1", "fc2"))
    ins = np.flatnonzero(_alive(ci1).cpu())
    outs = np.flatnonzero(((ci2 > TAU).sum(0) >= params.least_images).cpu())
    on, rng = ci2[:, outs] > TAU, numpy_generator(params.seed, SLUG, "effects", seed)
    a1, a2 = net.activations(x)
    pairs = causal.Pairs(net, x, on, ins.tolist(), outs.tolist())
    values = causal.ablation_effects(pairs)
    found = causal.edges(values, on, rng)
    signs = predictors.orientation(a1, ci1, TAU)[ins], predictors.orientation(a2, ci2, TAU)[outs]
    unit = (a2[:, outs].std(0) * signs[1]).cpu().numpy()
    keep = graph.strongest(found.mean) & found.significant
    guess = predictors.predictions(pairs, ci1, TAU)
    table = pd.DataFrame({name: (value / unit)[keep] for name, value in guess.items()})
    level = np.array([float(a2[on[:, p], j].mean()) for p, j in enumerate(outs)])
    means = [x[on[:, place]].mean(0) - x.mean(0) for place in range(len(outs))]
    fitted = regression.regress_all(a1[:, ins].cpu().numpy(), a2[:, outs].cpu().numpy(), params.most, rng)
    slopes = fitted.pop("slopes") * signs[0].cpu().numpy()[:, None]
    return {
        "inputs": ins, "outputs": outs, **found._asdict(), "level": level, "unit": unit, "keep": keep,
        "on_edges": table.assign(effect=(found.mean / unit)[keep]),
        "gauge": predictors.random_gauge_flips(pairs, found.mean, keep, params.null_draws,
                                               _rng(params, "gauge", seed, x)),
        **graph.sparsity(pairs, values, params.null_draws, rng),
        "variants": variants(pairs, ci1, found.mean, keep, params.orders, _rng(params, "orders", seed, x)),
        "large_null": causal.largest_at_random(pairs, np.sign(unit), params.null_draws,
                                               _rng(params, "random components", seed, x)),
        **fitted, "matrices": {**{step: guess[step] / unit for step in predictors.STEPS[:2]},
                               "Lasso": slopes / unit, "effect": found.mean / unit},
        "reads": (net.V1[:, ins] * signs[0]).T.cpu().numpy(), "where": torch.stack(means).cpu().numpy(),
        "writes": (net.U2[outs] * signs[1][:, None]).cpu().numpy(), "pixel_sd": x.std(0).cpu().numpy(),
    }


def as_reported(params: Nulls, seed: int) -> dict[str, Any]:
    """Our decomposition with a penalty on the size of V and U, read as the report reads its own: see `_reported`."""
    return _reported(params, seed, *restored(params, seed, "sized")[1:])


def recipe_reported(params: Reporting, seed: int) -> dict[str, Any]:
    """The report's own recipe, read as the report does: see `_reported`."""
    return _reported(params, seed, *_as_trained(params, reuse(by_recipe, params, seed), gate="linear")[1:])


def _reported(params: Any, seed: int, dec: Decomposition, net: causal.TwoLayers) -> dict[str, Any]:
    """The report's reading: alive by activation, bias after the ReLU, no delta, no orientation.

    Returns:
        ins and outs, alive by activation, counts; effects, outputs that matter on enough images; needed and
        chance_needed, means over those; wrong, share of wrong signs by predictor, among the 80 % edges; largest [4],
        the `effects.extremes`, and large_null [4] of random components, mean over draws; `regression.in_sample`.
        All but the counts nan where no output matters on enough images, or fewer than two inputs are alive.
    Source: report_components, causal effects: images where the output's importance is above .1, ten of them at least.
    """
    x, rng = data(params).pixels(net.V1.device)[1], numpy_generator(params.seed, SLUG, "reported", seed)
    ci1, ci2 = (dec.causal_importance(x)[name] for name in ("fc1", "fc2"))
    acts, on = net.activations(x), ci2 > TAU
    large1, large2 = ((a.abs().mean(0) > LARGE).cpu() for a in acts)
    ins, outs = np.flatnonzero(large1), np.flatnonzero(large2 & (on.sum(0) >= PUBLISHED_LEAST).cpu())
    told = {"ins": int(large1.sum()), "outs": int(large2.sum()), "effects": len(outs)}
    if not len(outs) or len(ins) < 2:
        return told | MUTE
    mean = causal.mean_effects(net, x, on, form="published").cpu().numpy()[np.ix_(ins, outs)]
    pairs, keep = causal.Pairs(net, x, on[:, outs], ins.tolist(), outs.tolist()), graph.strongest(mean)
    guess = predictors.predictions(pairs, ci1, TAU)
    null = causal.largest_at_random(pairs, np.ones(len(outs)), params.null_draws,
                                    _rng(params, "random components", seed, x))
    X, Y = acts[0][:, ins].cpu().numpy(), acts[1][:, outs].cpu().numpy()
    return {**told, "needed": float(graph.inputs_needed(mean).mean()),
            "chance_needed": float(graph.random_needed(len(ins), len(outs), rng, draws=200).mean()),
            "wrong": {step: float(predictors.flips(path, mean, keep).mean()) for step, path in guess.items()},
            "largest": causal.extremes(mean), "large_null": null.mean(0), **regression.in_sample(X, Y, 10, rng)}


def transcoders(params: Comparing, seed: int) -> dict[str, Any]:
    """Transcoders of the first layer beside its components: x -> x W1ᵀ + b1, the map that is decomposed.

    Returns:
        rows, DataFrame: k, size, n_latents, l0, kl, alive, matched, encoder (what is read in place of written), null;
        components, how the decomposition agrees with another seed's; coders, the same for a transcoder.
    """
    frozen, dec, net = restored(params, seed, "noise")
    own = data(params)
    held, (V, U) = own.pixels(net.V1.device)[1], _alive_parts(dec, net, own)
    rng, rows, kept = numpy_generator(params.seed, SLUG, "rotations", seed), [], {}
    for (k, size, again), coder in restored_coders(params, seed, frozen).items():
        told, read, write = _told(frozen, coder, held)
        kept[k, size, again] = write
        if again or not len(write):
            continue
        null = rotation_null(U, write, rng, params.null_draws)
        rows.append({"k": k, "size": size, **told, "matched": agreement(U, write), "encoder": agreement(V, read),
                     "null": float(null.mean())})
    middle = params.coder_k[len(params.coder_k) // 2], 1.0
    again = _alive_parts(*restored(params, seed, "again")[1:], own)[1]
    return {"rows": pd.DataFrame(rows), "components": agreement(U, again),
            "coders": agreement(kept[*middle, False], kept[*middle, True])}


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


def _alive_parts(dec: Decomposition, net: causal.TwoLayers, own: Data) -> tuple[np.ndarray, np.ndarray]:
    """What the alive input components read and write, [n, d_in] and [n, d_hidden], each with a sign of its own."""
    held = own.pixels(net.V1.device)[1]
    ci1 = dec.causal_importance(held)["fc1"]
    alive, sign = _alive(ci1), predictors.orientation(held @ net.V1, ci1, TAU)
    return tuple((part * sign[:, None])[alive].cpu().numpy() for part in (net.V1.T, net.U1))


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
