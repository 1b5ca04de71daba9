"""The built site as one file: its pages joined into one, and printed by Chromium to `_build/book.pdf`."""
from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urldefrag, urljoin

from bs4 import BeautifulSoup

from lib.files import only_one, read_json, write_atomically, write_text
from lib.press.claims import load
from lib.press.site import crate
from lib.press.site.source import Site, SiteError

OPTIONS = ("--headless", "--no-sandbox", "--disable-background-networking", "--virtual-time-budget=60000",
           "--generate-pdf-document-outline", "--no-pdf-header-footer")
KEPT = 'link[rel=stylesheet], script[src*="tex-svg"], script[src*="toy-model"], script:-soup-contains("MathJax =")'
"""Of a page's head: its looks, its mathematics, and the model that is drawn when it opens."""


def write_pdf(site: Site) -> Path:
    """Print the site that stands, as it stands, to `_build/book.pdf`; its place.

    Raises:
        SiteError: no browser, no whole site, or nothing was printed. The previous file is untouched.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SiteError("printing needs Chromium, and none is here; apt-get install chromium")
    with only_one(site.build / ".site.lock"), TemporaryDirectory(dir=site.build) as work:
        if not (site.html / crate.NAME).is_file():
            raise SiteError(f"no finished site at {site.html}; make book")
        page, text = Path(work) / "book.html", joined(site)
        command = [browser, *OPTIONS, f"--user-data-dir={work}", page.as_uri()]

        def printed(path: Path) -> None:
            for _ in range(2):  # the second time with the page numbers of the first
                write_text(page, text.replace("</style>", f"{_page_numbers(path.read_bytes())}</style>", 1))
                done = subprocess.run([*command, f"--print-to-pdf={path}"], capture_output=True, text=True, check=False)
                if not path.stat().st_size:
                    raise SiteError(f"{browser} printed nothing:\n{done.stderr.strip()}")

        return write_atomically(site.build / "book.pdf", printed)


def joined(site: Site) -> str:
    """The site's HTML as one page: a title, the contents, its pages in order, and the page of every claim."""
    n, pages = len(site.pages()), [*site.pages(), *(f"claims/{id}" for id in load())]
    paths = [path for page in pages if (path := site.html / f"{page}.html").is_file()]
    places = {path.as_uri(): f"page-{i}" for i, path in enumerate(paths)}
    soups = [_inside(path, places) for path in paths]
    for heading in (heading for soup in soups[n:] for heading in soup.article.select("h1, h2")):
        heading.name = f"h{int(heading.name[1]) + 1}"
    titles = {f"page-{i}": soup.h1.get_text().removesuffix("#") for i, soup in enumerate(soups[:n])}
    titles["by-claim"] = "Claim by claim"
    running = [f'@page {at} {{@top-left {{content: "{title}"}}}} #{at} {{page: {at}}}' for at, title in titles.items()]
    parts = [f'<section id="page-{i}">{soup.article.decode_contents()}</section>' for i, soup in enumerate(soups)]
    book = read_json(site.html / crate.NAME)["@graph"][1]
    contents = soups[0].select_one("nav.bd-links")
    for tag in contents.find_all(class_=lambda name: name != "caption"):
        del tag["class"]
    return "\n".join([
        '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>The superposition book</title>',
        *dict.fromkeys(str(tag) for soup in soups for tag in soup.head.select(KEPT)),
        "<style>", *running, '</style><article class="bd-article">',
        f"<header><p>{book['name']}<p>{book['description']}<p>{book['datePublished'][:10]}</header>",
        f'<nav>{contents.decode_contents()}<a href="#by-claim">{titles["by-claim"]}</a></nav>',
        *parts[:n], f'<section id="by-claim"><h1>{titles["by-claim"]}</h1>', *parts[n:], "</section></article>"])


def _inside(path: Path, places: dict[str, str]) -> BeautifulSoup:
    """A page whose links lead to the places of the pages in one file, to the network, or nowhere."""
    soup, here = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser"), path.as_uri()
    for tag in soup.select("[id]"):
        tag["id"] = f"{places[here]}-{tag['id']}"
    for tag in soup.select("[src], [href]"):
        name = "href" if tag.has_attr("href") else "src"
        tag[name] = urljoin(here, tag[name])
        address, anchor = urldefrag(tag[name])
        if address in places:
            tag[name] = f"#{places[address]}" + f"-{anchor}" * bool(anchor)
        elif tag.name == "a" and address.startswith("file:"):
            tag.unwrap()
    return soup


def _page_numbers(pdf: bytes) -> str:
    """Style that says behind each line of the contents on which page of `pdf` its place is; of an empty one nothing."""
    pages = {page: n for n, page in enumerate(re.findall(rb"^(\d+) 0 obj\n<</Type /Page$", pdf, re.MULTILINE), start=1)}
    places = re.findall(rb"/(page-\d+|by-claim) \[(\d+) 0 R /XYZ", pdf)
    return "\n".join(f'nav a[href="#{place.decode()}"]::after {{ content: "{pages[page]}" }}' for place, page in places)
