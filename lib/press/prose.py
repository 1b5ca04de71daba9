"""How a chapter begins, and the numbers its prose quotes: glued under a name, so that none is typed by hand."""
from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
from myst_nb import glue

from lib.metrics.statistics import Interval
from lib.params import Params, from_cell
from lib.press.ledger import Ledger
from lib.rng import numpy_generator

QUOTABLE = (int, float, str, Interval, np.number, np.bool_)


def begin(protocol: ModuleType, namespace: Mapping[str, Any]) -> tuple[Params, np.random.Generator, Ledger]:
    """What every chapter needs after its parameters cell: `params, rng, ledger = begin(study, globals())`.

    Args:
        protocol: the study's module `protocol`, which has its Params.
    Returns:
        The checked parameters; the stream of the chapter's own draws; an empty ledger.
    Raises:
        ParameterError: a value injected by hand is not what the field accepts, or has a name that no field has.
    """
    slug = protocol.__name__.split(".")[-2]
    params = from_cell(protocol.Params, namespace, injected(namespace.get("In", ())))
    return params, numpy_generator(params.seed, slug, "intervals"), Ledger(slug, params)


def injected(cells: Iterable[str]) -> set[str]:
    """Names that papermill's own cells assign, among the code cells run so far; papermill takes any name there."""
    trees = [ast.parse(cell) for cell in cells if cell.startswith("# Parameters\n")]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Store)}


def quote(namespace: Mapping[str, Any]) -> None:
    """Let the prose quote every number, text and Interval of a notebook: `quote(globals())`, once, in the last cell.

    In the page: `{glue:text}`name:.2f``, and for an Interval `{ci}`name:.2f``, its value with the ends.
    """
    tell(**{name: value for name, value in namespace.items() if name[0] != "_" and isinstance(value, QUOTABLE)})


def tell(**values: float | str | Interval) -> None:
    """Glue every value under its name; an Interval also under `name_low` and `name_high`.

    Args:
        values: numbers (NumPy's become Python's, so that formats apply), texts or Intervals.
    Raises:
        TypeError: a value is none of these.
    """
    for name, value in values.items():
        keys = (name, f"{name}_low", f"{name}_high") if isinstance(value, Interval) else (name,)
        for key, part in zip(keys, value if len(keys) == 3 else (value,), strict=True):
            part = part.item() if hasattr(part, "item") else part
            if not isinstance(part, (int, float, str)):
                raise TypeError(f"{key}: prose can quote a number, a text or an Interval, got {type(part).__name__}")
            glue(key, part, display=False)
