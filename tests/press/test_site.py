"""The site: assembled from executions, rendered once per content, never half-replaced."""
from __future__ import annotations

import base64
import json
import shutil
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib.files import ROOT, write_json
from lib.press.plotly_mime import MIME, PlotlyMime, figure_html
from lib.press.site import Site, SiteError, build
from lib.press.site.render import swap
from lib.press.site.source import FRAGMENTS, executions_table, for_page, plain, png_width

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


def notebook(prose: str = "The gain is {glue:text}`gain`.") -> dict:
    """An execution of STUDY: a PNG with a caption, a plotly figure, a glued number."""
    caption = {"mystnb": {"figure": {"name": "fig-one", "caption": "White. *Nothing* to see in $x$."}}}
    figure = {"data": [{"type": "scatter", "y": [1, 2]}], "layout": {"height": 300, "meta": {"alt": "a line"}}}
    cells = [
        {"cell_type": "markdown", "id": "m1", "metadata": {}, "source": f"# Tiny\n\n{prose}"},
        code("picture", {"image/png": png(400, 100), "text/plain": "<Figure>"}, caption),
        code("figure", {MIME: figure, "text/plain": "Figure()"}),
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
