"""A chapter's explorer in JupyterLab: a slider is moved, and the chapter's own figure is drawn anew."""
from __future__ import annotations

import time
from pathlib import Path

import nbformat
import pytest
from in_lab import opened
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
CELL = """
from lib.files import ROOT
from lib.params import load
from lib.press.explore import explore
from lib.studies.superposition_phases import knobs, protocol

params = load(protocol.Params, ROOT / "params/superposition_phases/smoke.yaml")
explore(knobs.hero, params, seed=range(4), n_hidden=(5, 20))
"""
WAIT = 60_000
"""Milliseconds: a kernel that imports torch on a busy machine."""
DRAWN = "old => { const i = document.querySelector('.jp-OutputArea .widget-vbox img'); return i && i.src !== old }"


def test_a_turned_knob_draws_the_hero_anew(browser: Browser, tmp_path: Path):
    with opened(nbformat.v4.new_code_cell(CELL.strip()), tmp_path) as address:
        page = browser.new_page(viewport={"width": 1360, "height": 1000})
        page.goto(address)
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=WAIT)
        prompt, code = (page.locator(f".jp-Notebook {part}").first for part in (".jp-InputPrompt", ".cm-content"))
        figure, end = page.locator(".jp-OutputArea .widget-vbox img"), time.monotonic() + WAIT / 1000
        while not figure.is_visible() and time.monotonic() < end:
            if prompt.inner_text() == "[ ]:":  # what is run before the notebook has its kernel is lost
                code.press("Shift+Enter")
            page.wait_for_timeout(500)
        seeds, sizes = page.locator(".widget-slider").all()
        before = figure.get_attribute("src")
        seeds.locator(".noUi-handle").focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        page.wait_for_function(DRAWN, arg=before, timeout=WAIT)
        assert seeds.locator(".widget-readout").inner_text() == "3"
        another = figure.get_attribute("src")
        sizes.locator(".noUi-handle").focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(DRAWN, arg=another, timeout=WAIT)
        assert page.locator(".jp-OutputArea .widget-vbox [data-mime-type*=stderr]").count() == 0
        page.close()
