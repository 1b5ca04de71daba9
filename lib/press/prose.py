"""Numbers that a chapter's prose quotes: glued under a name, so that no figure is ever typed by hand."""
from __future__ import annotations

from myst_nb import glue

from lib.metrics.statistics import Interval


def tell(**values: float | str | Interval) -> None:
    """Glue every value under its name; an Interval also under `name_low` and `name_high`.

    In the page: `{glue:text}`name:.2f``.

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
