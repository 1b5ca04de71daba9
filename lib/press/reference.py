"""Makes the regression notebooks `tests/reference/<slug>.ipynb`: `python -m lib.press.reference [STUDY...]`.

Each is the smoke execution of a chapter, stripped to what must not change: outputs are kept only in cells tagged
`nbval-check-output`, as text. `pytest --nbval-lax` replays the chapter and compares those. Before, the chapter's
parameters cell is written anew, from quick.yaml and the descriptions of the fields.
"""
from __future__ import annotations

import re
import sys

import nbformat

from lib import files
from lib.files import ROOT
from lib.press.__main__ import main as press
from lib.press.pages import DEFAULT_PROFILE, KERNEL, Page, PageError, Request, all_pages, find_page

PROFILE = "smoke"
CHECKED = "nbval-check-output"
PARAMETERS = re.compile(r"(?<=\n)(:tags: \[parameters[^\n]*\n\n).*?(?=\n```)", re.DOTALL)


def reference(request: Request) -> nbformat.NotebookNode:
    """The regression notebook of an executed request: code cells alone, checked text outputs alone."""
    executed = nbformat.read(request.output, 4)
    cells = [_stripped(cell) for cell in executed.cells if cell.cell_type == "code"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    return notebook


def _stripped(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    tags = [tag for tag in cell.metadata.get("tags", []) if tag in (CHECKED, "parameters", "injected-parameters")]
    if CHECKED in tags and any("scrapbook" in output.get("metadata", {}) for output in cell.outputs):
        raise PageError(f"cell {cell.id}: tagged {CHECKED}, it glues a value, which nbval cannot compare; split it")
    outputs = [_text_only(output) for output in cell.outputs] if CHECKED in tags else []
    new = nbformat.v4.new_code_cell(cell.source, id=cell.id, execution_count=cell.execution_count or 1)
    new.metadata["tags"], new.outputs = tags, [output for output in outputs if output]
    return new


def _text_only(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """A stream, or a result reduced to its plain text; None for what has no text."""
    if output.output_type == "stream":
        return output if output.name == "stdout" else None
    text = output.get("data", {}).get("text/plain")
    if text is None:
        return None
    output.data, output.metadata = nbformat.from_dict({"text/plain": text}), nbformat.from_dict({})
    return output


def with_parameters(page: Page) -> str:
    """A chapter's text, its parameters cell saying the values of quick.yaml and what each is."""
    fields = page.params_class().model_fields
    values = Request(page, DEFAULT_PROFILE).raw_values
    cell = "\n".join(f"{name} = {value!r}  # {fields[name].description}" for name, value in values.items())
    return PARAMETERS.sub(lambda head: head[1] + cell, page.source.read_text(encoding="utf-8"), count=1)


def main(slugs: list[str]) -> int:
    """Write the studies' parameters cells, run them at smoke and write their references; all where none is named."""
    slugs = slugs or [page.name for page in all_pages() if page.is_study]
    for page in map(find_page, slugs):
        files.write_text(page.source, with_parameters(page))
    status = press(["run", *slugs, "--profile", PROFILE])
    if status:
        return status
    for slug in slugs:
        notebook = reference(Request(find_page(slug), PROFILE))
        path = ROOT / "tests" / "reference" / f"{slug}.ipynb"
        files.write_atomically(path, lambda p, notebook=notebook: nbformat.write(notebook, p))
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.1f} KB")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PageError as error:
        sys.exit(str(error))
