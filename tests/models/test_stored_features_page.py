"""The page of what toy models store: no parameters, numbers quoted, checks that can fail, cells that fit."""
import ast
import re

import jupytext
import pytest

from lib.files import ROOT
from lib.press.pages import find_page

PAGE = ROOT / "book" / "instruments" / "stored_features.md"


@pytest.fixture(scope="module")
def cells():
    return [cell for cell in jupytext.read(PAGE).cells if cell.cell_type == "code"]


def test_it_is_an_instrument_and_stands_in_the_contents():
    page = find_page("instruments/stored_features")
    assert not page.is_study and page.profiles() == []
    assert "file: instruments/stored_features" in (ROOT / "book" / "_toc.yml").read_text(encoding="utf-8")


def test_cells_fit_the_column_and_asserts_stand_in_check_cells(cells):
    assert not [line for cell in cells for line in cell.source.splitlines() if len(line) > 88]
    asserts = {}
    for number, cell in enumerate(cells):
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
        assert not found or "check" in cell.metadata["tags"], cell.source
        asserts |= {(number, node.lineno): node.msg for node in found}
    assert len(asserts) >= 10 and all(asserts.values())


def test_every_figure_says_its_finding_and_every_section_has_a_check(cells):
    text = PAGE.read_text(encoding="utf-8")
    captions = re.findall(r"caption: \|\n +(.*)", text)
    assert len(captions) == 6 and all(caption.startswith("**") for caption in captions)
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 6 and all(":tags: [check]" in section for section in sections)


def test_what_prose_quotes_is_a_name_of_the_cells(cells):
    quoted = set(re.findall(r"\{glue:text\}`(\w+)", PAGE.read_text(encoding="utf-8")))
    stored = {node.id for cell in cells for node in ast.walk(ast.parse(cell.source))
              if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert quoted and quoted <= stored
    assert cells[-1].source == "quote(globals())"
