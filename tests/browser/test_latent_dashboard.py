"""The dashboard of latents where it is read: opened from a folder, and in JupyterLab."""
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page

from lib.dashboard.page import dashboard, embedded
from tests.dashboard.tiny_language import TEXTS, made

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dashboard")
    return dashboard(*made(folder), TEXTS, "blocks.0", folder / "own.html", title="<b>tiny</b>", length=17)


@pytest.fixture(scope="module")
def data(written: Path) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', written.read_text(), re.S)[1])


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Page]:
    """The page from its folder, without a network; it may neither complain nor ask for anything."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("request", lambda request: request.url.startswith("file:") or wrong.append(request.url))
    page.goto(written.as_uri())
    yield page
    assert wrong == []
    context.close()


def lit(shown: Locator) -> list[list[str]]:
    """The tokens that light up in each context shown."""
    return [line.locator(".on").all_text_contents() for line in shown.locator("#contexts p").all()]


def test_a_token_is_searched_read_in_every_context_and_a_neighbour_followed(opened: Page, data: dict):
    opened.get_by_label("token").fill("War")
    opened.get_by_role("button", name="search").click()
    results = opened.locator("#results button").all_text_contents()
    told = data["carriers"][str(data["tokens"].index(" war"))]
    assert [int(text.split(":")[0]) for text in results] == [own[0] for own in told] == [0, 4]
    assert re.fullmatch(rf"4: on 100 % of them, {100 * told[1][1]:.3g} % of its firings", results[1])
    own = next(latent for latent in data["latents"] if latent["id"] == 0)
    assert lit(opened) == [[" war"] * sum(a > 0 for a in c["acts"]) for c in own["contexts"]] != []
    opened.get_by_role("button", name=re.compile("^4: ")).click()
    assert all(" war" in tokens for tokens in lit(opened)) and opened.locator("h2").inner_text() == "latent 4"
    opened.get_by_role("button", name="show all").click()
    near = next(latent for latent in data["latents"] if latent["id"] == 4)["near"]
    button = opened.locator("#near button").nth(1)
    assert button.inner_text() == f"{near[1][0]} ({near[1][1]:.2f})"
    button.click()
    assert opened.locator("h2").inner_text() == f"latent {near[1][0]}" and opened.url.endswith(f"#{near[1][0]}")


def test_a_latent_is_found_by_its_number_and_its_numbers_are_the_datas(opened: Page, data: dict):
    opened.get_by_label("latent").fill("1")
    opened.keyboard.press("Enter")
    own = next(latent for latent in data["latents"] if latent["id"] == 1)
    assert f"fires on {100 * own['rate']:.3g} % of the tokens" in opened.locator("#latent").inner_text()
    numbers = opened.locator("#contexts .number").all_text_contents()
    assert numbers == [f"{c['acts'][c['at']]:.2f}" for c in own["contexts"]]
    raised = opened.locator("#latent table").first.locator("tr").first.locator("td").all_text_contents()
    assert raised == [" peace", f"+{own['raises'][0][1]:.2f}"]
    assert opened.locator("rect").count() == len(own["histogram"]["counts"])
    opened.get_by_role("button", name="next").click()
    assert opened.locator("h2").inner_text() == "latent 2"
    for number, said in (("3", "latent 3 never fires on these texts"), ("9", "latents go from 0 to 4")):
        opened.get_by_label("latent").fill(number)
        opened.keyboard.press("Enter")
        assert said in opened.locator("#said").inner_text()
    opened.get_by_label("token").fill("law")
    opened.keyboard.press("Enter")
    assert "no latent fires on a token “law”" in opened.locator("#said").inner_text()


def test_texts_with_tags_are_shown_as_text_and_the_page_can_be_used_by_everybody(opened: Page, data: dict):
    assert opened.locator("h1").inner_text() == "<b>tiny</b>" and opened.locator("h1 b").count() == 0
    opened.get_by_label("token").fill("the")
    opened.keyboard.press("Enter")
    own = next(latent for latent in data["latents"] if latent["id"] == 2)
    shown = "".join(opened.locator("#contexts p").all_text_contents())
    assert shown == "".join(f"{c['acts'][c['at']]:.2f}" + "".join(data["tokens"][i] for i in c["ids"])
                            for c in own["contexts"])
    assert opened.locator("#contexts b").count() == 0
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        found = Axe().run(opened).response["violations"]
        assert [(problem["id"], problem["nodes"][0]["html"]) for problem in found] == []
    opened.set_viewport_size({"width": 380, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 380


def test_a_token_is_searched_in_jupyterlab(browser: Browser, lab: Callable[[dict], str], written: Path):
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.goto(lab({"text/html": embedded(written).data}))
    frame = page.frame_locator("iframe[title=dashboard]")
    frame.locator("h2").wait_for(timeout=90_000)
    frame.get_by_label("token").fill("peace")
    frame.get_by_role("button", name="search").click()
    assert frame.locator("h2").inner_text() == "latent 1"
    assert frame.locator("#contexts p").count() and frame.locator("#contexts .on").first.inner_text() == " peace"
    page.close()
