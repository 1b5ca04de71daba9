"""The four metrics that convolutions are said to break, on a network and on its twin without convolutions."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.figures.spd import balanced
from lib.rng import generator
from lib.spd import Decomposition, Mask
from lib.studies.shapes_and_colours.common import HEADS, SLUG, answers, images, pixels, place
from lib.studies.shapes_and_colours.measure import TAU, accuracy, loaded, restored_whole
from lib.studies.shapes_and_colours.net import SITES, unfolded
from lib.studies.shapes_and_colours.tallies import Tally, tally
from lib.studies.shapes_and_colours.train_spd import Whole

METRICS = ("histogram", "density", "directions", "layerwise")
COMPARED = 540
"""Test images on which twins are compared, twenty of each of 27 combinations."""


@torch.no_grad()
def four_metrics(params: Whole, seed: int) -> dict[str, Any]:
    """Every metric of every layer of a network with heads, of its unfolded twin, and averaged as the reference does.

    Returns:
        differs, metric -> largest |difference| between network and twin; as_reference, the same where the network's
        layers are averaged over the first layer's positions; rows, one per layer: importance (the mean), l0
        and worst-head accuracy with its masks drawn, each with _twin, and importance_first and l0_first, averaged over
        the first layer's positions.
    """
    _, dec = restored_whole(params, HEADS, seed)
    shown, labels = images(params, "test")
    shown, labels = shown[:COMPARED], labels[:COMPARED]
    x, wanted = pixels(shown, place(params)).double(), answers(params, HEADS, seed, labels)
    dec = loaded(dec.target.double(), x[:2], dec.arrays())  # so that no rounding carries a value over an edge
    pair = [_read(one, x, wanted, params.seed) for one in (dec, unfolded(dec, x[:2]))]
    first = _averaged_by_first(pair[0])
    differs, as_reference = ({name: max(float(np.abs(one[name][s] - pair[1][name][s]).max()) for s in SITES)
                              for name in METRICS} for one in (pair[0], first))
    rows = []
    for site in SITES:
        one, twin = (each["told"][site] for each in pair)
        as_first = one.positions / pair[0]["told"][SITES[0]].positions
        rows.append({
            "site": site, "positions": one.positions, "importance": float(one.mean.mean()), "l0": one.l0,
            "importance_twin": float(twin.mean.mean()), "l0_twin": twin.l0,
            "importance_first": as_first * float(one.mean.mean()), "l0_first": as_first * one.l0,
            "drawn": float(pair[0]["layerwise"][site].min()), "drawn_twin": float(pair[1]["layerwise"][site].min())})
    return {"differs": differs, "as_reference": as_reference, "rows": pd.DataFrame(rows)}


def _read(dec: Decomposition, x: Tensor, wanted: Tensor, seed: int) -> dict[str, Mapping[str, Any]]:
    told: dict[str, Tally] = tally(dec, x, TAU)
    sizes = {}
    for site, parts in dec.parts.items():
        V, U = balanced(parts.V.detach().cpu().numpy(), parts.U.detach().cpu().numpy())
        order = np.argsort(-told[site].mean, kind="stable")
        sizes[site] = np.concatenate([V[:, order], U[order].T])
    return {"told": told, "histogram": {s: told[s].histogram for s in told}, "directions": sizes,
            "density": {s: told[s].frequency for s in told}, "layerwise": _layerwise(dec, x, wanted, seed)}


def _averaged_by_first(read: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The four metrics with every layer's sums divided by the first layer's number of positions."""
    told = read["told"]
    share = {site: one.positions / told[SITES[0]].positions for site, one in told.items()}
    scaled = {name: {s: values * share[s] for s, values in read[name].items()} for name in ("histogram", "density")}
    return {**scaled, "directions": read["directions"], "layerwise": read["layerwise"]}  # no average over positions


def _layerwise(dec: Decomposition, x: Tensor, wanted: Tensor, seed: int, batch: int = 500) -> dict[str, np.ndarray]:
    """Accuracy of each head with one layer's masks drawn at a time, [heads]; twins are given the same draws."""
    found = {}
    for site in dec.sites:
        rng, out = generator(seed, SLUG, "layerwise", site, device=x.device), []
        for part in x.split(batch):
            g = dec.causal_importance(part)[site]
            r, delta = (torch.rand(shape, generator=rng, device=rng.device).to(g) for shape in (g.shape, g.shape[:-1]))
            out.append(dec(part, {site: Mask(g, r, delta)}))
        found[site] = accuracy(torch.cat(out), wanted)
    return found
