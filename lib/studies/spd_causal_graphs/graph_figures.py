"""A causal graph of components: two columns of thumbnails with signed edges, and its interactive twin."""
from __future__ import annotations

from collections.abc import Mapping

import networkx as nx
import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from lib.figures import style
from lib.studies.spd_causal_graphs.crossings import order_sides

Node = tuple[str, int]
POSITIVE, NEGATIVE = style.BLUE, style.ORANGE


def node_positions(graph: nx.DiGraph) -> dict[Node, tuple[float, float]]:
    """x = 0 for inputs and 1 for outputs, y from 1 (top) to 0 in an order with few crossings; node -> (x, y)."""
    sides = [[node for node, layer in graph.nodes(data="layer") if layer == side] for side in (0, 1)]
    weights = np.zeros([len(side) for side in sides])
    for a, b, effect in graph.edges(data="effect"):
        weights[sides[0].index(a), sides[1].index(b)] = effect
    orders = order_sides(weights)
    found = {}
    for x, (side, order) in enumerate(zip(sides, orders, strict=True)):
        for rank, index in enumerate(order):
            found[side[index]] = (float(x), 1 - (rank + 0.5) / len(side))
    return found


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
    tall = [min(0.92 / max(1, n), 0.085) for n in counts]  # of the axes' height
    for node, (x, y) in at.items():
        side = int(x)
        wide = tall[side] * 1.07 * height * 1.52 / (1.0 * width)
        left = x - wide if side == 0 else x
        low = y - tall[side] / 2
        ax.imshow(images[node], cmap=style.DIVERGING, **style.symmetric_limits(images[node]), aspect="auto", zorder=3,
                  extent=(left, left + wide, low, low + tall[side]))
        beside = left - 0.015 if side == 0 else left + wide + 0.015
        ax.text(beside, y, labels[node], ha="right" if side == 0 else "left", va="center", fontsize=7.5)
    for x, title in enumerate(titles):
        ax.text(x, 1.02, title, ha="right" if x == 0 else "left", va="bottom", fontsize=9.5)
    ax.text(0.5, 1.02, "raises", color=POSITIVE, ha="right", va="bottom", fontsize=9.5)
    ax.text(0.53, 1.02, "lowers", color=NEGATIVE, ha="left", va="bottom", fontsize=9.5)
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
