"""What a reader does with the book: read, search, unfold, zoom, follow links, with the network unplugged."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from built_site import Visit, pages

pytestmark = pytest.mark.browser


def first_page_with(site: Path, text: str) -> str:
    """The first page whose HTML contains `text`."""
    for path in pages():
        if text in (site / path).read_text(encoding="utf-8"):
            return path
    return pytest.fail(f"no page of the built site contains {text!r}")


def test_page_is_whole_offline(opened: Visit):
    """Every page: no request leaves the machine, no error, all math typeset, every picture there."""
    page = opened.page
    assert opened.outside == [] and opened.errors == []
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)") == []
    untypeset = "[...document.querySelectorAll('.math')].filter(m => !m.querySelector('mjx-container svg')).length"
    assert page.evaluate(untypeset) == 0 and page.locator("mjx-merror, [data-mjx-error]").count() == 0


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_page_is_accessible(opened: Visit, mode: str):
    opened.page.emulate_media(color_scheme=mode)
    opened.page.wait_for_function(f"document.documentElement.dataset.theme === '{mode}'")
    figures_follow = f"[...document.querySelectorAll('.plotly-figure')].every(f => f.dataset.drawn === '{mode}')"
    opened.page.wait_for_function(figures_follow)
    found = Axe().run(opened.page).response["violations"]
    grave = [violation for violation in found if violation["impact"] in ("serious", "critical")]
    assert [(v["id"], n["target"], n["failureSummary"]) for v in grave for n in v["nodes"]] == []


def test_page_fits_a_phone(opened: Visit):
    page = opened.page
    page.set_viewport_size({"width": 375, "height": 740})
    page.wait_for_timeout(150)  # figures and page.js answer the new width
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    wide = """[...document.querySelectorAll('.bd-article img, .bd-article table, .bd-article svg')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('[tabindex="0"], .plotly-figure'))
        .map(e => e.outerHTML.slice(0, 120))"""
    assert page.evaluate(wide) == []
    legible = """[...document.querySelectorAll('.bd-article figure img')]
        .every(e => e.naturalWidth <= 1000 || e.clientWidth >= 500)"""
    page.wait_for_function(legible)  # of a smaller figure nobody could read the words


def test_entry_opens_the_first_page(visit: Visit):
    visit.page.goto(f"{visit.base}/index.html")
    visit.page.wait_for_url("**/intro.html")
    assert visit.page.locator("article h1").count() == 1


def test_math_is_drawn_as_svg(visit: Visit, site: Path):
    page = visit.open(first_page_with(site, 'class="math notranslate'))
    assert page.locator("mjx-container svg").count() > 0
    assert "\\mathcal" not in page.inner_text("article") and "\\frac" not in page.inner_text("article")


def test_figure_zooms_with_mouse_and_keys(visit: Visit, site: Path):
    page = visit.open(first_page_with(site, 'class="plotly-figure"'))
    visit.draw_figures()
    figure = page.locator(".plotly-figure:has(.nsewdrag)").first
    if not figure.count():
        pytest.skip("no interactive figure with two axes")
    figure.scroll_into_view_if_needed()
    span = "e => e._fullLayout.xaxis.range.map(Number)"
    start = figure.evaluate(span)
    box = figure.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"], steps=8)
    page.mouse.up()
    moved = "([e, low]) => Number(e._fullLayout.xaxis.range[0]) !== low"
    page.wait_for_function(moved, arg=[figure.element_handle(), start[0]])
    low, high = figure.evaluate(span)
    assert abs(high - low) < abs(start[1] - start[0])
    figure.focus()
    page.keyboard.press("-")
    page.wait_for_function(moved, arg=[figure.element_handle(), low])
    wider = figure.evaluate(span)
    assert abs(wider[1] - wider[0]) == pytest.approx(1.25 * abs(high - low), rel=1e-3)


def test_search_finds(visit: Visit):
    page = visit.page
    page.goto(f"{visit.base}/search.html?q=superposition")
    page.wait_for_selector("#search-results li a")
    assert "superposition" in page.inner_text("#search-results").lower() and visit.errors == []


def test_hidden_code_opens(visit: Visit, site: Path):
    page = visit.open(first_page_with(site, "above-input"))
    hidden = page.locator("details.hide.above-input").first
    assert not hidden.locator("pre").first.is_visible()
    hidden.locator("summary").click()
    assert hidden.locator("pre").first.is_visible()


def test_a_figures_link_is_copied_and_its_numbers_are_there(visit: Visit, site: Path):
    page = visit.open(first_page_with(site, 'class="copy-link"'))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    told = page.locator("figure .figure-data").all()
    assert len(told) == page.locator("figure[id]").count()
    for line in told:
        numbers = page.evaluate("(a) => a.pathname", line.locator("a").first.element_handle()).removeprefix("/")
        assert len((site / numbers).read_text(encoding="utf-8").splitlines()) > 1
    link = page.locator("a.copy-link").first
    link.click()
    link.filter(has_text="link copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url and page.locator(f"figure#{copied.partition('#')[2]}").count() == 1


def test_theme_button_changes_the_page(visit: Visit):
    page = visit.open("intro.html")
    grounds = {}
    for _ in range(3):  # auto, light, dark in some order
        page.locator("button.theme-switch-button:visible").first.click()
        mode = page.evaluate("document.documentElement.dataset.mode")
        grounds[mode] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert set(grounds) == {"auto", "light", "dark"} and grounds["light"] != grounds["dark"]


def test_site_works_from_a_folder(visit: Visit, site: Path):
    """The same book opened as file:// without any server: first page, math, navigation, search, no complaint."""
    visit.base = site.as_uri()
    page = visit.page
    page.context.unroute_all()
    page.context.route(lambda url: not url.startswith(("file:", "data:", "blob:")), visit.refuse)
    page.goto(f"{visit.base}/index.html")
    page.wait_for_url("**/intro.html")
    visit.open(first_page_with(site, 'class="math notranslate'))
    assert page.locator("mjx-container svg").count() > 0
    page.locator(".prev-next-footer a").first.click()
    page.wait_for_load_state()
    page.goto(f"{visit.base}/search.html?q=superposition")
    page.wait_for_selector("#search-results li a")
    assert visit.outside == [] and visit.errors == []


def test_the_table_of_claims_is_cut_down_to_a_verdict_a_project_or_a_word(visit: Visit):
    page = visit.open("claims.html")
    rows, status = page.locator("table.claims tbody tr"), page.locator(".claim-filters [role=status]")
    whole = rows.count()
    assert whole == page.locator("table.claims tbody tr:visible").count() > 40
    shown = page.locator("table.claims tbody tr:visible")
    page.get_by_label("project").select_option("IP")
    assert {id.partition("-")[0] for id in shown.evaluate_all("rows => rows.map(row => row.id)")} == {"IP"}
    assert status.inner_text() == f"{shown.count()} of {whole} claims"
    assert page.locator("table.claims:visible").count() == 1
    word = shown.first.locator(".verdict").first.inner_text()
    page.get_by_label("verdict").select_option(word)
    assert set(shown.locator("td:nth-child(2) > p:first-child .verdict").all_inner_texts()) == {word}
    page.get_by_label("project").select_option("all")
    page.get_by_label("verdict").select_option("all")
    page.get_by_label("word").fill("ReLU")
    assert 0 < shown.count() < whole and all("relu" in text.lower() for text in shown.all_inner_texts())
    page.get_by_label("word").fill("")
    assert shown.count() == whole


def test_the_picture_of_claims_leads_to_a_claims_page_whose_numbers_are_those_of_its_data(visit: Visit, site: Path):
    page = visit.open("intro.html")
    row = page.locator(".claims-picture li a:has(.found)").first
    id = row.locator("b").inner_text()
    row.focus()
    assert row.locator(".told").is_visible() and "over its null" in row.locator(".told").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/claims/{id}.html")
    data = page.get_by_role("link", name="JSON").get_attribute("href")
    record = next(iter(json.loads((site / "claims" / data).read_text(encoding="utf-8"))["runs"].values()))
    cells = page.locator("table.claim-runs tbody td:nth-child(3)").all_inner_texts()
    assert cells[0] == record["word"] and len(cells) == 1 + len(record["parts"])
    assert f"{record['parts'][0]['estimate']['value']:.2g}" in cells[1]
    assert page.locator("table.claim-runs").count() == 1 and visit.errors == []


def test_a_figures_link_is_copied_and_offered_again(visit: Visit, site: Path):
    page = visit.open(first_page_with(site, 'class="copy-link"'))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    link, says = page.locator("a.copy-link").first, "([link, words]) => link.textContent === words"
    link.click()
    page.wait_for_function(says, arg=[link.element_handle(), "link copied"])
    assert page.evaluate("navigator.clipboard.readText()") == link.evaluate("link => link.href")
    page.wait_for_function(says, arg=[link.element_handle(), "copy link"], timeout=4000)


def test_the_picture_of_claims_is_a_list_on_a_phone(visit: Visit):
    page = visit.page
    page.set_viewport_size({"width": 380, "height": 740})
    visit.open("intro.html")
    assert page.locator(".claims-picture .marks:visible").count() == 0
    assert page.locator(".claims-picture li .verdict:visible").count() > 40


@pytest.mark.parametrize("offline", [False, True], ids=["served", "from a folder"])
def test_links_tell_on_a_card_what_they_lead_to(visit: Visit, site: Path, offline: bool):
    """A term by pointer, a claim by keyboard, a figure or an equation out of the page; Escape puts the card away."""
    if offline:
        visit.base = site.as_uri()
        visit.page.context.unroute_all()
    page = visit.open("studies/superposition_phases.html")
    page.wait_for_timeout(500)  # the last formulas move what stands below them
    card = page.locator("#hover-card")
    term = page.locator(".bd-article a[href*='glossary.html#term-']").first
    term.hover()
    card.wait_for()
    assert len(card.inner_text()) > 30 and term.get_attribute("aria-describedby") == "hover-card"
    card.hover()
    page.wait_for_timeout(400)
    assert card.is_visible(), "one can go into the card"
    page.keyboard.press("Escape")
    assert card.count() == 0
    claim = page.locator(".bd-article a.verdict").first
    page.keyboard.press("Tab")  # from here on focus is the keyboard's
    claim.focus()
    card.wait_for()
    assert claim.get_attribute("href").split("/")[-1].removesuffix(".html") in card.inner_text()
    page.keyboard.press("Escape")
    own = page.locator(".bd-article a.reference.internal[href^='#equation-']").first
    own.hover()
    card.locator("img, mjx-container").first.wait_for()
    assert visit.errors == []
