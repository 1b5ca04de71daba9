"""The page of parameter decomposition: its six lines run as printed, its equations have labels, its cells fit."""
import re

import jupytext
import pytest

from lib.files import ROOT

PAGE = ROOT / "book" / "instruments" / "spd.md"


@pytest.fixture(scope="module")
def cells():
    return [cell for cell in jupytext.read(PAGE).cells if cell.cell_type == "code"]


def test_six_lines_run_as_printed(cells):
    (cell,) = [cell for cell in cells if "six-lines" in cell.metadata.get("tags", [])]
    assert len(cell.source.splitlines()) == 6
    names: dict = {}
    exec(cell.source, names)
    importance = names["importance"]
    assert importance.shape == (256, 8) and 0 <= importance.min() and importance.max() <= 1
    assert names["result"].history.loss.notna().all()


def test_every_equation_is_labelled_once_and_what_the_prose_needs_is_there():
    text = PAGE.read_text(encoding="utf-8")
    labels = re.findall(r":label: (\S+)", text)
    assert len(labels) == len(set(labels)) == len(re.findall(r"^```\{math\}", text, re.MULTILINE))
    assert set(re.findall(r"\{eq\}`([^`]+)`", text)) <= set(labels)


def test_cells_fit_the_column_and_numbers_are_glued(cells):
    assert not [line for cell in cells for line in cell.source.splitlines() if len(line) > 88]
    told = {name for cell in cells for call in re.findall(r"tell\((.*)\)$", cell.source, re.M)
            for name in re.findall(r"(\w+)=", call)}
    assert set(re.findall(r"\{(?:glue:text|ci)\}`(\w+)", PAGE.read_text(encoding="utf-8"))) == told
