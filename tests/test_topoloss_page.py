"""The page of the topographic loss: its six lines run as printed, its equations have labels, its cells fit."""
import re

import jupytext
import pytest
import torch

from lib.files import ROOT

PAGE = ROOT / "book" / "instruments" / "topoloss.md"


@pytest.fixture(scope="module")
def cells():
    return [cell for cell in jupytext.read(PAGE).cells if cell.cell_type == "code"]


def test_six_lines_run_as_printed(cells):
    (cell,) = [cell for cell in cells if "six-lines" in cell.metadata.get("tags", [])]
    assert len(cell.source.splitlines()) == 6
    names: dict = {}
    with torch.random.fork_rng():
        exec(cell.source, names)
    layer = names["model"][0]
    assert layer.weight.grad.shape == (384, 64) and (layer.weight.grad * layer.weight).sum().abs() < 1e-5
    assert 0.9 < float(names["by_layer"]["0"]) < 1 and names["model"][2].weight.grad is None


def test_every_equation_the_prose_needs_is_labelled_once():
    text = PAGE.read_text(encoding="utf-8")
    labels = re.findall(r":label: (\S+)", text)
    assert len(labels) == len(set(labels)) == len(re.findall(r"^```\{math\}", text, re.MULTILINE))
    assert set(re.findall(r"\{eq\}`([^`]+)`", text)) <= set(labels)


def test_cells_fit_the_column_and_numbers_are_glued(cells):
    assert not [line for cell in cells for line in cell.source.splitlines() if len(line) > 88]
    told = {name for cell in cells if "tell(" in cell.source for name in re.findall(r"^    (\w+)=", cell.source, re.M)}
    used = set(re.findall(r"\{glue:text\}`(\w+)", PAGE.read_text(encoding="utf-8")))
    assert used == told | {"blend", "random"}  # told as **cost


def test_every_finding_is_checked(cells):
    figures = [cell for cell in cells if "mystnb" in cell.metadata]
    checks = [cell for cell in cells if "check" in cell.metadata.get("tags", [])]
    assert len(figures) == 4 and len(checks) >= 5 and all("assert" in cell.source for cell in checks)
