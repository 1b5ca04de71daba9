"""What is measured of trained networks, decompositions and coders: plain data out; nothing is trained here."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lib.press.runs import reuse
from lib.rng import generator
from lib.spd import Decomposition, Mask, Routed
from lib.studies.shapes_and_colours import anova
from lib.studies.shapes_and_colours.common import HEADS, SLUG, Images, answers, cells, held_out, images, pixels, place
from lib.studies.shapes_and_colours.net import BEHIND, SITES
from lib.studies.shapes_and_colours.tallies import tally
from lib.studies.shapes_and_colours.train import restored, trained
from lib.studies.shapes_and_colours.train_coders import Coding, restored_coders
from lib.studies.shapes_and_colours.train_spd import WIDTH, Behind, Whole, behind, whole

TAU = 0.1
"""A component is on above this importance."""
READ = ("alive", "atomic", "levels", "cells")


class Nulls(Images):
    """Of what components are compared with."""

    null_draws: int = Field(ge=2, description="draws of each null")


class MeasuringBehind(Behind, Nulls):
    """Of decompositions of the fully connected layers."""

    may_lose: float = Field(
        ge=0, le=1, description="accuracy a head may lose by masks of importances, else the decomposition is left out")


class MeasuringWhole(Whole, Nulls):
    """Of decompositions of all layers."""


class MeasuringCoders(Coding, Nulls):
    """Of coders."""


@torch.no_grad()
def readings_behind(
    params: MeasuringBehind, task: str, seed: int, importance: float | None = None, every_cell: bool = True
) -> dict[str, Any]:
    """One network and its decompositions of fc1 and fc2.

    Returns:
        accuracy [heads] of the network; rows, one per decomposition and layer: `anova.reading`, null_ and the same of
        random directions (mean over draws), l0, ci_accuracy (of the worst head, masked by importances), counts; means
        [D, cells, C] and frequency [D, C] by layer; held_accuracy [heads] and held_ci [D, heads] on the held-out cells.
    """
    tail, inputs, labels = _tail(params, task, seed)
    wanted, held = answers(params, task, seed, labels), np.isin(labels, held_out(params))
    own, rows, held_ci = accuracy(tail(inputs), wanted), [], []
    means, frequency = ({site: [] for site in BEHIND} for _ in range(2))
    stored = reuse(behind, params, task, seed, importance, every_cell)["decompositions"]
    for i, arrays in enumerate(stored):
        dec, rng = loaded(tail, inputs[:2], arrays), generator(params.seed, SLUG, "null", task, seed, i)
        out, g, reads = masked(dec, inputs), dec.causal_importance(inputs), dec.capture(inputs).inputs
        drop = own - accuracy(out, wanted)
        held_ci.append(accuracy(out[held], wanted[held]))
        for site in BEHIND:
            values = g[site].cpu().numpy()
            found, on = anova.cell_means(values, labels, cells(params)), (values > TAU).mean(0)
            null = _null(params, reads[site], found, on, labels, rng)
            rows.append({"site": site, "decomposition": i, **anova.reading(found, on, params.counts), **null,
                         "l0": float((values > TAU).sum(1).mean()), "ci_accuracy": float((own - drop).min()),
                         "counts": bool(drop.max() <= params.may_lose)})
            means[site].append(found)
            frequency[site].append(on)
    stacked = [{site: np.array(parts) for site, parts in kept.items()} for kept in (means, frequency)]
    return {"accuracy": own, "rows": pd.DataFrame(rows), "means": stacked[0], "frequency": stacked[1],
            "held_accuracy": accuracy(tail(inputs[held]), wanted[held]), "held_ci": np.array(held_ci)}


@torch.no_grad()
def readings_coders(params: MeasuringCoders, seed: int) -> dict[str, Any]:
    """Latents of one network's coders, scaled to 1, through the same test: rows, one per layer, k and latents."""
    tail, x, labels = _tail(params, HEADS, seed)
    reads, rng, rows = {"fc1": x, "fc2": tail.behind("fc2", x)[1]}, generator(params.seed, SLUG, "coder null", seed), []
    for site, inputs in reads.items():
        for (k, n), coder in restored_coders(params, site, seed, inputs.shape[1]).items():
            latents = coder.encode(inputs)
            scaled = (latents / latents.amax(0).clamp_min(1e-12)).cpu().numpy()
            found, on = anova.cell_means(scaled, labels, cells(params)), (scaled > 0).mean(0)
            unexplained = (coder(inputs) - inputs).square().sum() / (inputs - inputs.mean(0)).square().sum()
            rows.append({"site": site, "k": k, "latents": n, "fvu": float(unexplained),
                         **anova.reading(found, on, params.counts), **_null(params, inputs, found, on, labels, rng)})
    return {"rows": pd.DataFrame(rows)}


@torch.no_grad()
def readings_whole(params: MeasuringWhole, task: str, seed: int, positions: str = "own") -> dict[str, Any]:
    """One network and its decomposition of all five layers.

    Returns:
        accuracy and ci_accuracy [heads]; rows, one per layer: positions, alive, l0 per position, image_l0, atomic by
        the largest importance over an image's positions, by_mean by the mean over them, random (of directions that are
        on as often, by their largest projection), colours (how many of the atoms are colours), alone (accuracy of the
        worst head with that layer alone masked by importances), delta |Δ| / |W|; together, rounded_0.5 and rounded_0.1:
        that accuracy with all layers masked, importances as they are or rounded.
    """
    frozen, dec = restored_whole(params, task, seed, positions)
    shown, labels = images(params, "test")
    x, wanted = pixels(shown, place(params)), answers(params, task, seed, labels)
    told, (peak, mean), rows = tally(dec, x, TAU), over_positions(dec, x), []
    reads, rng = dec.capture(x).inputs, generator(params.seed, SLUG, "whole null", task, seed, positions)
    for site in SITES:
        one, on = told[site], told[site].image_frequency
        by_peak, by_mean = (anova.cell_means(v[site], labels, cells(params)) for v in (peak, mean))
        own = anova.judged(by_peak, on)
        atoms, kinds = (f(by_peak[:, own], params.counts) for f in (anova.is_atomic, anova.shares))
        rows.append({
            "site": site, "positions": one.positions, "alive": int((on > anova.ALIVE).sum()), "l0": one.l0,
            "image_l0": one.image_l0, "atomic": _share(atoms), "colours": _share(kinds[atoms].argmax(-1) == 1),
            "by_mean": _share(anova.is_atomic(by_mean[:, own], params.counts)),
            "random": _null(params, reads[site], by_peak, on, labels, rng, getattr(frozen, site))["null_atomic"],
            "alone": float(accuracy(masked(dec, x, (site,)), wanted).min()),
            "delta": float(dec.delta(site).norm() / dec.sites[site].weight.norm())})
    rounded = {f"rounded_{edge:g}": float(accuracy(masked(dec, x, SITES, edge), wanted).min()) for edge in (0.5, 0.1)}
    together = accuracy(masked(dec, x), wanted)
    return {"accuracy": accuracy(frozen(x), wanted), "ci_accuracy": together, "together": float(together.min()),
            "rows": pd.DataFrame(rows), **rounded}


def restored_whole(params: Whole, task: str, seed: int, positions: str = "own") -> tuple[Routed, Decomposition]:
    """A network and its decomposition of all layers."""
    frozen = restored(params, task, reuse(trained, params, task, seed))
    example = torch.zeros(2, 3, 28, 28, device=place(params))
    return frozen, loaded(frozen, example, reuse(whole, params, task, seed, positions)["decomposition"])


def loaded(target: Routed, example: Tensor, arrays: Mapping[str, np.ndarray]) -> Decomposition:
    """The decomposition of a target, or of its tail, with these values."""
    C = {site: arrays[f"{site}.V"].shape[-1] for site in SITES if f"{site}.V" in arrays}
    return Decomposition(target, example, C, width=WIDTH, sites=list(C)).load(arrays)


def masked(
    dec: Decomposition, x: Tensor, sites: Collection[str] | None = None, edge: float | None = None, batch: int = 500
) -> Tensor:
    """The network's output with components kept by their importance and no delta.

    Args:
        sites: where; None: at all. edge: importances above it are rounded to 1, others to 0; None: as they are.
    """
    out = []
    for part in x.split(batch):
        g = dec.causal_importance(part)
        g = g if edge is None else {name: (one > edge).to(one) for name, one in g.items()}
        out.append(dec(part, {name: Mask(one, delta=0.0) for name, one in g.items() if sites is None or name in sites}))
    return torch.cat(out)


def over_positions(dec: Decomposition, x: Tensor, batch: int = 500) -> tuple[dict[str, np.ndarray], ...]:
    """Largest and mean importance over the positions of each image, by site [N, C]."""
    parts: dict[str, list] = {}
    for some in x.split(batch):
        for name, g in dec.causal_importance(some).items():
            g = g.flatten(1, -2) if g.ndim > 2 else g[:, None]
            parts.setdefault(name, []).append(torch.stack([g.amax(1), g.mean(1)]))
    joined = {name: torch.cat(some, 1).cpu().numpy() for name, some in parts.items()}
    return tuple({name: both[i] for name, both in joined.items()} for i in range(2))


def accuracy(out: Tensor, wanted: Tensor) -> np.ndarray:
    """Share of images each head names right, [heads]; out [N, heads, classes], wanted [N, heads]."""
    return (out.argmax(-1) == wanted.to(out.device)).double().mean(0).cpu().numpy()


def _tail(params: Images, task: str, seed: int) -> tuple[Routed, Tensor, np.ndarray]:
    """The fully connected layers of a network, what they read of the test images, and the labels."""
    frozen, (shown, labels) = restored(params, task, reuse(trained, params, task, seed)), images(params, "test")
    return *frozen.behind("fc1", pixels(shown, place(params))), labels


def _null(
    params: Nulls, inputs: Tensor, means: np.ndarray, on: np.ndarray, labels: np.ndarray, rng: torch.Generator,
    layer: nn.Module | None = None,
) -> dict[str, float]:
    """`anova.reading` of random directions of a layer's inputs that are on as often as its judged components, mean."""
    often, found = on[anova.judged(means, on)], []
    fan_in = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else inputs.shape[1]
    for _ in range(params.null_draws):
        directions = torch.randn(fan_in, len(often), generator=rng, device=rng.device).to(inputs)
        far = projections(inputs, directions, layer).cpu().numpy()
        found.append(anova.reading(anova.on_as_often(far, often, labels, cells(params)), often, params.counts))
    return {f"null_{name}": float(np.mean([one[name] for one in found])) for name in READ}


def projections(inputs: Tensor, directions: Tensor, layer: nn.Module | None = None) -> Tensor:
    """What a layer reads along directions [fan_in, n], for a convolution the largest over its positions, [N, n]."""
    if not isinstance(layer, nn.Conv2d):
        return inputs @ directions
    filters = directions.T.reshape(-1, *layer.weight.shape[1:])
    return F.conv2d(inputs, filters, None, layer.stride, layer.padding).amax((2, 3))


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
