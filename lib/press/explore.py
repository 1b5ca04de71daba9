"""A chapter's explorer: sliders over a function that draws, where a reader sits at the notebook; nothing elsewhere.

JupyterLab's server tells the kernel of a notebook that it opens the notebook's name, in JPY_SESSION_NAME. The press's
kernels and nbval's have none: there the cell shows nothing, and ipywidgets is not imported.
"""
from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any

SESSION = "JPY_SESSION_NAME"
PAUSE = 0.1
"""Seconds without another turn after which the figure is drawn, so that of many turns only the last is."""


def explore(draw: Callable[..., Any], *args: Any, **knobs: Sequence[Any]) -> None:
    """Show `draw(*args, **values)` under a slider per knob, a menu where its values are texts; draw anew at a turn.

    Args:
        draw: returns a Figure of Matplotlib or plotly; if it raises, one line takes the figure's place.
        args: what it is always given; knobs: name -> the values it may have, the first of which is drawn to begin with.
    """
    if SESSION not in os.environ:
        return
    from IPython.core.formatters import format_display_data
    from IPython.display import display
    from ipywidgets import Dropdown, Output, SelectionSlider, VBox

    def knob(name: str, values: Sequence[Any]) -> Dropdown | SelectionSlider:
        kind, own = (Dropdown, {}) if isinstance(values[0], str) else (SelectionSlider, {"continuous_update": False})
        options = [(str(value), value) for value in values]
        return kind(options=options, description=name.replace("_", " "), style={"description_width": "10em"}, **own)

    widgets, shown, waiting = {name: knob(name, values) for name, values in knobs.items()}, Output(), []

    def redraw() -> None:
        try:
            figure = draw(*args, **{name: widget.value for name, widget in widgets.items()})
            data, metadata = format_display_data(figure)
            output = {"output_type": "display_data", "data": data, "metadata": metadata}
        except Exception as error:  # the reader turns on; the cell stays
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            output = {"output_type": "stream", "name": "stderr", "text": text}
        shown.outputs = (output,)

    def turned(_: Any) -> None:
        while waiting:
            waiting.pop().cancel()
        waiting.append(asyncio.get_running_loop().call_later(PAUSE, redraw))

    for widget in widgets.values():
        widget.observe(turned, "value")
    display(VBox([*widgets.values(), shown]))
    redraw()
