"""The file of a dashboard: data and script in one page that opens from a folder and asks the network for nothing."""
from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.activations.language import TokenSite
from lib.dashboard.records import Shown, records
from lib.files import place_for_file, write_text
from lib.models.causal_lm import CausalLM
from lib.sparse_coders import SparseCoder

if TYPE_CHECKING:
    from IPython.display import HTML

TEMPLATE = Path(__file__).with_name("page.html")
_UNSAFE = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
"""What could end a script or begin a tag, as JSON may write it."""


def dashboard(
    coder: SparseCoder, model: CausalLM, texts: Sequence[str], site: str | TokenSite,
    path: str | Path = "dashboard.html", *, latents: Sequence[int] | None = None, title: str = "Latents on texts",
    **shown: int,
) -> Path:
    """Write a page of a coder's latents: search by number or token, strongest contexts, logit lens, neighbours.

    Args:
        coder: any rule, trained at the site.
        model: a `CausalLM` with a tokenizer; yours is one with its parts in place.
        site: the module whose output the coder reads ("blocks.1"), or a `TokenSite`.
        path: of the page, which is written whole or not at all.
        latents: those to show; None: all that fire, which makes some 2 KB each.
        shown: options of `Shown`.
    Returns:
        path.
    Raises:
        ValueError: coder, model, site and texts do not fit together; says what does not.
    """
    options, path = Shown(**shown), place_for_file(path)
    return write_text(path, page(records(coder, model, texts, site, latents, options), title))


def page(data: Mapping[str, Any], title: str) -> str:
    """The page of such data (`records`), as text; nothing in it is read as HTML."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_UNSAFE)
    parts = {"title": html.escape(title), "data": text}
    return re.sub(r"\{(title|data)\}", lambda name: parts[name[1]], TEMPLATE.read_text(encoding="utf-8"))


def embedded(path: str | Path, height: int = 720) -> HTML:
    """A written page as what a cell shows, in JupyterLab and in a built page: a frame of its own, with its data."""
    from IPython.display import HTML

    text = html.escape(Path(path).read_text(encoding="utf-8"))
    style = f"width:100%;height:{int(height)}px;border:0"
    return HTML(f'<div><iframe title="dashboard" srcdoc="{text}" style="{style}"></iframe></div>')
