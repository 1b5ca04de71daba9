"""Images that components are needed on, and where in an image: what a reader looks at."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lib.press.runs import reuse
from lib.studies.shapes_and_colours import anova
from lib.studies.shapes_and_colours.common import HEADS, cells, images, pixels, place
from lib.studies.shapes_and_colours.measure import TAU, over_positions, restored_whole
from lib.studies.shapes_and_colours.net import SITES
from lib.studies.shapes_and_colours.train_spd import Whole

SHOWN = 8
BINS = 20


@torch.no_grad()
def pictures(params: Whole, seed: int) -> dict[str, Any]:
    """Of every layer of one network with heads, components that are alive, most important first.

    Returns:
        by layer: component, their numbers [n]; means over cells [cells, n]; frequency [n]; shares, of variance in each
        attribute [n, 3]; histogram of importances over images [n, BINS]; by_importance and by_activation, the test
        images where each is largest [n, SHOWN].
    """
    _, dec = restored_whole(params, HEADS, seed)
    shown, labels = images(params, "test")
    x = pixels(shown, place(params))
    importance, acts, found = over_positions(dec, x)[0], _largest_activations(dec, x), {}
    for site in SITES:
        g = importance[site]
        on = (g > TAU).mean(0)
        alive = np.flatnonzero(on > anova.ALIVE)
        alive = alive[np.argsort(-g[:, alive].mean(0), kind="stable")]
        means = anova.cell_means(g[:, alive], labels, cells(params))
        counts = [np.histogram(one, BINS, (0, 1))[0] / len(g) for one in g[:, alive].T]
        found[site] = {
            "component": alive, "means": means, "frequency": on[alive], "shares": anova.shares(means, params.counts),
            "histogram": np.array(counts), "by_importance": np.argsort(-g[:, alive], 0, kind="stable")[:SHOWN].T,
            "by_activation": np.argsort(-acts[site][:, alive], 0, kind="stable")[:SHOWN].T}
    return found


def gallery(params: Whole, seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """`pictures` and the test images they number, uint8 [n, 28, 28, 3]."""
    return reuse(pictures, params, seed), images(params, "test")[0]


@torch.no_grad()
def maps(params: Whole, seed: int, site: str, components: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Where in some test images components of a convolution matter, [components, images, h, w]."""
    _, dec = restored_whole(params, HEADS, seed)
    g = dec.causal_importance(pixels(images(params, "test")[0][which], place(params)))[site]  # [n, h, w, C]
    return g[..., torch.as_tensor(np.array(components))].permute(3, 0, 1, 2).cpu().numpy()


@torch.no_grad()
def filters(params: Whole, seed: int, components: np.ndarray) -> np.ndarray:
    """What components of the first layer read, each with the sign of its larger writing, [n, 5, 5, 3]."""
    _, dec = restored_whole(params, HEADS, seed)
    V, U = (t.detach().cpu().numpy() for t in (dec.parts["conv1"].V, dec.parts["conv1"].U))
    strongest = np.take_along_axis(U, np.abs(U).argmax(1)[:, None], 1)[:, 0]  # [C]
    return (V * np.sign(strongest)).T.reshape(-1, 3, 5, 5).transpose(0, 2, 3, 1)[components]


def _largest_activations(dec, x: torch.Tensor, batch: int = 500) -> dict[str, np.ndarray]:
    parts: dict[str, list] = {}
    for some in x.split(batch):
        for site, a in dec.capture(some).acts.items():
            parts.setdefault(site, []).append((a.flatten(1, -2).abs().amax(1) if a.ndim > 2 else a.abs()).cpu().numpy())
    return {site: np.concatenate(some) for site, some in parts.items()}
