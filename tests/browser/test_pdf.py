"""The whole book as one file: printed from the built site, read by pdftotext."""
from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from built_site import HTML
from conftest import CHROMIUM

from lib.files import ROOT
from lib.press.ledger import VERDICTS
from lib.press.site import Site, crate, pdf

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def printed(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site printed, beside whatever was printed of it before."""
    if CHROMIUM is None or not shutil.which("pdftotext"):
        pytest.skip("printing and reading it needs chromium and pdftotext: apt-get install chromium poppler-utils")
    if not (HTML / crate.NAME).is_file():
        pytest.skip("the built site is a draft: run make book")
    build = tmp_path_factory.mktemp("printed")
    (build / "html").symlink_to(HTML)
    return pdf.write_pdf(Site(ROOT / "book", "quick", build))


def test_the_printed_book_is_whole(printed: Path):
    """Contents with the right pages, chapters, verdicts and mathematics; links that lead inside; an outline."""
    done = subprocess.run(["pdftotext", "-layout", printed, "-"], capture_output=True, text=True, check=True)
    pages = done.stdout.split("\f")
    contents = re.findall(r"^ *(\S.*?) {3,}(\d+)$", pages[0], re.MULTILINE)
    assert len(contents) == len(Site(ROOT / "book", "quick").pages()) + 1 < len(pages)
    for title, number in contents:
        assert " ".join(pages[int(number) - 1].split()).startswith(f"{title} {title} ")  # its head, its title
    assert any(word in pages[int(contents[1][1])] for word in VERDICTS)
    for left in ("\\(", "\\frac", "\\mathcal", "Loading [MathJax]", "copy link", "Show the code"):
        assert left not in done.stdout
    file = printed.read_bytes()
    named, linked = set(re.findall(rb"/(\S+) \[\d+ 0 R /XYZ", file)), set(re.findall(rb"/Dest /(\S+)", file))
    assert len(linked) > len(contents) and linked <= named
    assert b"/Outlines" in file and b"file://" not in file
