"""The page of sparse coders: its six lines run as printed, and no rule of the library is left out."""
import re

import jupytext
import numpy as np
import pytest

from lib.files import ROOT
from lib.sparse_coders import FitResult, load
from lib.sparse_coders.rule import RULES

PAGE = ROOT / "book" / "instruments" / "sparse_coders.md"


@pytest.fixture(scope="module")
def cells():
    return [cell for cell in jupytext.read(PAGE).cells if cell.cell_type == "code"]


def test_six_lines_run_as_printed(cells, tmp_path):
    (cell,) = [cell for cell in cells if "six-lines" in cell.metadata.get("tags", [])]
    assert len(cell.source.splitlines()) == 6
    names: dict = {}
    exec(cell.source, names)
    assert isinstance(names["result"], FitResult) and names["result"].metrics["fvu"] < 1
    assert names["latents"].shape == (8192, 64) and names["recons"].shape == (8192, 16)
    assert ((names["latents"] != 0).sum(1) <= 4).all()
    again = load(names["coder"].save(tmp_path / "coder.safetensors"))
    assert np.array_equal(again(names["activations"]).detach(), names["recons"].detach())


def test_every_rule_is_trained_and_has_an_equation(cells):
    text, code = PAGE.read_text(encoding="utf-8"), "\n".join(cell.source for cell in cells)
    for rule in RULES:
        assert re.search(rf':label: eq-{rule.replace("_", "-")}\b', text), f"{rule} has no labelled equation"
        assert re.search(rf'train\("[^"]+", "{rule}"', code), f"{rule} is not trained"
    for extra in ("eq-multi-input", "eq-transcoder", "eq-jumprelu-penalties"):
        assert f":label: {extra}" in text


def test_cells_fit_the_column(cells):
    wide = [line for cell in cells for line in cell.source.splitlines() if len(line) > 88]
    assert not wide
