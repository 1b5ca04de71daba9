"""What a link's card says, for `_static/hover.js`: of each glossary term, claim and reference of the rendered site."""
from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup

from lib.files import write_text
from lib.press import claims
from lib.press.site import claims_table
from lib.press.site.source import Site


def write_cards(site: Site, html: Path) -> None:
    """Write `_static/cards.js`: the inner HTML of every card, by the address that a link has within the site."""
    found = {**_definitions(html, "glossary.html", "dl.glossary > dt[id]"),
             **_definitions(html, "references.html", "div.citation[id]"), **_claims(site, html)}
    write_text(html / "_static" / "cards.js", f"window.bookCards = {json.dumps(found, ensure_ascii=False)};\n")


def _definitions(html: Path, page: str, entries: str) -> dict[str, str]:
    """The first paragraph of each entry of a list, without its links."""
    if not (html / page).is_file():
        return {}
    soup = BeautifulSoup((html / page).read_text(encoding="utf-8"), "html.parser")
    return {f"{page}#{entry['id']}": _first_paragraph(entry) for entry in soup.select(entries)}


def _first_paragraph(entry: Any) -> str:
    body = entry.find_next_sibling("dd") if entry.name == "dt" else entry
    paragraph = body.find("p") or body
    for link in paragraph("a"):
        link.unwrap()
    return paragraph.decode_contents()


def _claims(site: Site, html: Path) -> dict[str, str]:
    """A claim's statement and the word it has; of a site without the pages of claims, nothing."""
    if not (html / "claims").is_dir():
        return {}
    words = claims_table.words(site.profile)
    return {f"claims/{id}.html": f"<b>{id}</b> {escape(claim.statement)} {claims_table.badge(words[id])}"
            for id, claim in claims.load().items()}
