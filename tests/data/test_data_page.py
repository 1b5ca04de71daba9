"""The page of the data: no data set is left out, and it is the same where nothing was fetched and nothing can be."""
import re

import jupytext
import numpy as np
import pytest
from matplotlib.figure import Figure

from lib import files
from lib.data.registry import datasets
from lib.figures.contact_sheet import contact_sheet

PAGE = files.ROOT / "book" / "instruments" / "data.md"


@pytest.fixture(scope="module")
def cells():
    return [cell for cell in jupytext.read(PAGE).cells if cell.cell_type == "code"]


@pytest.fixture
def names(cells, tmp_path, monkeypatch):
    """What the page's cells leave behind, run offline with an empty cache."""
    monkeypatch.setattr(files, "BUILD", tmp_path / "build")
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    found: dict = {}
    for cell in cells:
        exec(cell.source, found)
    return found


def test_it_runs_offline_and_leaves_the_cache_as_it_was(names, tmp_path, capsys):
    assert not (tmp_path / "build").exists()
    assert isinstance(names["sheet"](names["digits"]), Figure)


def test_every_data_set_has_its_section_and_its_facts(names):
    text = PAGE.read_text(encoding="utf-8")
    for name, data in datasets().items():
        section = re.search(rf"^\(data-{name.replace('_', '-')}\)=\n##+ {re.escape(data.title)}\n(.*?)(?=^\(data-|\Z)",
                            text, re.MULTILINE | re.DOTALL)
        assert section and f"{{cite}}`{data.citation}`" in section[1] and f'facts("{name}")' in section[1], name
        told = names["facts"](name).data
        assert data.summary in told and data.licence in told and data.sources[0].package in told
        assert all(a.sha256[:16] in told for a in data.arrays.values())
        assert data.comes_installed or data.command in told


def test_a_class_with_too_few_images_has_no_sheet(names):
    digits = names["digits"].take(range(100))
    with pytest.raises(ValueError, match=r"class \d has \d+ images, the sheet needs 16"):
        contact_sheet(digits.images, digits.labels, digits.classes)


def test_signed_images_have_a_scale_of_their_own_each():
    images = np.array([[[2.0, -1.0]], [[0.0, -10.0]]])
    fig = contact_sheet(images, np.array([0, 1]), ["a", "b"], columns=1, signed=True)
    [image] = fig.axes[0].images
    assert np.asarray(image.get_array()).tolist() == [[1, -0.5], [0, -1]] and image.get_clim() == (-1, 1)


def test_cells_fit_the_column(cells):
    assert not [line for cell in cells for line in cell.source.splitlines() if len(line) > 88]
