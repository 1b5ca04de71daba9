"""The committed regression notebooks are made from the chapters as they are, and hold only what can be compared."""
import nbformat
import pytest

from lib.files import ROOT
from lib.press import reference
from lib.press.pages import PageError, all_pages, find_page, read_page

STUDIES = [page.name for page in all_pages() if page.is_study]


def sources(notebook):
    """Code cells as the chapter has them: without the cell papermill injected."""
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    return [c.source for c in cells if "injected-parameters" not in c.metadata.get("tags", [])]


@pytest.mark.parametrize("slug", STUDIES)
def test_reference_has_the_chapters_code(slug):
    committed = nbformat.read(ROOT / "tests" / "reference" / f"{slug}.ipynb", 4)
    chapter = read_page(find_page(slug).source)
    assert sources(committed) == sources(chapter), f"the chapter's code has changed: make reference STUDY={slug}"


@pytest.mark.parametrize("slug", STUDIES)
def test_the_parameters_cell_is_made_from_the_file_and_the_fields(slug):
    page = find_page(slug)
    assert page.source.read_text() == reference.with_parameters(page), f"make reference STUDY={slug}"


@pytest.mark.parametrize("slug", STUDIES)
def test_reference_compares_text_in_tagged_cells_only(slug):
    notebook = nbformat.read(ROOT / "tests" / "reference" / f"{slug}.ipynb", 4)
    for cell in notebook.cells:
        assert cell.outputs == [] or reference.CHECKED in cell.metadata.tags
        assert {output.output_type for output in cell.outputs} <= {"stream", "execute_result"}
    assert any(cell.outputs for cell in notebook.cells), "nothing is compared"


def test_a_cell_that_glues_cannot_be_compared():
    glued = nbformat.v4.new_output("display_data", {"x": "1"}, metadata={"scrapbook": {"name": "x"}})
    cell = nbformat.v4.new_code_cell("tell(x=1)", outputs=[glued], metadata={"tags": [reference.CHECKED]})
    with pytest.raises(PageError, match="glues a value"):
        reference._stripped(cell)
