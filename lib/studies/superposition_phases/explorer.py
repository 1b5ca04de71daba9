"""An interactive figure: features in hidden space, 2-D and 3-D, under a sparsity slider."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.figures import style


def geometry_explorer(plane: Mapping[str, np.ndarray], space: Mapping[str, np.ndarray]) -> go.Figure:
    """Each feature a line from the origin; the slider changes the sparsity of both models at once.

    Args:
        plane: sparsity [S], W [S, 2, n], D [S, n]; space: the same sparsity, W [S, 3, n], D [S, n].
    """
    if not np.array_equal(plane["sparsity"], space["sparsity"]):
        raise ValueError("the two models must share their sparsities")
    kinds = [[{"type": "xy"}, {"type": "scene"}]]
    names = [_name(plane["W"]), _name(space["W"])]
    fig = make_subplots(1, 2, specs=kinds, subplot_titles=names, horizontal_spacing=0.04)
    steps = []
    for s, sparsity in enumerate(plane["sparsity"]):
        flat, solid = _lines(plane["W"][s], plane["D"][s]), _lines(space["W"][s], space["D"][s])
        shown = s == len(plane["sparsity"]) - 1
        fig.add_trace(go.Scatter(x=flat[0][0], y=flat[0][1], visible=shown, **flat[1]), 1, 1)
        x, y, z = solid[0]
        fig.add_trace(go.Scatter3d(x=x, y=y, z=z, visible=shown, **solid[1]), 1, 2)
        visible = [i // 2 == s for i in range(2 * len(plane["sparsity"]))]
        steps.append({"method": "update", "label": f"{sparsity:g}", "args": [{"visible": visible}]})
    slider = {"steps": steps, "active": len(steps) - 1, "currentvalue": {"prefix": "sparsity S = "}, "pad": {"t": 30}}
    axis = {"range": [-1.4, 1.4], "title": None, "zeroline": False}
    cube = {"aspectmode": "cube", **dict.fromkeys(("xaxis", "yaxis", "zaxis"), axis)}
    fig.update_layout(
        sliders=[slider], height=460, showlegend=False, margin={"l": 30, "r": 10, "t": 40, "b": 10}, scene=cube,
        xaxis=axis, yaxis={**axis, "scaleanchor": "x"},
        meta={"alt": "Features as arrows in two and three hidden dimensions; the slider changes sparsity."},
    )
    return fig


def _name(W: np.ndarray) -> str:
    return f"{W.shape[2]} features in {W.shape[1]} dimensions"


def _lines(W: np.ndarray, D: np.ndarray) -> tuple[list[list[float | None]], dict]:
    """Coordinates of origin -> W_i -> gap for every feature, and how to draw them."""
    coordinates = [[value for w in row for value in (0.0, round(float(w), 4), None)] for row in W]
    text = [t for i, d in enumerate(D) for t in ("", f"feature {i}<br>D = {d:.2f}<br>|W| = {_length(W, i):.2f}", "")]
    look = {"mode": "lines+markers", "line": {"color": style.BLUE, "width": 4}, "text": text, "hoverinfo": "text",
            "marker": {"size": [0, 9, 0] * len(D), "color": style.ORANGE}}
    return coordinates, look


def _length(W: np.ndarray, feature: int) -> float:
    return float(np.linalg.norm(W[:, feature]))
