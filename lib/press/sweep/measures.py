"""The numbers of an executed chapter: what its prose quotes, and what its claims came to."""
from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from lib.press.sweep.plan import NUMBERS

QUOTED = "application/papermill.record/text/plain"
"""Under which myst_nb keeps a value that a chapter glues."""


def measured(
    notebook: Mapping[str, Any], results: Mapping[str, Any] | None, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Numbers and texts by name: quoted ones apart from the parameters, and `<claim>.word`, `.value`, `.low`, ...

    Args:
        notebook: an executed chapter, as JSON.
        results: its ledger's records.
        values: its parameters, which it may quote as well.
    """
    found = {name: value for name, value in _quoted(notebook) if name not in values}
    for record in (results or {}).get("records", []):
        found |= {f"{record['claim_id']}.{name}": value for name, value in _of_record(record).items()}
    return dict(sorted(found.items()))


def _quoted(notebook: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            glued = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = "".join(output.get("data", {}).get(QUOTED, []))
            if glued and text:
                value = _plain(text)
                if value is not None:
                    yield glued, value


def _plain(text: str) -> Any:
    """A number or text from its repr; None for nan and the infinities, which say that there is no number."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    part = record["parts"][record["deciding"]] if record["parts"] else {}
    estimate, excess = part.get("estimate") or {}, part.get("excess") or {}
    return {"word": record["word"], **{name: estimate.get(name) for name in NUMBERS[:3]}, "excess": excess.get("value")}
