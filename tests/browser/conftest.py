"""The built site, in a browser that refuses to talk to anybody but it."""
from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import in_lab
import nbformat
import pytest
from built_site import HTML, Visit, pages
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]

@pytest.fixture(scope="session")
def site() -> Path:
    if not (HTML / "index.html").is_file():
        pytest.skip(f"no built site at {HTML}: run make book")
    return HTML


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def base(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no browser: install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, base: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1360, "height": 900})
    yield Visit(context, base)
    context.close()


LOOKED_AT = [page for page in pages() if not page.startswith("claims/")] + ["claims/SP-1.html", "claims/TL-6.html"]
"""Every page but the fifty claims' own, which are of one make: one of many parts stands for them, and an identity."""


@pytest.fixture(scope="module", params=LOOKED_AT if pages() else [None])
def opened(request: pytest.FixtureRequest, browser: Browser, base: str) -> Iterator[Visit]:
    """Each page of the site in turn, loaded once for all tests that look at it, its figures drawn."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, reduced_motion="reduce")
    visit = Visit(context, base)
    visit.open(request.param)
    visit.draw_figures()
    yield visit
    context.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[dict], str]]:
    """Opens a JupyterLab on a notebook whose one cell has shown what is given, by mime type; returns its address."""
    with contextlib.ExitStack() as stack:
        def address(shown: dict) -> str:
            output = nbformat.v4.new_output("display_data", shown)
            cell = nbformat.v4.new_code_cell("shown", outputs=[output], execution_count=1)
            return stack.enter_context(in_lab.opened(cell, tmp_path))

        yield address
