"""Every chapter has one explorer cell, and each end of its knobs is drawn while a reader waits."""
from __future__ import annotations

import ast
import importlib
import time

import jupytext
import layout
import pytest
from matplotlib.figure import Figure

from lib.files import ROOT
from lib.params import load

LONGEST = 3.0
"""CPU-seconds of a turn."""


def explorers(slug: str) -> list[str]:
    """Source of every call of `explore` in a chapter, the cell with its imports first."""
    cells = jupytext.read(ROOT / "book" / "studies" / f"{slug}.md", fmt="md:myst").cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    calls = [node for source in code for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return code[:1] + [ast.unparse(call) for call in calls if ast.unparse(call.func) == "explore"]


@pytest.mark.parametrize("slug", layout.slugs(ROOT))
def test_a_chapter_has_one_explorer_and_draws_each_end_of_its_knobs_at_once(slug, build):
    imports, call = explorers(slug)
    study = importlib.import_module(f"lib.studies.{slug}.protocol")
    asked = {"params": load(study.Params, ROOT / "params" / slug / "smoke.yaml")}
    exec(imports, asked)
    turned: list = []
    exec(call, asked | {"explore": lambda draw, *args, **knobs: turned.append((draw, args, knobs))})
    [(draw, args, knobs)] = turned
    drawn, seconds = [], []
    for end in (0, -1):
        start = time.process_time()
        drawn.append(draw(*args, **{name: values[end] for name, values in knobs.items()}))
        seconds.append(time.process_time() - start)
    assert all(isinstance(figure, Figure) for figure in drawn)
    assert seconds[1] < LONGEST, f"a turn takes {seconds[1]:.1f} CPU-seconds"  # the first imports and warms up, too
