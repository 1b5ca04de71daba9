"""The site: assembled from executions, rendered once per content, never half-replaced."""
from __future__ import annotations

import base64
import csv
import json
import math
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from book_of_claims import CLAIMS, CODERS, PHASES, TOPOLOSS, BookOfClaims, claim, measured, part, seeds
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats

from lib.files import ROOT, write_json, write_text
from lib.live import Progress
from lib.metrics.statistics import Interval
from lib.press import claims
from lib.press.ledger import VERDICTS
from lib.press.pages import Page
from lib.press.plotly_mime import MIME, PlotlyMime, figure_html
from lib.press.site import Site, SiteError, build, claim_pages, claims_picture, claims_table, crate, pdf
from lib.press.site.figure_data import tables
from lib.press.site.render import swap
from lib.press.site.source import (
    CITED,
    FRAGMENTS,
    assemble,
    executions_table,
    for_page,
    plain,
    png_width,
    recipes,
    with_roles,
)
from lib.press.verdicts import Measured
from lib.studies.superposition_phases.figures import peak_causes

TOC = "format: jb-book\nroot: intro\nparts: [{caption: Studies, chapters: [{file: studies/tiny}, {file: status}]}]\n"
INTRO = "# Tiny book\n\nSee {doc}`studies/tiny`, $x^2$ and {cite:t}`someone`.\n\n```{bibliography}\n```\n"
STUDY = "---\nkernelspec: {name: python3}\n---\n# Tiny\n\n```{code-cell} ipython3\n1\n```\n"
STATUS = "# Status\n\n```{include} _generated/executions.md\n```\n"
BIB = "@misc{someone, author={Some One}, title={A title}, year={2020}}\n"


def png(width: int, height: int) -> str:
    """A white PNG, base64-encoded."""
    rows = zlib.compress((b"\0" + b"\xff" * width) * height)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def code(source: str, data: dict, metadata: dict | None = None, **output_metadata: object) -> dict:
    output = {"output_type": "display_data", "data": data, "metadata": output_metadata}
    cell = {"cell_type": "code", "id": source, "source": source, "execution_count": 1, "outputs": [output]}
    return {**cell, "metadata": metadata or {}}


GLUED = "application/papermill.record/"
DRAWN = "panel,kind,series,x,y,value\n1,line,a,1,2.5,\n"
HERO = "```{glue:figure} hero\n:alt: A hero.\n:name: fig-hero\n\nThe hero.\n```"


def notebook(prose: str = "The gain is {glue:text}`gain`.") -> dict:
    """An execution of STUDY: a PNG with a caption, a plotly figure, a glued number and picture."""
    caption = {"mystnb": {"figure": {"name": "fig-one", "caption": "White. *Nothing* to see in $x$."}}}
    figure = {"data": [{"type": "scatter", "y": [1, 2]}], "layout": {"height": 300, "meta": {"alt": "a line"}}}
    cells = [
        {"cell_type": "markdown", "id": "m1", "metadata": {}, "source": f"# Tiny\n\n{prose}\n\n{HERO}"},
        code("picture", {"image/png": png(400, 100), "text/plain": "<Figure>", "text/csv": DRAWN}, caption),
        code("figure", {MIME: figure, "text/plain": "Figure()"}),
        code("hero", {f"{GLUED}{mime}": value for mime, value in (
            ("image/png", png(40, 10)), ("text/plain", "<Figure>"), ("text/csv", DRAWN.replace("2.5", "7")))},
             scrapbook={"name": "hero", "mime_prefix": GLUED}),
        code("glue", {"text/plain": "0.83"}, scrapbook={"name": "gain", "mime_prefix": ""}),
    ]
    book = {"profile": "quick", "seconds": 12.345, "finished": "2026-01-02T03:04:05+00:00",
            "processor": "One, 2 cores", "facts": {"environment": {"python": "3.11", "timm": None, "device": "cpu"}}}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel, "book": book}, "cells": cells}


def make_book(folder: Path, execute: bool = True) -> Site:
    site = Site(folder / "book", "quick", folder / "_build")
    pages = {"intro.md": INTRO, "studies/tiny.md": STUDY, "status.md": STATUS, "_toc.yml": TOC, "references.bib": BIB}
    for name, text in pages.items():
        path = site.book / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "book" / "_config.yml", site.book)
    shutil.copytree(ROOT / "book" / "_static", site.book / "_static")
    if execute:
        write_json(site.build / "executed/quick/tiny.ipynb", notebook())
    return site


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A tiny book rendered once; tests that change it put it back."""
    site = make_book(tmp_path_factory.mktemp("tiny"))
    assert build(site) is True
    return site


def test_page_shows_what_the_execution_left(built: Site):
    page = (built.html / "studies/tiny.html").read_text(encoding="utf-8")
    assert "The gain is <span" in page and "0.83" in page
    assert 'alt="White. Nothing to see in x."' in page and 'style="width: 200px;"' in page
    assert 'class="plotly-figure"' in page and 'aria-label="Interactive figure: a line.' in page
    assert "0; url=intro.html" in (built.html / "index.html").read_text(encoding="utf-8")
    scripts = ["plotly.min.js", "plotly-init.js", "page.js", "vendor/tex-svg-full.js"]
    assert all((built.html / "_static" / script).is_file() for script in scripts)


def test_under_every_figure_stand_its_numbers_and_its_link(built: Site):
    page, folder = (built.html / "studies/tiny.html").read_text(encoding="utf-8"), built.html / "studies/figures"
    assert re.findall(r'<figure[^>]*id="([\w-]+)"', page) == ["fig-hero", "fig-one"]
    for name in ("fig-hero", "fig-one"):
        caption = re.search(rf'id="{name}".*?<figcaption>(.*?)</figcaption>', page, re.DOTALL)[1]
        assert f'<a href="figures/{name}.csv" download>' in caption and f'class="copy-link" href="#{name}"' in caption
    assert 'id="interactive-1" class="plotly-figure"' in page and 'class="copy-link" href="#interactive-1"' in page
    assert (folder / "fig-one.csv").read_text() == DRAWN
    assert (folder / "fig-hero.csv").read_text() == DRAWN.replace("2.5", "7")
    assert len(list(folder.iterdir())) == 2 and DRAWN not in page
    style = (built.html / "_static/book.css").read_text(encoding="utf-8")
    assert all(f".{name}" in style or name == "copy-link" for name in re.findall(r'class="([\w-]+)"', caption[-200:]))


def test_a_glued_figure_takes_no_name_but_its_own():
    glued = code("both", {"image/png": "", "text/csv": "glued"}, {"mystnb": {"figure": {"name": "fig-own"}}},
                 scrapbook={"name": "hero"})
    glued["outputs"].append({"data": {"image/png": "", "text/csv": "own"}})
    prose = {"cell_type": "markdown", "metadata": {}, "source": HERO + "\n\n" + HERO.replace("fig-hero", "fig-again")}
    assert [*tables({"cells": [glued]})] == [("fig-own", "own")]
    assert [*tables({"cells": [glued, prose]})] == [("fig-hero", "glued"), ("fig-again", "glued"), ("fig-own", "own")]


def test_two_figures_of_one_name_are_refused(tmp_path: Path):
    site, twice = make_book(tmp_path), notebook()
    twice["cells"][1]["outputs"] *= 2
    write_json(site.build / "executed/quick/tiny.ipynb", twice)
    with pytest.raises(SiteError, match="studies/tiny: a second figure named fig-one; name one of them anew in book/"):
        build(site)


def test_a_chapter_that_lands_meanwhile_puts_no_new_numbers_under_an_old_picture(tmp_path: Path, monkeypatch):
    site, execution = make_book(tmp_path), tmp_path / "_build/executed/quick/tiny.ipynb"

    def landing(site: Site) -> Path:
        execution.write_text(execution.read_text().replace("2.5", "9.5").replace("2026-01", "2027-01"))
        for page in site.pages():
            write_text(tmp_path / f"new/{page}.html", '<figure id="fig-one"><figcaption>One.</figcaption></figure>')
        return tmp_path / "new"

    monkeypatch.setattr("lib.press.site.render.render", landing)
    assert build(site)
    assert (site.html / "studies/figures/fig-one.csv").read_text() == DRAWN
    told = json.loads((site.html / crate.NAME).read_text())["@graph"][1]
    assert told["datePublished"].startswith("2026-01")


def test_a_figure_of_a_study_lands_beside_its_page_with_its_numbers(tmp_path: Path):
    runs = pd.DataFrame({"sparsity": 0.8, "seed": range(3), "n_missed": [0, 1, 1], "heldout_loss": [0.02, 0.03, 0.05]})
    fig = peak_causes({"as published": Interval(0.2, 0.1, 0.3)}, {"as published": runs}, 0.8)
    shell = InteractiveShell()
    select_figure_formats(shell, {"png"})
    shown, _ = shell.display_formatter.format(fig)
    site, executed = make_book(tmp_path), notebook()
    executed["cells"][1]["outputs"][0]["data"] = shown
    write_json(site.build / "executed/quick/tiny.ipynb", executed)
    assemble(site)
    rows = list(csv.DictReader((site.beside / "studies/figures/fig-one.csv").open()))
    dots = [row for row in rows if row["kind"] == "line" and row["y_label"] == "held-out loss at S = 0.8"]
    assert [(row["x"], row["y"]) for row in dots] == [("0", "0.02"), ("1", "0.03"), ("1", "0.05")]
    assert {row["series"] for row in dots} == {"as published"}
    assert "text/csv" not in (site.source / "studies/tiny.ipynb").read_text()


def test_the_site_is_a_research_object_of_all_its_pages_and_data(built: Site):
    said = json.loads((built.html / crate.NAME).read_text(encoding="utf-8"))
    entities = {entity["@id"]: entity for entity in said["@graph"]}
    root = entities["./"]
    assert len(entities) == len(said["@graph"]) and entities[crate.NAME]["about"] == {"@id": "./"}
    assert said["@context"].startswith("https://w3id.org/ro/crate/1.1")
    assert said["@context"] == entities[crate.NAME]["conformsTo"]["@id"] + "/context"
    assert all(entity["@type"] and ("name" in entity or entity["@id"] == crate.NAME) for entity in said["@graph"])
    assert all("/" in entity["encodingFormat"] for entity in said["@graph"] if entity["@type"] == "File")
    parts = {part["@id"] for part in root["hasPart"]}
    assert {"intro.html", "studies/tiny.html", "studies/figures/fig-one.csv", "CITATION.cff", "LICENSE"} <= parts
    assert parts == {name for name, entity in entities.items() if entity["@type"] == "File"}
    assert all((built.html / name).is_file() for name in parts)
    assert root["datePublished"] == "2026-01-02T03:04:05+00:00" and "SPDX" in root["license"]["@id"].upper()
    assert root["author"]["@id"] in entities and root["license"]["@id"] in entities


def test_a_validator_accepts_the_research_object(built: Site):
    validator = shutil.which("rocrate-validator")
    if validator is None:
        pytest.skip("no rocrate-validator: put roc-validator, in an environment of its own, on the PATH")
    command = [validator, "--disable-color", "-y", "validate", "--no-paging", "-p", "ro-crate-1.1", str(built.html)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "URLError" in done.stdout:
        pytest.skip("rocrate-validator asks the network for RO-Crate's vocabulary, and there is none")
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_file_holds_every_page_and_its_links_lead_inside(built: Site):
    text = pdf.joined(built)
    titles = ["Tiny book", "Tiny", "Status"]
    assert re.findall(r'<section id="page-(\d)">.*?<h1>(.*?)<', text, re.DOTALL) == [*zip("012", titles, strict=True)]
    ids, links = set(re.findall(r'\bid="([^"]+)"', text)), re.findall(r'<a\b[^>]*\bhref="([^"]+)"', text)
    assert "#page-1" in links and {link.removeprefix("#") for link in links if link.startswith("#")} <= ids
    assert [link for link in links if not link.startswith(("#", "https://"))] == []
    loaded = re.findall(r'<(?:img|link|script)\b[^>]*\b(?:src|href)="file://([^"?]+)', text)
    assert len(loaded) > 5 and all(Path(file).is_file() for file in loaded)


def test_printing_needs_a_browser_and_a_finished_site(built: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SiteError, match="^printing needs Chromium, and none is here; apt-get install chromium$"):
        pdf.write_pdf(built)
    (tmp_path / "chromium").write_text("#!/bin/sh\necho it broke >&2\n")
    (tmp_path / "chromium").chmod(0o755)
    with pytest.raises(SiteError, match="no finished site at .*html; make book$"):
        pdf.write_pdf(make_book(tmp_path))
    write_text(built.build / "book.pdf", "as before")
    with pytest.raises(SiteError, match="chromium printed nothing:\nit broke$"):
        pdf.write_pdf(built)
    assert (built.build / "book.pdf").read_text() == "as before"
    assert {path.name for path in built.build.iterdir()} == {
        ".site.lock", "book.pdf", "executed", "html", "site", "src"}


def test_no_page_loads_anything_from_outside(built: Site):
    for page in built.html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text and "unpkg" not in text and "jsdelivr" not in text, page


def test_unchanged_book_is_left_alone_quickly_and_without_heavy_imports(built: Site):
    start, rendered = time.perf_counter(), (built.html / "intro.html").stat().st_mtime_ns
    script = (
        "import sys; from pathlib import Path;"
        "from lib.press.site import Site; from lib.press.site.__main__ import main;"
        f"code = main(['build', '--book', {str(built.book)!r}]);"
        "heavy = {'sphinx', 'torch', 'pandas', 'numpy', 'matplotlib', 'plotly', 'docutils'} & set(sys.modules);"
        "sys.exit(code or (str(heavy) if heavy else 0))"
    )
    environment = {"BOOK_BUILD": str(built.build), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout and (built.html / "intro.html").stat().st_mtime_ns == rendered
    assert time.perf_counter() - start < 5


def test_stamp_follows_the_citation_and_the_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site, stamps = make_book(tmp_path), []
    for name in ("", *CITED):
        for each in CITED:
            (tmp_path / each).write_text("other" if each == name else "same")
        monkeypatch.setattr("lib.press.site.source.ROOT", tmp_path)
        stamps.append(site.stamp())
    assert len(set(stamps)) == 3


@pytest.mark.parametrize("change", ["page", "execution", "results", "profile"])
def test_stamp_follows_every_input(tmp_path: Path, change: str):
    site = make_book(tmp_path)
    before = site.stamp()
    assert site.stamp() == before
    other = {
        "page": lambda: (site.book / "intro.md").write_text("# Other\n"),
        "execution": lambda: write_json(site.build / "executed/quick/tiny.ipynb", notebook("Other.")),
        "results": lambda: write_json(site.build / "results/quick/tiny.json", {"records": []}),
        "profile": lambda: write_json(site.build / "executed/smoke/tiny.ipynb", notebook()),
    }
    other[change]()
    changed = Site(site.book, "smoke", site.build) if change == "profile" else site
    assert changed.stamp() != before


def test_page_without_execution_is_named_with_the_command(tmp_path: Path):
    site = make_book(tmp_path, execute=False)
    with pytest.raises(SiteError, match=r"studies/tiny: not executed.*python -m lib.press run tiny --profile quick"):
        build(site)
    assert not site.html.exists()


def test_page_missing_from_the_folder_is_named(tmp_path: Path):
    site = make_book(tmp_path)
    (site.book / "status.md").unlink()
    with pytest.raises(SiteError, match="status: in _toc.yml, but .*status.md does not exist"):
        build(site)


def test_unknown_glue_key_fails_and_keeps_the_old_site(built: Site):
    execution = built.build / "executed/quick/tiny.ipynb"
    good, before = execution.read_bytes(), (built.html / "studies/tiny.html").read_bytes()
    write_json(execution, notebook("The gain is {glue:text}`no_such_key`."))
    try:
        with pytest.raises(SiteError, match="WARNING.*no_such_key"):
            build(built)
        assert (built.html / "studies/tiny.html").read_bytes() == before
    finally:
        execution.write_bytes(good)
    assert build(built) is False


def test_fragment_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(site: Site, path: Path) -> None:
        raise ValueError("claims.yml: SP-1 has no source")

    monkeypatch.setitem(FRAGMENTS, "executions.md", refuse)
    with pytest.raises(SiteError, match="_generated/executions.md: claims.yml: SP-1 has no source"):
        build(make_book(tmp_path))


def test_swap_leaves_one_whole_folder(tmp_path: Path):
    place = tmp_path / "html"
    for text in ("first", "second"):
        (tmp_path / "new").mkdir()
        (tmp_path / "new/page").write_text(text)
        swap(tmp_path / "new", place)
        assert (place / "page").read_text() == text and [p.name for p in tmp_path.iterdir()] == ["html"]


def test_executions_table(built: Site):
    row = executions_table(built).splitlines()[-1]
    assert row == "| {doc}`/studies/tiny` | quick | 2026-01-02 03:04 | 12.3 | One, 2 cores | python 3.11 |"


def test_for_page_keeps_what_the_author_set():
    cell = notebook()["cells"][1]
    cell["metadata"]["mystnb"]["image"] = {"alt": "mine"}
    cell["outputs"][0]["metadata"] = {"image/png": {"width": 77}}
    page = for_page({"cells": [cell]})["cells"][0]
    assert page["metadata"]["mystnb"]["image"]["alt"] == "mine"
    assert page["outputs"][0]["metadata"]["image/png"]["width"] == 77


def test_a_page_shows_no_progress(monkeypatch):
    said, lasting = [], {"output_type": "display_data", "data": {"text/plain": "a table"}, "metadata": {}}
    monkeypatch.setattr("IPython.display.display", lambda bundle, metadata, **_: said.append(
        {"output_type": "display_data", "data": bundle, "metadata": metadata}))
    Progress(2, "runs")._show_in_notebook()
    cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [*said, lasting]}
    assert said and for_page({"cells": [cell]})["cells"][0]["outputs"] == [lasting]


def test_png_width_and_plain_words():
    assert png_width(png(1521, 3)) == 1521
    assert plain("The *mean* of $D_i$, see {ref}`why`.\nNext.") == "The mean of D_i, see why. Next."


def test_plotly_leaves_other_outputs_alone_and_cannot_close_its_script():
    other = SimpleNamespace(mime_type="text/html", content="x")
    inline = SimpleNamespace(mime_type=MIME, content={})
    assert PlotlyMime.handle_mime(None, other, False) is None and PlotlyMime.handle_mime(None, inline, True) is None
    name, title = "</script><script>alert(1)", 'a "quoted" <b>'
    html = figure_html({"data": [{"name": name}], "layout": {"title": {"text": title}}})
    assert html.count("</script>") == 1 and "&quot;quoted&quot; &lt;b&gt;" in html
    payload = html.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(payload)["data"][0]["name"] == name


NO_FULL = "No study has been run at *full*, the profile for a GPU."
CLAIMS_TOC = TOC.replace("studies/tiny", f"studies/{PHASES}").replace("status", "claims")
FOUND_IN_CHAPTER = """:::{admonition} Key findings
- **SP-1 The loss peaks** - {verdict}`SP-1`: so it does.

Profile quick.
:::

(claim-sp-1)=
## Here
"""
CLAIMS_PAGES = {
    "intro.md": "# Tiny book\n\nSP-2 is {verdict}`SP-2`.\n\n```{include} _generated/verdict_summary.md\n```\n",
    "claims.md": "# Claims\n\n## The table\n\n```{include} _generated/verdicts.md\n```\n\n```{bibliography}\n```\n",
    f"studies/{PHASES}.md": f"{STUDY}\n{FOUND_IN_CHAPTER}", "references.bib": BIB, "_toc.yml": CLAIMS_TOC,
}


@pytest.fixture(scope="module")
def claims_site(tmp_path_factory: pytest.TempPathFactory):
    """A book of claims rendered once, at a profile that its study stands in for."""
    with pytest.MonkeyPatch.context() as patch:
        book = BookOfClaims(tmp_path_factory.mktemp("claims"), patch)
        (book.root / f"params/{PHASES}/long.yaml").rename(book.root / f"params/{CODERS}/long.yaml")
        book.ledger().judge("SP-1", measured(1.5))
        site = Site(book.root / "book", "long", book.root / "_build")
        for name, text in CLAIMS_PAGES.items():
            (site.book / name).write_text(text, encoding="utf-8")
        shutil.copy(ROOT / "book" / "_config.yml", site.book)
        shutil.copytree(ROOT / "book" / "_static", site.book / "_static")
        write_json(site.build / f"executed/quick/{PHASES}.ipynb", notebook(f"Prose.\n\n{FOUND_IN_CHAPTER}"))
        build(site)
        yield site


def page_of(site: Site, name: str) -> str:
    return (site.html / f"{name}.html").read_text(encoding="utf-8")


def test_a_verdict_leads_to_its_row_and_the_row_to_its_section(claims_site: Site):
    chapter, table, front = (page_of(claims_site, name) for name in (f"studies/{PHASES}", "claims", "intro"))
    assert 'id="claim-sp-1"' in chapter
    assert '<a class="verdict verdict-reproduced" href="../claims/SP-1.html"' in chapter
    assert '<tr id="SP-1">' in table and f'href="studies/{PHASES}.html#claim-sp-1"' in table
    assert f'href="studies/{PHASES}.html"' in re.search(r'<tr id="SP-2">.*?</tr>', table, re.DOTALL)[0]  # no section
    assert '<a class="verdict verdict-no-run-yet" href="claims/SP-2.html"' in front
    assert '<a href="claims/SP-1.html">SP-1</a>' in front


def test_the_stylesheet_knows_key_findings_as_they_are_rendered(claims_site: Site):
    page = page_of(claims_site, f"studies/{PHASES}")
    classes = re.search(r'<div class="([^"]*)">\s*<p class="admonition-title">Key findings', page)[1].split()
    css = (ROOT / "book/_static/book.css").read_text(encoding="utf-8")
    styled = set(re.findall(r"\.([\w-]*key-findings)", css))
    assert len(styled) == 1 and styled <= set(classes)


def test_a_study_that_stands_in_says_so_on_its_page_in_the_table_and_in_the_status(claims_site: Site):
    told = "quick; it has no profile long"
    title, note = page_of(claims_site, f"studies/{PHASES}").split("Shown at profile")[:2]
    assert "<h1>Tiny" in title and note.strip().startswith(told)
    assert told in re.search(r'<tr id="SP-1">.*?</tr>', page_of(claims_site, "claims"), re.DOTALL)[0]
    assert told in executions_table(claims_site).splitlines()[-1]
    missing = Site(claims_site.book, "long", claims_site.build / "elsewhere").problems()
    assert missing == [f"studies/{PHASES}: not executed at profile quick; run: "
                       f"python -m lib.press run {PHASES} --profile quick"]


def test_stamp_follows_the_records_of_a_study_that_stands_in(claims_site: Site):
    records = claims_site.build / f"results/quick/{PHASES}.json"
    before, kept = claims_site.stamp(), records.read_bytes()
    records.write_bytes(kept + b" ")
    changed = claims_site.stamp()
    records.write_bytes(kept)
    assert before == claims_site.stamp() != changed


def test_a_verdict_of_an_unknown_claim_names_the_page(tmp_path: Path):
    with pytest.raises(SiteError, match=r"studies/tiny: {verdict}`SP-9`: no such claim in book/claims.yml"):
        with_roles("One {verdict}`SP-1`, {verdict}`SP-9`.", "studies/tiny", lambda: {"SP-1": "absent"})
    assert with_roles("No word.", "intro", lambda: pytest.fail("nobody asked")) == "No word."


def test_an_interval_in_prose_is_a_number_with_its_ends():
    told = "{glue:text}`gain:.1%` [{glue:text}`gain_low:.1%`, {glue:text}`gain_high:.1%`]"
    assert with_roles("By {ci}`gain:.1%`.", "intro", dict) == f"By {told}."


def test_a_caption_may_show_a_verdict_and_its_alternative_text_stays_plain():
    cell = code("", {"image/png": png(8, 8)}, {"mystnb": {"figure": {"caption": "It is {verdict}`SP-1`."}}})
    shown = for_page({"cells": [cell]}, "intro", lambda: {"SP-1": "absent"})["cells"][0]["metadata"]["mystnb"]
    assert shown["image"]["alt"] == "It is SP-1." and 'href="claims/SP-1.html"' in shown["figure"]["caption"]


def test_a_badge_exists_for_every_word_and_no_other():
    assert claims_table.badge("in part") == '<span class="verdict verdict-in-part">in part</span>'
    assert len(VERDICTS) == 7 and all(word in claims_table.badge(word) for word in (*VERDICTS, "no run yet"))
    grouped = [word for _, words in claims_table.GROUPS.values() for word in words]
    assert sorted(grouped) == sorted((*VERDICTS, "no run yet"))
    with pytest.raises(claims.ClaimError, match="unknown verdict 'plausible'"):
        claims_table.badge("plausible")


def row(id: str, label: str = "quick") -> str:
    """One claim's row as Markdown, its escapes undone."""
    text = claims_table.table(label, {PHASES: "(claim-sp-1)=\n## Here"})
    return re.search(rf'<tr id="{id}">.*?</tr>', text, re.DOTALL)[0].replace("\\", "")


def test_a_row_shows_what_decides(book: BookOfClaims):
    book.ledger().judge("SP-2", [measured(1.5), measured(0.5)], published=[measured(1.5)] * 2, scope="toys",
                        cannot_tell="it is floored")
    shown = row("SP-2")
    for text in ("{doc}`SP-2 </studies/superposition_phases>`", "verdict-contradicted", "SP-2 holds for a|b < *c*.",
                 "0.82, 0.87", "high", "loss over S = 0.9", "0.5 [0.49", "nats, n\u00a0=\u00a05",
                 "over its null -0.5 [", "margin 0.1", "comes out", "Scope: toys.",
                 "The published number cannot tell: it is floored.",
                 "1 of 2 parts reproduced; contradicted: loss over S = 0.9.",
                 "{doc}`rule, history and data </claims/SP-2>`", "exploratory"):
        assert text in shown, text
    first = row("SP-1")
    assert "{ref}`SP-1 <claim-sp-1>`" in first and "1.5 nats" in first and "amended 1 ×" in first
    assert "no run yet" in first and "exploratory" not in first
    text = claims_table.table("quick", {})
    assert "**SP-1**" in text and "{ref}" not in text, "a site without the chapter has nothing to lead to"
    assert text.startswith("4 claims. The rules of 1 were changed") and text.count("<table") == 3
    assert "### SP: superposition" in text and "From [Can sparse autoencoders disentangle" in text


def test_markdown_in_a_claim_stays_text(book: BookOfClaims):
    assert "SP-1 holds for a\\|b \\< \\*c\\*." in claims_table.table("quick", {})


def test_an_identity_shows_no_interval(book: BookOfClaims):
    book.ledger(TOPOLOSS).judge("TL-6", Measured([True]))
    assert "holds\n\n" in row("TL-6") and "by algebra" in row("TL-6") and "over its null" not in row("TL-6")


def test_words_that_differ_between_runs_are_said_and_fresh_seeds_end_the_exploration(book: BookOfClaims):
    book.ledger().judge("SP-1", measured(1.5))
    book.keep("fresh_seeds", "SP-1", measured(0.5))
    book.keep("full", "SP-1", measured(1.5))
    shown = row("SP-1")
    assert "fresh seeds: contradicted, another word than here<" in shown and "full: reproduced<" in shown
    assert "exploratory" not in shown and "long:" not in shown
    assert shown.count('class="verdict ') == 1


def test_a_kept_run_decides_what_here_is_not_tested(book: BookOfClaims):
    book.ledger(CODERS).judge("SV-4", untested="400 steps")
    assert "A question, not answered yet." in row("SV-4") and "exploratory" not in row("SV-4")
    book.keep("long", "SV-4", measured(0.5), CODERS)
    shown = row("SV-4")
    assert shown.index("verdict-not-tested-here") < shown.index("long: <span class=\"verdict verdict-contradicted")
    assert "400 steps." in shown and "long:" in shown.split("Found here")[1] and "0.5 [0.49" in shown
    assert "A question; the answer: no." in shown and "another word" not in shown


def test_a_record_made_under_another_rule_is_called_stale(book: BookOfClaims):
    book.ledger().judge("SP-1", measured(1.5))
    book.keep("fresh_seeds", "SP-1", measured(1.5))
    assert "stale" not in row("SP-1")
    book.write(claim("SP-1", part(margin=0.2)))
    assert "stale: its rule has changed since this run" in row("SP-1")
    assert "fresh seeds: reproduced, stale" in row("SP-1")


def test_the_summary_counts_survived_fell_open_and_questions_apart(book: BookOfClaims):
    assert "- **0 survived**" in claims_table.summary("quick") and "chance" not in claims_table.summary("quick")
    own = book.ledger()
    own.judge("SP-1", measured(1.5))
    own.judge("SP-2", [measured(0.5), measured(1.5)])
    book.ledger(CODERS).judge("SV-4", measured(1.5))
    lines = claims_table.summary("quick").splitlines()
    assert [line.split("**")[1] for line in lines if "**" in line] == ["1 survived", "1 fell", "1 open", "1 question"]
    assert "reproduced</span> 1: <a" in lines[0] and "TL-6</a>" in lines[2] and lines[3].endswith("SV-4</a> yes")
    assert "Of 3 that were judged, 2 read" in lines[5] and "would make at most 0.2 read so on average" in lines[5]
    assert lines[-2:] == ["The rules of 1 of 4 claims were changed after they were first written.", NO_FULL]
    book.keep("full", "SP-1", measured(1.5))
    assert NO_FULL not in claims_table.summary("quick")


def test_a_word_that_the_longer_profile_changes_is_open(book: BookOfClaims):
    own = book.ledger()
    own.judge("SP-1", measured(1.5))
    own.judge("SP-2", [measured(0.5), measured(1.5)])
    book.ledger(CODERS).judge("SV-4", measured(1.5))
    book.ledger(TOPOLOSS).judge("TL-6", untested="no time")
    book.keep("long", "SP-1", measured(0.5))
    book.keep("long", "SV-4", measured(0.5), CODERS)
    book.keep("long", "TL-6", Measured([True]), TOPOLOSS)
    assert claims_table.moved("quick") == {"SP-1": "contradicted", "SV-4": "contradicted"}
    lines = claims_table.summary("quick").splitlines()
    counts = ["0 survived", "1 fell", "2 open", "1 question"]  # TL-6 was not tested here: nothing has changed
    assert [line.split("**")[1] for line in lines if "**" in line] == counts
    assert lines[2].endswith("SP-1</a> reproduced here, contradicted at *long*")
    assert lines[3].endswith("SV-4</a> reproduced here, contradicted at *long*")
    assert "long: contradicted, another word than here: open" in row("SP-1")
    assert "open" not in row("TL-6") and claims_table.moved("long") == claims_table.moved("full") == {}
    book.write(claim("SP-1", part(margin=0.2)), *CLAIMS[1:])  # a stale record changes nothing
    assert claims_table.moved("quick") == {"SV-4": "contradicted"}


def test_a_sign_that_the_longer_profile_changes_is_open_too(book: BookOfClaims):
    """"contradicted" on either side of 0; an interval that holds 0 has no sign, and "absent" stays where it is."""
    book.ledger().judge("SP-1", measured(0.5))
    book.keep("long", "SP-1", measured(-0.5))
    assert claims_table.moved("quick") == {"SP-1": "contradicted, of the other sign"}
    assert claims_table.moved("long") == {}
    assert "SP-1</a> contradicted here, contradicted, of the other sign at *long*" in claims_table.summary("quick")
    assert "long: contradicted, another sign than here: open" in row("SP-1")
    book.keep("long", "SP-1", Measured(seeds(-0.5, spread=0.8), [1.0]))
    assert claims_table.moved("quick") == {} and "than here" not in row("SP-1")


def test_the_summary_says_which_words_stand_on_fresh_seeds(book: BookOfClaims):
    own = book.ledger()
    own.judge("SP-1", measured(1.5))
    book.ledger(CODERS).judge("SV-4", measured(1.5))
    book.ledger(TOPOLOSS).judge("TL-6", untested="no time")
    book.keep("fresh_seeds", "SP-1", measured(0.5))
    book.keep("fresh_seeds", "SV-4", measured(1.5), CODERS)
    book.keep("fresh_seeds", "TL-6", Measured([True]), TOPOLOSS)
    said = claims_table.summary("quick").splitlines()
    assert said[7] == ("On fresh seeds 1 of 2 keep their word; the others read: "
                    '<a href="claims/SP-1.html">SP-1</a> contradicted.')
    book.write(claim("SP-1", part(margin=0.2)), *CLAIMS[1:])  # a stale record says nothing
    assert "On fresh seeds 1 of 1 keep their word." in claims_table.summary("quick").splitlines()


@pytest.mark.parametrize(
    ("page", "profile", "shown"),
    [("instruments/spd", "full", "quick"), (CODERS, "long", "quick"), (PHASES, "long", "long"), (CODERS, "my", "my")],
)
def test_what_stands_in_for_a_profile(book: BookOfClaims, page: str, profile: str, shown: str):
    assert Page(page).standing(profile) == shown


def marks(id: str) -> str:
    """One claim's row of the picture."""
    return re.search(rf'<li><a href="claims/{id}.html">.*?</li>', claims_picture.picture("quick"))[0]


def test_the_picture_places_what_was_found_and_what_was_printed_in_margins_over_the_null(book: BookOfClaims):
    assert [claims_picture.place(v) for v in (-1e9, 0, 1e9)] == [0, 50, 100]
    assert claims_picture.place(1) == 50 + 50 * math.asinh(1) / math.asinh(claims_picture.EDGE)
    book.ledger().judge("SP-1", measured(0.8))  # two margins under its null; printed is five over
    found, printed = claims_picture.place(-2), claims_picture.place(5)
    assert f'<i class="found" style="left:{found:.1f}%"></i>' in marks("SP-1")
    assert f'<i class="printed" style="left:{printed:.1f}%;width:0.0%"></i>' in marks("SP-1")
    assert "verdict-contradicted" in marks("SP-1") and "over its null -0.2 [-0.21," in marks("SP-1")
    assert "printed 1.5 nats" in marks("SP-1") and "SP-1 holds for a|b &lt; *c*." in marks("SP-1")
    less = {"direction": "less", "printed": {"low": 0.5, "high": 0.7, "against": 1.0}}
    book.write(claim("SP-1", part(**less)), *CLAIMS[1:])
    book.ledger().judge("SP-1", measured(0.8))
    ends = claims_picture.place(3), claims_picture.place(5)
    assert f'<i class="found" style="left:{claims_picture.place(2):.1f}%"></i>' in marks("SP-1")
    assert f'class="printed" style="left:{ends[0]:.1f}%;width:{ends[1] - ends[0]:.1f}%"' in marks("SP-1")


def test_the_picture_has_a_row_for_every_claim_also_where_nothing_was_found(book: BookOfClaims):
    book.ledger(TOPOLOSS).judge("TL-6", Measured([True]))
    book.ledger(CODERS).judge("SV-4", untested="400 steps")
    text = claims_picture.picture("quick")
    assert re.findall(r"claims/([A-Z]+-\d+).html", text) == ["SP-1", "SP-2", "SV-4", "TL-6"] and "\n\n" not in text
    assert "no run yet" in marks("SP-1") and "400 steps" in marks("SV-4")
    assert 'class="found' not in text
    book.keep("long", "SV-4", measured(2.0), CODERS)
    assert 'class="found kept"' in marks("SV-4") and "reproduced</span> <small>long</small>" in marks("SV-4")
    assert "long: loss over S = 0.8: 2 [" in marks("SV-4")


def test_an_effect_beyond_the_scale_stands_at_its_edge(book: BookOfClaims):
    book.ledger().judge("SP-1", measured(9.0))
    assert '<i class="found past" style="left:100.0%"></i>' in marks("SP-1")


def test_the_stylesheet_knows_every_mark_of_the_picture(book: BookOfClaims):
    style = (ROOT / "book/_static/book.css").read_text(encoding="utf-8")
    classes = set(re.findall(r'class="([a-z ]+)"', Path(claims_picture.__file__).read_text(encoding="utf-8")))
    for name in {"past", "kept"} | {name for each in classes for name in each.split()}:
        assert f".{name}" in style, name


def claim_page(name: str) -> str:
    """A file of the claims' pages, a page's escapes undone."""
    text = dict(claim_pages.pages("quick", {PHASES: "(claim-sp-1)=\n## Here"}))[name]
    return text.replace("\\", "") if name.endswith(".md") else text


def test_a_claims_page_has_every_run_the_rule_its_history_and_what_would_change_the_word(book: BookOfClaims):
    book.ledger().judge("SP-2", [measured(1.5), measured(0.5)], published=[measured(1.5)] * 2, scope="toys",
                        cannot_tell="it is floored")
    shown = claim_page("claims/SP-2.md")
    for text in ("orphan: true", "# SP-2: what became of it", "**SP-2 holds for a|b < *c*.**", "{doc}`SP-2 </studies/",
                 "<th>loss over S = 0.9</th><td></td><td>contradicted<br>0.5 [0.49", "over its null -0.5 [",
                 "1 of 2 parts reproduced; contradicted: loss over S = 0.9.", "Every part must hold.", "Scope: toys.",
                 "{cite:t}`someone`, page 3.", "Printed besides: place: 0.82, 0.87; height: high",
                 "(more than its null): loss at S = 0.85. Its null: no peak: 1. Margin 0.1 nats: a tenth of the loss.",
                 "Of loss over S = 0.9, 5 seeds show an effect of", "one as small as the margin, 0.1, needs 2 seeds",
                 "rule " + claims.load()["SP-2"].rule[:8] + ": quick contradicted."):
        assert text in shown, text
    unrun = claim_page("claims/SP-1.md")
    assert "2026-01-02: The grid was fixed." in unrun and "No run yet." in unrun
    book.keep("long", "SP-1", measured(1.5))
    kept = claim_page("claims/SP-1.md")
    assert "<thead><tr><td></td><th>printed</th><th>long</th></tr></thead>" in kept and "long reproduced." in kept
    assert "<td>1.5 nats</td><td>reproduced<br>1.5 [1.49" in kept
    book.write(claim("SP-1", part(margin=0.2)), *CLAIMS[1:])
    assert "<th>long, stale</th>" in claim_page("claims/SP-1.md")
    book.write(claim("SP-1", part(name="another name")), *CLAIMS[1:])
    assert "<th>another name</th><td></td><td>–</td>" in claim_page("claims/SP-1.md")


def test_a_claims_data_are_every_number_of_its_runs(book: BookOfClaims):
    book.ledger().judge("SP-1", measured(1.5))
    book.ledger(TOPOLOSS).judge("TL-6", Measured([True]))
    book.keep("fresh_seeds", "SP-1", measured(0.5))
    data = json.loads(claim_page("_static/claims/SP-1.json"))
    assert data["claim"]["id"] == "SP-1" and list(data["runs"]) == ["quick", "fresh seeds"]
    assert data["runs"]["fresh seeds"]["word"] == "contradicted"
    rows = list(csv.DictReader(claim_page("_static/claims/SP-1.csv").splitlines()))
    found = [(r["run"], r["word"], r["n"], float(r["value"]), float(r["over_null"]), r["printed_low"]) for r in rows]
    assert found == [("quick", "reproduced", "5", 1.5, 0.5, "1.5"),
                     ("fresh seeds", "contradicted", "5", 0.5, -0.5, "1.5")]
    identity, = csv.DictReader(claim_page("_static/claims/TL-6.csv").splitlines())
    assert identity["word"] == "reproduced" and identity["value"] == identity["margin"] == ""


def test_draft_shows_what_is_done_and_the_headings_of_the_rest(tmp_path: Path):
    site = make_book(tmp_path, execute=False)
    study = site.book / "studies/tiny.md"
    study.write_text(STUDY + "\n(sec-why)=\n## Why\n\nIt is {glue:text}`gain`.\n\n```python\n# no heading\n```\n")
    (site.book / "intro.md").write_text(INTRO + "\n{ref}`why <sec-why>`\n")
    draft = Site(site.book, site.profile, site.build, is_draft=True)
    assert build(draft) and not build(draft)
    page = (draft.html / "studies/tiny.html").read_text(encoding="utf-8")
    assert "still being computed" in page and "Why" in page
    assert ">gain" not in page and "{glue" not in page and "no heading" not in page
    assert 'href="studies/tiny.html#sec-why"' in (draft.html / "intro.html").read_text(encoding="utf-8")
    write_json(site.build / "executed/quick/tiny.ipynb", notebook())
    study.write_text(STUDY)
    (site.book / "intro.md").write_text(INTRO)
    assert build(site), "the whole site takes the draft's place"
    assert "still being computed" not in (site.html / "studies/tiny.html").read_text(encoding="utf-8")


def test_a_draft_is_rendered_once_a_page_is_done_and_rests_in_between(monkeypatch):
    from lib.press import drafts

    clock, started = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(drafts.time, "monotonic", lambda: clock.now)
    process = SimpleNamespace(returncode=None, poll=lambda: process.returncode)
    monkeypatch.setattr(drafts.Drafts, "_render", lambda _: started.append(clock.now) or process)
    made, jobs = drafts.Drafts("quick"), [SimpleNamespace(state="running") for _ in range(3)]

    def at(now: float, done: int, returncode: int | None = None) -> list[float]:
        clock.now, process.returncode = now, returncode
        for job in jobs[:done]:
            job.state = "done"
        made.follow(jobs)
        return started

    assert at(5, done=0) == [] and at(10, done=1) == [10]
    assert at(40, done=2) == [10], "one at a time"
    assert at(50, done=2, returncode=0) == [10] and at(100, done=2) == [10], "it took 40 s, so it rests for 160"
    assert at(210, done=2) == [10, 210] and at(300, done=3, returncode=0) == [10, 210], "nothing runs: the site follows"


def test_recipes_are_those_of_the_readme(tmp_path: Path):
    assert recipes("text\n\n<details><summary>A > B</summary>\n\n```python\n1\n```\n</details>\n\nmore\n") == (
        "## A > B\n\n```python\n1\n```\n")
    site = make_book(tmp_path)
    (site.book / "status.md").write_text("# Recipes\n\n```{include} _generated/recipes.md\n```\n", encoding="utf-8")
    assert build(site)
    page = (site.html / "status.html").read_text(encoding="utf-8")
    assert page.count('href="#') > 3 and "<details" not in page and page.count('class="highlight') > 2
