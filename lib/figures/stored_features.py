"""What trained toy models store: their features as bars, arrows and phases, and the staircase of dimensions."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.cm import ScalarMappable
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from lib.figures import style

POLYTOPES = {"own dimension": 1, "tetrahedron": 3 / 4, "triangle": 2 / 3, "antipodal pair": 1 / 2, "pentagon": 2 / 5,
             "square antiprism": 3 / 8, "not stored": 0}
"""Feature dimensionality of each regular arrangement."""


def zoo(sparsity: Sequence[float], W: Mapping[str, np.ndarray], interference: Mapping[str, np.ndarray]) -> Figure:
    """Per kind and sparsity: |W_i| as bars coloured by interference, and WᵀW below; same limits everywhere.

    Args:
        sparsity: [S]; W: kind -> [S, n_hidden, n_features]; interference: kind -> [S, n_features].
    """
    fig, axes = style.figure(aspect=0.78, rows=2 * len(W), cols=len(sparsity), height_ratios=(0.8, 1) * len(W))
    colours, signed = style.colormap(style.SEQUENTIAL), {"cmap": style.DIVERGING, "vmin": -1, "vmax": 1}
    for row, kind in enumerate(W):
        axes[2 * row, 0].set_ylabel(f"{kind}\n$|W_i|$")
        axes[2 * row + 1, 0].set_ylabel("$W^TW$")
        for s, (weights, met) in enumerate(zip(W[kind], interference[kind], strict=True)):
            bars, square, norms = axes[2 * row, s], axes[2 * row + 1, s], np.linalg.norm(weights, axis=0)
            bars.bar(range(len(norms)), norms, width=1, color=colours(np.clip(met, 0, 1)))
            bars.set(ylim=(0, 1.45), xticks=[], yticks=[] if s else [0, 1], title="" if row else f"S = {sparsity[s]:g}")
            image = square.imshow(weights.T @ weights, **signed)
            square.set(xticks=[], yticks=[])
    shown = {"ticks": [0, 1], "pad": 0.01}
    fig.colorbar(ScalarMappable(cmap=colours), ax=list(axes[:2].flat), label="interference (bars)", **shown)
    fig.colorbar(image, ax=list(axes[2:].flat), label="$W_i · W_j$ (squares)", ticks=[-1, 0, 1], pad=0.01)
    fig.numbers = pd.DataFrame([
        (kind, sparsity[s], i, j, np.linalg.norm(weights[:, i]), interference[kind][s][i], product)
        for kind in W for s, weights in enumerate(W[kind]) for (i, j), product in np.ndenumerate(weights.T @ weights)
    ], columns=("panel", "sparsity", "i", "j", "|W_i|", "interference of i", "W_i · W_j"))
    return fig


def geometry_explorer(sparsity: Sequence[float], plane: np.ndarray, space: np.ndarray) -> go.Figure:
    """Each feature a line from the origin; the slider changes the sparsity of both models at once.

    Args:
        sparsity: [S]; plane: W [S, 2, n]; space: W [S, 3, n'].
    """
    names = [f"{W.shape[2]} features in {W.shape[1]} dimensions" for W in (plane, space)]
    fig = make_subplots(1, 2, specs=[[{"type": "xy"}, {"type": "scene"}]], subplot_titles=names)
    for s, (flat, solid) in enumerate(zip(plane, space, strict=True)):
        shown = {"visible": s == len(plane) - 1}
        fig.add_trace(go.Scatter(**_lines(flat), **shown), 1, 1).add_trace(go.Scatter3d(**_lines(solid), **shown), 1, 2)
    only = [[trace // 2 == s for trace in range(2 * len(plane))] for s in range(len(plane))]
    steps = [{"method": "update", "label": f"{value:g}", "args": [{"visible": visible}]}
             for value, visible in zip(sparsity, only, strict=True)]
    slider = {"steps": steps, "active": len(steps) - 1, "currentvalue": {"prefix": "sparsity S = "}, "pad": {"t": 30}}
    axis = {"range": [-1.4, 1.4], "title": None, "zeroline": False}
    fig.update_layout(
        sliders=[slider], height=460, showlegend=False, margin={"l": 30, "r": 10, "t": 40, "b": 10},
        scene={"aspectmode": "cube", **dict.fromkeys(("xaxis", "yaxis", "zaxis"), axis)},
        xaxis=axis, yaxis={**axis, "scaleanchor": "x"},
        meta={"alt": "Features as arrows in two and three hidden dimensions; the slider changes sparsity."},
    )
    return fig


def _lines(W: np.ndarray) -> dict:
    """Origin -> W_i -> gap for every feature, and how to draw them."""
    along = [[value for w in row for value in (0.0, round(float(w), 4), None)] for row in W]
    text = [t for i, w in enumerate(W.T) for t in ("", f"feature {i}<br>|W| = {np.linalg.norm(w):.2f}", "")]
    look = {"mode": "lines+markers", "line": {"color": style.BLUE, "width": 4}, "text": text, "hoverinfo": "text",
            "marker": {"size": [0, 9, 0] * W.shape[1], "color": style.ORANGE}}
    return dict(zip("xyz", along, strict=False)) | look


def phase_diagrams(diagrams: Mapping[str, Mapping[str, np.ndarray]], phases: Sequence[str]) -> Figure:
    """Measured phase (colour) with the share of restarts that found it (depth of colour), theory's borders drawn over.

    Args:
        diagrams: title -> density [G], importance [G], phase, theory, agreeing [G (density), G (importance)].
        phases: name of each phase index.
    """
    fig, axes = style.figure(aspect=0.52, cols=len(diagrams), sharey=True, squeeze=False)
    hues = np.array([rgb_to_hsv(to_rgb(colour)) for colour in (style.NULL, style.BLUE, style.ORANGE)])
    for ax, (name, diagram) in zip(axes[0], diagrams.items(), strict=True):
        picture, share = hues[diagram["phase"]], 0.25 + 0.75 * diagram["agreeing"]  # [density, importance, 3]
        picture[..., 1] *= share
        picture[..., 2] = 1 - (1 - picture[..., 2]) * share
        x, y = np.log10(diagram["density"]), np.log10(diagram["importance"])
        extent = [end + side * (at[1] - at[0]) / 2 for at in (x, y) for end, side in ((at[0], -1), (at[-1], 1))]
        ax.imshow(hsv_to_rgb(picture).transpose(1, 0, 2), origin="lower", extent=extent, aspect="auto")
        for phase, called in enumerate(phases):
            ax.contour(x, y, (diagram["theory"] == phase).T.astype(float), [0.5], colors=style.BLACK, linewidths=1)
            if len(cells := np.argwhere(diagram["phase"] == phase)) > 12:
                i, j = np.median(cells, axis=0).astype(int)
                style.boxed_label(ax, min(x[i], -0.3), y[j], called)
        ax.set(xticks=[-2, -1, 0], xticklabels=["0.01", "0.1", "1"], yticks=[-1, 0, 1], yticklabels=["0.1", "1", "10"])
        ax.set(xlabel="density p = 1 - S", title=name)
    axes[0, 0].set_ylabel("importance of the extra feature")
    fig.numbers = pd.DataFrame([
        (name, p, importance, phases[d["phase"][i, j]], phases[d["theory"][i, j]], d["agreeing"][i, j])
        for name, d in diagrams.items()
        for i, p in enumerate(d["density"]) for j, importance in enumerate(d["importance"])
    ], columns=("panel", "density", "importance", "phase", "phase in theory", "share of restarts"))
    return fig


def staircase(
    inverse_density: np.ndarray, dstar: np.ndarray, D: np.ndarray, attacks: Mapping[str, np.ndarray]
) -> Figure:
    """Dimensions per feature, dimensionality of every feature, and vulnerability to attack, over 1/(1-S).

    Args:
        inverse_density: [A]; dstar: [A, R]; D: [A, R, n]; attacks: label -> vulnerability [A, R]; at most two.
    """
    fig, (top, middle, bottom) = style.figure(aspect=1.05, rows=3, sharex=True, height_ratios=(1, 1.5, 1.2))
    x, features = inverse_density, np.sort(D.reshape(len(D), -1))  # [A, R n]
    curves, colours = {**attacks, "features per dimension, 1/D*": 1 / dstar}, (style.ORANGE, style.GREEN, style.BLUE)
    jitter = np.exp(np.linspace(-0.035, 0.035, features.shape[1]))
    for ax, levels in ((top, (1, 0.5)), (middle, POLYTOPES.values())):
        for level in levels:
            ax.axhline(level, color=style.NULL, linewidth=0.8)
    for name, level in POLYTOPES.items():
        side = "top" if name in ("triangle", "square antiprism") else "bottom"
        middle.text(x[-1] * 1.15, level, name, color=style.NULL, fontsize=8.5, ha="right", va=side)
    for column, factor in zip(features.T, jitter, strict=True):
        style.dots(middle, x, column, alpha=0.7, size=2, apart=x * (factor - 1))
    lines = [(bottom, values, colour) for values, colour in zip(curves.values(), colours, strict=False)]
    for ax, values, color in [(top, dstar, style.BLUE), *lines]:
        ax.plot(x, values, "o", color=color, markersize=3)
        ax.plot(x, values.mean(1), color=color)
    style.corner_key(bottom, 0.02, 0.96, 0.13, dict(zip(curves, colours, strict=False)))
    top.set(ylabel="dimensions per\nfeature D*", ylim=(0, 1.1), xscale="log", yticks=[0, 0.5, 1])
    middle.set(ylabel="dimensionality $D_i$\nof each feature", ylim=(-0.04, 1.1), yticks=[0, 0.25, 0.5, 0.75, 1])
    bottom.set(ylabel="relative to the\ndensest models", xlabel="1 / (1 - S), log scale", ylim=(0, None))
    style.plain_ticks(bottom.xaxis)
    return fig
