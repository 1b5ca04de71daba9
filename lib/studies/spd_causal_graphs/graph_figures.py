"""A causal graph of components: two columns of thumbnails with signed edges, and its interactive twin."""
from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from lib.figures import style

Node = tuple[str, int]
POSITIVE, NEGATIVE = style.BLUE, style.ORANGE


def busiest(graph: nx.DiGraph, n: int = 3) -> nx.DiGraph:
    """The part of a graph that leads to the `n` outputs of the largest effects, with all their inputs."""
    largest = {b: 0.0 for _, b in graph.edges}
    for _, b, effect in graph.edges(data="effect"):
        largest[b] = max(largest[b], abs(effect))
    outputs = sorted(largest, key=largest.get, reverse=True)[:n]
    return graph.edge_subgraph([(a, b) for a, b in graph.edges if b in outputs])


def order_sides(weights: np.ndarray, sweeps: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of both sides, int [I] and [J], by which few edges cross: each side by the mean rank of its neighbours.

    Args:
        weights: [I, J], non-zero where there is an edge; |weight| weighs the mean.
        sweeps: passes over both sides.
    Source: Sugiyama, Tagawa & Toda 1981.
    """
    weights = np.abs(weights)
    left, right = (np.arange(n) for n in weights.shape)
    for _ in range(sweeps):
        right = _ranks(left @ weights / np.maximum(weights.sum(0), 1e-12))
        left = _ranks(weights @ right / np.maximum(weights.sum(1), 1e-12))
    return left, right


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"))


def node_positions(graph: nx.DiGraph) -> dict[Node, tuple[float, float]]:
    """x = 0 for inputs and 1 for outputs, y from 1 (top) to 0 in an order with few crossings; node -> (x, y)."""
    sides = [sorted(node for node, layer in graph.nodes(data="layer") if layer == side) for side in (0, 1)]
    weights = nx.bipartite.biadjacency_matrix(graph, *sides, weight="effect").toarray()
    return {node: (float(x), 1 - (rank + 0.5) / len(side)) for x, (side, ranks) in
            enumerate(zip(sides, order_sides(weights), strict=True)) for node, rank in zip(side, ranks, strict=True)}


def bipartite(
    graph: nx.DiGraph, images: Mapping[Node, np.ndarray], labels: Mapping[Node, str], titles: tuple[str, str]
) -> Figure:
    """Inputs left, outputs right; every node its image, every edge a curve as thick as its effect is large.

    Args:
        graph: from `graph.build`.
        images: node -> [height, width], drawn in a signed scale of its own.
        labels: node -> short text beside it.
        titles: over the left and the right column.
    """
    at = node_positions(graph)
    counts = [sum(layer == side for _, layer in graph.nodes(data="layer")) for side in (0, 1)]
    fig, ax = style.figure(aspect=min(1.35, max(0.5, 0.045 * max(counts) + 0.1)))
    ax.set(xlim=(-0.2, 1.32), ylim=(-0.01, 1.06))
    ax.set_axis_off()
    largest = max((abs(e) for _, _, e in graph.edges(data="effect")), default=1.0)
    for a, b, edge in sorted(graph.edges(data=True), key=_size):
        _curve(ax, at[a], at[b], edge, largest)
    width, height = fig.get_size_inches()
    tall = [min(0.92 / max(1, n), limit) for n, limit in zip(counts, (0.085, 0.16), strict=True)]  # of the axes' height
    for node, (x, y) in at.items():
        side = int(x)
        wide = tall[side] * 1.07 * height * 1.52 / width
        left, low = x - wide * (side == 0), y - tall[side] / 2
        ax.imshow(images[node], cmap=style.DIVERGING, **style.symmetric_limits(images[node]), aspect="auto", zorder=3,
                  extent=(left, left + wide, low, low + tall[side]))
        beside = left - 0.015 if side == 0 else left + wide + 0.015
        ax.text(beside, y, labels[node], ha="right" if side == 0 else "left", va="center", fontsize=8.5)
    for x, title in enumerate(titles):
        ax.text(x, 1.02, title, ha="right" if x == 0 else "left", va="bottom", fontsize=9.5)
    for x, text, color, ha in ((0.5, "raises", POSITIVE, "right"), (0.53, "lowers", NEGATIVE, "left")):
        ax.text(x, 1.02, text, color=color, ha=ha, va="bottom", fontsize=9.5)
    fig.numbers = pd.DataFrame([
        (" ".join(labels[a].split()), " ".join(labels[b].split()), edge["effect"], edge["significant"])
        for a, b, edge in graph.edges(data=True)], columns=("input", "output", "effect", "significant"))
    return fig


def _size(edge: tuple) -> float:
    return abs(edge[2]["effect"])


def _curve(ax: Axes, start: tuple[float, float], end: tuple[float, float], edge: dict, largest: float) -> None:
    share = abs(edge["effect"]) / largest
    points = [start, (0.4, start[1]), (0.6, end[1]), end]
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    ax.add_patch(PathPatch(path, facecolor="none", edgecolor=POSITIVE if edge["effect"] > 0 else NEGATIVE,
                           linewidth=0.4 + 3 * share, alpha=0.25 + 0.65 * share, zorder=1,
                           linestyle="-" if edge["significant"] else ":"))


def explorer(graph: nx.DiGraph, labels: Mapping[Node, str]) -> go.Figure:
    """The same graph to point at: each edge tells the output's mean with and without the input, n and the interval.

    Args:
        graph, labels: as in `bipartite`.
    """
    at, fig = node_positions(graph), go.Figure()
    largest = max((abs(e) for _, _, e in graph.edges(data="effect")), default=1.0)
    dots: dict[str, list] = {"x": [], "y": [], "text": [], "color": []}
    for number, (a, b, edge) in enumerate(graph.edges(data=True)):
        color = POSITIVE if edge["effect"] > 0 else NEGATIVE
        x, y = _points(at[a], at[b])
        fig.add_scatter(x=x, y=y, mode="lines", hoverinfo="skip", opacity=0.6,
                        line={"color": color, "width": round(0.5 + 4 * abs(edge["effect"]) / largest, 2)})
        dot = len(x) // 4 + number % (len(x) // 2)  # spread along the edges, so that few dots hide others
        dots["x"].append(x[dot])
        dots["y"].append(y[dot])
        dots["color"].append(color)
        dots["text"].append(
            f"component {a[1]} → component {b[1]}<br>effect {edge['effect']:.2f} [{edge['low']:.2f}, "
            f"{edge['high']:.2f}]<br>mean with it {edge['on']:.2f}, without {edge['off']:.2f}<br>n = {edge['n']} images"
        )
    fig.add_scatter(x=dots["x"], y=dots["y"], mode="markers", text=dots["text"], hoverinfo="text",
                    marker={"size": 9, "color": dots["color"], "line": {"width": 1, "color": style.PAPER}})
    for side, beside in ((0, "middle left"), (1, "middle right")):
        nodes = [node for node in at if at[node][0] == side]
        fig.add_scatter(x=[side] * len(nodes), y=[at[n][1] for n in nodes], mode="markers+text", hoverinfo="text",
                        text=[labels[n] for n in nodes], textposition=beside,
                        marker={"size": 9, "color": style.INK})
    hidden = {"visible": False}
    fig.update_layout(
        height=620, showlegend=False, margin={"l": 10, "r": 10, "t": 10, "b": 10}, hovermode="closest",
        xaxis={**hidden, "range": [-0.3, 1.4]}, yaxis=hidden, plot_bgcolor=style.PAPER,
        meta={"alt": "Input components left, output components right; dots on the edges tell the effect."},
    )
    return fig


def _points(start: tuple[float, float], end: tuple[float, float], n: int = 21) -> tuple[list[float], list[float]]:
    """A smooth step from start to end."""
    t = np.linspace(0, 1, n)
    y = start[1] + (end[1] - start[1]) * (3 * t**2 - 2 * t**3)
    return np.round(t, 3).tolist(), np.round(y, 4).tolist()
