"""Executes one page in a process of its own: `python -m lib.press.worker JOB.json`, started by `lib.press.jobs` only.

Events go to standard output as JSON lines. The worker lives as long as its standard input is open: when the press
dies, however abruptly, the pipe closes and the worker ends itself and its kernel.
"""
from __future__ import annotations

import fcntl
import json
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from lib import files
from lib.files import ROOT, read_json
from lib.press import provenance
from lib.press.pages import DEFAULT_PROFILE, KERNEL, Page, PageError, Request, find_page, read_page

FAILED = 1
GOES_ON = "raises-exception"
"""Tag of a cell whose error does not end an execution."""
STARTS = 3
"""How often a kernel may die before its first reply."""

Emit = Callable[..., None]


def with_old_outputs(notebook: nbformat.NotebookNode, old: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The outputs of `old` under the prose of `notebook`; their code cells must be the same, in order."""
    injected = [c for c in old.cells if "injected-parameters" in c.metadata.get("tags", [])]
    executed = [c for c in old.cells if c.cell_type == "code" and c not in injected]
    for new, done in zip([c for c in notebook.cells if c.cell_type == "code"], executed, strict=True):
        new.outputs, new.execution_count = done.outputs, done.execution_count
    at = next((i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])), -1)
    notebook.cells[at + 1 : at + 1] = injected
    notebook.metadata["book"] = old.metadata["book"]
    return notebook


def refresh(request: Request) -> None:
    """Put the stored outputs under the page's new prose, without executing; only its prose may have changed."""
    renewed = with_old_outputs(read_page(request.page.source), nbformat.read(request.output, 4))
    renewed.metadata["book"]["facts"] = request.facts
    store(request, renewed)


def store(request: Request, notebook: nbformat.NotebookNode) -> None:
    """Put a whole execution in place: the notebook first (it carries the verdicts), then their copy beside it."""
    files.write_atomically(request.output, lambda path: nbformat.write(notebook, path))
    request.write_results(notebook.metadata["book"])


def execute(request: Request, values: dict[str, Any], facts: dict[str, Any], emit: Emit) -> list[str]:
    """Execute the page in a fresh kernel and store it with the facts it was asked for.

    Returns:
        The checks that do not hold, where a reader's own values may break them (`Request.exploring`).

    Raises:
        PageError: one of `facts` has changed since it was asked for, or the page is not whole.
        PapermillExecutionError: a cell failed; the notebook up to there is `request.partial`.
    """
    notebook = read_page(request.page.source)
    _check_parameters_cell(request.page, notebook)
    if changed := [name for name, fact in request.facts.items() if facts.get(name, fact) != fact]:
        raise PageError(f"{request.page.name}: {', '.join(changed)} changed while it waited; run it again")
    records = request.partial.with_suffix(".results.json")
    request.partial.parent.mkdir(parents=True, exist_ok=True)
    records.unlink(missing_ok=True)
    os.environ.update(BOOK_PROFILE=request.label, BOOK_RESULTS=str(records))
    start = time.monotonic()
    done, broken = _execute_notebook(notebook, values, request, emit)
    seconds = round(time.monotonic() - start, 1)
    for cell in done.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            # The parameters cell shows the quick profile already; another profile's values must be seen.
            shown = request.profile != DEFAULT_PROFILE or request.overrides
            cell.metadata["tags"] = ["injected-parameters", "hide-input" if shown else "remove-cell"]
    results = read_json(records) if records.is_file() else None
    _check_verdicts(request.page, results)
    done.metadata["book"] = {
        "name": request.page.name, "profile": request.profile, "overrides": request.overrides,
        "params": values, "seconds": seconds, "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": provenance.processor(), "results": results, "facts": {**request.facts, **facts}, "broken": broken,
    }
    store(request, done)
    for leftover in (request.partial, records):
        leftover.unlink(missing_ok=True)
    return broken


def _check_parameters_cell(page: Page, notebook: nbformat.NotebookNode) -> None:
    """papermill puts the parameters behind the tagged cell; without one the chapter's own values would win silently."""
    tagged = sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    if page.is_study and tagged != 1:
        raise PageError(f"{page.source.relative_to(ROOT)}: needs one code cell tagged `parameters`, has {tagged}")


def _check_verdicts(page: Page, results: Any) -> None:
    """A study that leaves a claim of its own without a verdict has not run to its end."""
    ids = [claim["id"] for claim in page.claims()]
    recorded = {record["claim_id"] for record in (results or {}).get("records", [])}
    if missing := [claim for claim in ids if claim not in recorded]:
        raise PageError(f"{page.source.relative_to(ROOT)}: no verdict was recorded for {', '.join(missing)}")


def _execute_notebook(
    notebook: Any, values: dict[str, Any], request: Request, emit: Emit
) -> tuple[nbformat.NotebookNode, list[str]]:
    checks = [c for c in notebook.cells if request.exploring and "check" in c.metadata.get("tags", [])]
    held: dict[str, list[Any]] = {}
    for cell in checks:
        cell.metadata["tags"].append(GOES_ON)
        held[cell.id] = []
    papermill_engines.register("reporting", _reporting_engine(emit, held))
    done = _papermill(notebook, values, request.partial)
    broken = []
    for number, cell in enumerate(done.cells, start=1):
        if cell.id in held:
            cell.metadata["tags"].remove(GOES_ON)
        if error := held.get(cell.id):
            cell.outputs += error
            said = textwrap.shorten(error[0].evalue or cell.source, 200)
            broken.append(f"cell {number}: {error[0].ename}: {said}")
    return done, broken


def _papermill(notebook: Any, values: dict[str, Any], output: Path) -> nbformat.NotebookNode:
    for start in range(STARTS):
        try:
            return papermill.execute_notebook(
                notebook, str(output), parameters=values, engine_name="reporting", kernel_name=KERNEL["name"],
                cwd=str(ROOT), progress_bar=False,
            )
        except RuntimeError as error:
            # A kernel that dies before its first reply has run nothing: a port taken in between, most often.
            if "kernel_info" not in str(error) or start + 1 == STARTS:
                raise
    raise AssertionError("unreachable")


def _reporting_engine(emit: Emit, held: dict[str, list[Any]]) -> type[NBClientEngine]:
    """Papermill's engine, telling which cell runs. Errors of cells that go on are taken out into `held`, by cell id:
    papermill would raise them once the notebook has run to its end."""

    class ReportingEngine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, manager: Any, kernel_name: str, **kwargs: Any) -> Any:
            cell_start, total = manager.cell_start, len(manager.nb.cells)

            def started(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                emit(event="cell", number=(cell_index or 0) + 1, total=total)
                cell_start(cell, cell_index, **more)

            manager.cell_start = started
            done = super().execute_managed_notebook(manager, kernel_name, **kwargs)
            for cell in manager.nb.cells:
                if cell.id in held:
                    held[cell.id] = [output for output in cell.outputs if output.output_type == "error"]
                    cell.outputs = [output for output in cell.outputs if output.output_type != "error"]
            return done

    return ReportingEngine


def main(job_file: str) -> int:
    """Run one job; the exit status is 0 only if a whole execution was stored."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print goes to the log, events alone to the pipe

    def emit(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")

    threading.Thread(target=_end_with_the_press, daemon=True).start()
    job = read_json(Path(job_file))
    folder = Path(job["folder"]) if job.get("folder") else None
    request = Request(find_page(job["page"]), job["profile"], job["overrides"], folder)
    lock = _lock(request)
    if lock is None:
        emit(event="failed", what="another press is executing this page; wait for it or stop it")
        return FAILED
    try:
        emit(event="done", broken=execute(request, job["values"], job["facts"], emit))
        return 0
    except PapermillExecutionError as error:
        what = f"cell {error.cell_index + 1}: {error.ename}: {error.evalue}"
        emit(event="failed", what=what, source=error.source, partial=str(request.partial))
    except PageError as error:
        emit(event="failed", what=str(error))
    except Exception as error:
        emit(event="failed", what=f"{type(error).__name__}: {error}", partial=str(request.partial))
    return FAILED


def _lock(request: Request) -> Any:
    """An open file only one process can hold for this output; the system frees it when the process ends."""
    path = request.partial.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def _end_with_the_press() -> None:
    os.read(0, 1)  # returns when the press closes the pipe or dies
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os._exit(FAILED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
