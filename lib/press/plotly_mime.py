"""Plotly figures in the book without the network: the page carries the figure as JSON, one local script draws it.

Registered under the entry point group `myst_nb.mime_renderers`; `book/_static/plotly-init.js` is the other half.
"""
from __future__ import annotations

import html
import json
from typing import Any, ClassVar

from docutils import nodes

MIME = "application/vnd.plotly.v1+json"


class PlotlyMime:
    """MyST-NB renderer of one plotly figure: a `<div>` that holds its JSON until the page's script draws it.

    The figure is named for screen readers by `layout.meta["alt"]`, else by its title.
    """

    mime_priority_overrides: ClassVar[list[tuple[str, str, int | None]]] = [("*", MIME, 1)]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """The nodes for `data` (a MyST-NB MimeData), or None to leave another mime type to other renderers."""
        if inline or data.mime_type != MIME:
            return None
        figure = data.content if isinstance(data.content, dict) else json.loads(data.content)
        return [nodes.raw(text=figure_html(figure), format="html", classes=["output", "text_html"])]


def figure_html(figure: dict[str, Any]) -> str:
    """HTML for a plotly figure given as {"data": [...], "layout": {...}}; the JSON cannot close the script early."""
    layout = figure.get("layout", {})
    kept = {"data": figure.get("data", []), "layout": layout, "frames": figure.get("frames", [])}
    payload = json.dumps(kept, separators=(",", ":")).replace("<", "\\u003c")
    label = html.escape(_label(layout), quote=True)
    return (
        f'<div class="plotly-figure" role="group" tabindex="0" aria-label="{label}" '
        f'style="min-height:{int(layout.get("height") or 450)}px">'
        f'<script type="application/json">{payload}</script>'
        "<noscript>This interactive figure needs JavaScript; its static twin shows the same data.</noscript>"
        "</div>"
    )


def _label(layout: dict[str, Any]) -> str:
    title = layout.get("title") or {}
    words = (layout.get("meta") or {}).get("alt") or (title.get("text") if isinstance(title, dict) else title)
    keys = "Arrow keys move the view, plus and minus zoom, 0 resets."
    return f"Interactive figure{f': {words}' if words else ''}. {keys}"
