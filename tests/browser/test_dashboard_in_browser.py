"""The dashboard of components where it is read: in the built page and in JupyterLab, one chosen from its menu."""
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from built_site import Visit
from playwright.sync_api import Browser, Locator, Page

from lib.studies.shapes_and_colours import anova
from lib.studies.shapes_and_colours.dashboard import explorer

pytestmark = pytest.mark.browser
PAGE = "studies/shapes_and_colours.html"
PICTURES = "e => e.data.slice(0, 2).map(trace => trace.source)"
BARS = "e => [...e.data[2].y]"


def choose(page: Page, figure: Locator, label: str) -> None:
    """Open the figure's menu and take the entry with that text."""
    figure.locator(".updatemenu-header").click()
    figure.locator(".updatemenu-dropdown-button", has_text=label).first.click()
    page.wait_for_function("([e, text]) => e.querySelector('.updatemenu-header').textContent.startsWith(text)",
                           arg=[figure.element_handle(), label])


def test_a_component_is_chosen_in_the_page_and_its_number_is_the_records(visit: Visit, site: Path):
    if not (site / PAGE).is_file():
        pytest.skip(f"no {PAGE} in the built site")
    page = visit.open(PAGE)
    visit.draw_figures()
    figure = page.locator(".plotly-figure:has(.updatemenu-header)")
    figure.scroll_into_view_if_needed()
    before = figure.evaluate(PICTURES)
    rows = page.locator("table:has(th:text-is('component')):has(th:text-is('on in')) tbody tr")
    chosen = rows.nth(rows.count() - 1)  # the first one shown is seldom the last
    component, share = chosen.locator("th").inner_text(), chosen.locator("td").first.inner_text()
    choose(page, figure, f"fc2 {component}:")
    told = figure.locator(".updatemenu-header").text_content()
    assert re.search(rf"^fc2 {component}: on in {re.escape(share)} of images", told)
    page.wait_for_function("([e, old]) => e.data[0].source !== old", arg=[figure.element_handle(), before[0]])
    assert len(figure.evaluate(BARS)) == 9 and visit.errors == visit.outside == []


def dashboard():
    """Two components of one layer, the second of which follows the colour red."""
    means = anova.level_indicators((3, 3, 3))[:, [0, 3]]
    layer = {"component": np.array([4, 9]), "means": means, "frequency": np.array([0.333, 0.25]),
             "shares": anova.shares(means, (3, 3, 3)), "histogram": np.full((2, 20), 0.05),
             "by_importance": np.array([[0, 1], [2, 3]]), "by_activation": np.array([[0, 1], [2, 3]])}
    images = np.random.default_rng(0).integers(0, 255, (4, 28, 28, 3), dtype=np.uint8)
    levels = ("disc", "square", "triangle"), ("red", "green", "blue"), ("small", "medium", "large")
    return explorer({"fc2": layer}, images, levels, ("fc2", 0))


def _plain(value):
    """Arrays of a figure as lists, as a kernel sends them."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def test_a_component_is_chosen_in_jupyterlab(browser: Browser, lab: Callable[[dict], str]):
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.goto(lab({"application/vnd.plotly.v1+json": _plain(dashboard().to_plotly_json())}))
    figure = page.locator(".jp-RenderedPlotly")
    figure.locator(".updatemenu-header").wait_for(timeout=90_000)
    before = figure.evaluate(PICTURES)
    assert figure.evaluate(BARS) == pytest.approx([1, 0, 0] + [1 / 3] * 6, abs=1e-3)
    choose(page, figure, "fc2 9:")
    page.wait_for_function("([e, old]) => e.data[0].source !== old", arg=[figure.element_handle(), before[0]])
    assert figure.evaluate(BARS) == pytest.approx([1 / 3] * 3 + [1, 0, 0] + [1 / 3] * 3, abs=1e-3)
    assert "25.0% of images" in figure.locator(".updatemenu-header").text_content()
    page.close()
