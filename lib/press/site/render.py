"""From `_build/src` to `_build/html`: Jupyter Book with warnings as errors, then one swap."""
from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lib.files import only_one, write_text
from lib.press.site.source import Site, SiteError, assemble

JUPYTER_BOOK = """
from sphinx.util.console import nocolor
from jupyter_book.cli.main import main
nocolor()
main(prog_name="jupyter-book")
"""


def build(site: Site) -> bool:
    """Render `site` unless its stamp says it is up to date; True if it was rendered.

    Raises:
        SiteError: a page is missing or not executed, or rendering gave a warning. The previous site is untouched.
    """
    if problems := site.problems():
        raise SiteError("the book cannot be rendered yet:\n" + "\n".join(f"  {line}" for line in problems))
    with only_one(site.build / ".site.lock"):  # Sphinx holds it too: a build whose starter was killed still counts
        stamp, mark = site.stamp(), site.html / ".stamp"
        if mark.is_file() and mark.read_text() == stamp:
            return False
        assemble(site)
        rendered = render(site)
        from lib.press.site.cards import write_cards  # reads the claims: not needed where the site stands
        from lib.press.site.crate import write_crate
        from lib.press.site.figure_data import write_figure_data

        write_cards(site, rendered)
        shutil.copytree(site.beside, rendered, dirs_exist_ok=True)
        write_figure_data(site.pages(), rendered)
        if not site.is_draft:
            write_crate(site, rendered)
        write_text(rendered / ".stamp", stamp)
        swap(rendered, site.html)
    return True


def render(site: Site) -> Path:
    """Run Jupyter Book on `_build/src` with warnings as errors; the finished folder, not yet in place.

    Raises:
        SiteError: with the warnings.
    """
    work = site.build / "site"
    shutil.rmtree(work, ignore_errors=True)
    strict = [] if site.is_draft else ["-W", "-n", "--keep-going"]  # what a page not yet run would define is missing
    options = ["--path-output", str(work), *strict, "-q"]
    done = subprocess.run(
        [sys.executable, "-c", JUPYTER_BOOK, "build", str(site.source), *options],
        capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}, check=False, close_fds=False,
    )
    if done.returncode:
        lines = [line.replace(f"{site.source}/", "") for line in (done.stderr + done.stdout).splitlines()]
        telling = [line for line in lines if re.search(r"WARNING|ERROR|CRITICAL|[Ee]xception", line)] or lines
        raise SiteError("\n  ".join(["rendering failed (the previous site is untouched):", *telling]))
    html = work / "_build" / "html"
    add_vendored(html / "_static")
    first = site.pages()[0]
    if first != "index":
        write_text(html / "index.html", ENTRY.format(page=f"{first}.html"))
    return html


ENTRY = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>The superposition book</title>'
    '<meta http-equiv="refresh" content="0; url={page}"></head>'
    '<body><main><h1>The superposition book</h1><a href="{page}">Open the book</a></main></body></html>\n'
)


def add_vendored(static: Path) -> None:
    """Copy the two scripts pages share, MathJax and plotly, out of the installed packages."""
    packages = ("sphinx-mathjax-offline", "plotly")
    mathjax, plotly = (Path(importlib.util.find_spec(name).origin).parent for name in packages)
    (static / "vendor").mkdir(parents=True, exist_ok=True)
    shutil.copy(mathjax / "static/mathjax/tex-svg-full.js", static / "vendor")
    shutil.copy(plotly / "package_data/plotly.min.js", static)


def swap(new: Path, place: Path) -> None:
    """Put folder `new` at `place`; what was there is removed only after the new one stands."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)
