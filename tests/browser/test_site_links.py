"""Every link inside the built site leads to a file, and every fragment to an element. Needs no browser."""
from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from built_site import ENTRY, pages

pytestmark = pytest.mark.browser


class Links(HTMLParser):
    """Targets (`href`, `src`) and anchors (`id`, `name`) of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        self.targets += [found[name] for name in ("href", "src") if found.get(name)]


def everything() -> list[str]:
    return [*pages(), ENTRY]


def broken(site: Path, page: str, parsed: dict[str, Links]) -> list[tuple[str, str]]:
    """Links of `page` that lead nowhere."""
    bad = []
    for target in parsed[page].targets:
        url = urlsplit(target)
        if url.scheme or url.netloc:
            continue
        file = (site / page).parent / unquote(url.path) if url.path else site / page
        known = parsed.get(file.resolve().relative_to(site.resolve()).as_posix()) if file.exists() else None
        if not file.is_file() or (known and unquote(url.fragment) not in known.anchors):
            bad.append((page, target))
    return bad


def test_every_internal_link_resolves(site: Path):
    parsed = {page: Links((site / page).read_text(encoding="utf-8")) for page in everything()}
    assert sum(len(links.targets) for links in parsed.values()) > 20
    assert [bad for page in parsed for bad in broken(site, page, parsed)] == []


def test_no_page_names_an_outside_script_style_or_font(site: Path):
    """Outside addresses may be links to follow, never something a page loads."""
    for page in everything():
        text = (site / page).read_text(encoding="utf-8")
        for loaded in ('src="http', 'src="//', "@import", 'rel="stylesheet" href="http', "unpkg.com", "jsdelivr"):
            assert loaded not in text, f"{page} loads from outside: {loaded}"


def test_every_term_claim_and_citation_that_is_linked_has_a_card(site: Path):
    text = (site / "_static/cards.js").read_text(encoding="utf-8")
    cards = json.loads(text.removeprefix("window.bookCards = ").rstrip(";\n"))
    told = re.compile(r"(glossary\.html#term-.+|references\.html#id\d+|claims/[A-Z]+-\d+\.html)$")
    linked = set()
    for page in everything():
        for target in Links((site / page).read_text(encoding="utf-8")).targets:
            url = urlsplit(target)
            if not url.scheme and url.path:
                file = ((site / page).parent / unquote(url.path)).resolve().relative_to(site.resolve()).as_posix()
                linked |= {name for name in [f"{file}#{unquote(url.fragment)}".rstrip("#")] if told.match(name)}
    assert len(linked) > 40 and sorted(linked - set(cards)) == []
    assert all(len(re.sub(r"<[^>]*>", "", card)) > 20 for card in cards.values()), "a card says something"
