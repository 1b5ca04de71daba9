"""The interactive cortical sheets: hover a unit and read its tuning curve over classes."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lib.figures import style
from lib.studies.topoloss_hypotheses.figures import preference_image

_BAR = 14  # blocks in the longest bar of a tuning curve


def sheet_explorer(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]], tuning: Mapping[str, np.ndarray], classes: Sequence[str],
    full: float,
) -> go.Figure:
    """Sheets of one seed, two in a line; a unit's box shows its response to each class as bars.

    Args:
        rows: label -> (preferred class, ints [h, w]; selectivity [h, w]); classes, full: as in `cortical_sheets`.
        tuning: label -> mean response of each unit to each class, [n_classes, h, w].
    """
    height, width = next(iter(rows.values()))[0].shape
    lines = -(-len(rows) // 2)
    fig = make_subplots(lines, 2, subplot_titles=list(rows), vertical_spacing=0.16 / lines, horizontal_spacing=0.03)
    for place, (label, (preferred, selectivity)) in enumerate(rows.items()):
        image = np.rint(255 * preference_image(preferred, selectivity, len(classes), full)).astype(np.uint8)
        text = [[_curve(tuning[label][:, i, j], classes, i * width + j, selectivity[i, j]) for j in range(width)]
                for i in range(height)]
        fig.add_trace(go.Image(z=image, hovertext=text, hoverinfo="text"), place // 2 + 1, place % 2 + 1)
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False)
    fig.update_layout(
        height=int(50 + lines * (40 + 350 * height / width)), margin={"l": 10, "r": 10, "t": 40, "b": 10},
        hoverlabel={"font": {"family": "monospace", "color": style.INK}, "bgcolor": style.PAPER, "align": "left"},
        meta={"alt": "Units on their sheets, coloured by preferred class; hovering shows a unit's response per class."},
    )
    return fig


def _curve(response: np.ndarray, classes: Sequence[str], unit: int, selectivity: float) -> str:
    """A unit's responses as lines of text with bars, the largest response the longest."""
    longest = max(float(np.abs(response).max()), 1e-12)
    order = range(len(classes)) if len(classes) <= 12 else np.argsort(-response)[:12]
    name = max(len(classes[c]) for c in order)
    bars = {c: "█" * round(_BAR * max(0.0, float(response[c]) / longest)) for c in order}
    lines = [f"{classes[c]:\u00a0<{name}} {bars[c]} {response[c]:.2f}" for c in order]
    return "<br>".join([f"place {unit}, contrast {selectivity:.2f}", *lines])
