"""The dashboard: choose a component and see what it is needed on, in a page without a kernel as in a notebook."""
from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.subplots import make_subplots

from lib.figures import style
from lib.studies.shapes_and_colours import anova
from lib.studies.shapes_and_colours.common import ATTRIBUTES

_GAP = 2


def explorer(
    layers: Mapping[str, Mapping[str, np.ndarray]], images: np.ndarray, levels: Sequence[Sequence[str]],
    first: tuple[str, int] = ("fc2", 0),
) -> go.Figure:
    """One component at a time, chosen from a menu: images, mean importance by level, histogram of importances.

    Args:
        layers: as `gallery.pictures` gives them; images: uint8 [n, H, W, 3], which they number.
        levels: names of the levels of each attribute; first: layer and rank of the component shown before a choice.
    """
    names = [name for some in levels for name in some]
    counts = [len(some) for some in levels]
    each = {_name(site, layer, i): _traces(layer, i, images, names, counts)
            for site, layer in layers.items() for i in range(len(layer["component"]))}
    chosen = _name(first[0], layers[first[0]], first[1])
    titles = ("images it matters on most", "images with the largest |activation|", "mean importance by level",
              "importances over images")
    fig = make_subplots(2, 2, subplot_titles=titles, row_heights=(0.34, 0.66), vertical_spacing=0.14,
                        horizontal_spacing=0.12)
    for place, trace in enumerate(each[chosen]):
        fig.add_trace(trace, place // 2 + 1, place % 2 + 1)
    fig.frames = [go.Frame(name=name, data=traces, traces=[0, 1, 2, 3]) for name, traces in each.items()]
    fig.update_xaxes(visible=False, row=1)
    fig.update_yaxes(visible=False, row=1)
    fig.update_yaxes(range=(0, 1), row=2, col=1)
    fig.update_yaxes(title_text="share of images", type="log", range=(-3.6, 0.1), row=2, col=2)
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    buttons = [{"label": name, "method": "animate", "args": [[name], at_once]} for name in each]
    menu = {"buttons": buttons, "active": list(each).index(chosen), "x": 0, "xanchor": "left", "y": 1.27,
            "yanchor": "top", "font": {"color": style.BLUE}, "bgcolor": style.PAPER, "pad": {"l": 0, "t": 0}}
    fig.update_layout(
        showlegend=False, height=560, margin={"l": 50, "r": 12, "t": 110, "b": 60}, bargap=0.1, updatemenus=[menu],
        meta={"alt": "A component of the decomposition, chosen from the menu: the images it matters on most, those "
                     "with its largest activation, its mean importance by level, and how it is spread over images."})
    return fig


def _traces(
    layer: Mapping[str, np.ndarray], i: int, images: np.ndarray, names: Sequence[str], counts: Sequence[int]
) -> list[go.Image | go.Bar]:
    """The four parts of one component's picture."""
    table = layer["means"][:, i].reshape(counts)
    by_level = [table.mean(axis=tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    strips = [go.Image(source=_strip(images[layer[which][i]]), hoverinfo="skip")
              for which in ("by_importance", "by_activation")]
    spread = layer["histogram"][i].round(5)
    middles = (np.arange(len(spread)) + 0.5) / len(spread)
    bars = [(list(names), np.concatenate(by_level).round(4), "%{x}: %{y:.2f}"),
            (middles.round(4).tolist(), spread, "about %{x}: %{y:.3f} of images")]
    return strips + [go.Bar(x=x, y=y.tolist(), marker={"color": style.BLUE}, hovertemplate=f"{text}<extra></extra>")
                     for x, y, text in bars]


def _name(site: str, layer: Mapping[str, np.ndarray], i: int) -> str:
    """A component in the menu: its layer and number, and what the records have of it."""
    share, kind = float(layer["shares"][i].max()), ATTRIBUTES[int(layer["shares"][i].argmax())]
    return (f"{site} {layer['component'][i]}: on in {layer['frequency'][i]:.1%} of images, "
            f"{share:.0%} of its variance in {kind}{', an atom' if share >= anova.ATOMIC else ''}")


def _strip(images: np.ndarray) -> str:
    """Images in two rows as one JPEG, a data URI that needs no request."""
    rows = []
    for part in np.array_split(images, 2):
        framed = [np.pad(one, ((_GAP,) * 2, (_GAP,) * 2, (0, 0)), constant_values=255) for one in part]
        rows.append(np.hstack(framed))
    file = io.BytesIO()
    Image.fromarray(np.vstack(rows)).resize((3 * rows[0].shape[1], 6 * rows[0].shape[0]), Image.NEAREST).save(
        file, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
