"""A new study laid by the scaffold really runs, keeps the layout, and disturbs nothing when it is refused."""
import json
import os
import shutil
import subprocess
import sys

import layout
import pytest
import yaml

from lib.files import ROOT
from lib.press import scaffold
from lib.press.site.source import CITED

CONTENTS = (ROOT / "book/_toc.yml").read_text()


GLOSSARY = "# Glossary\n\n:::{glossary}\nseed\n: A number.\ninterference\n: Overlap.\n:::\n"
LITTLE_BOOK = "format: jb-book\nroot: glossary\nchapters:\n  - file: studies/penguins\n"


def python(root, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")} | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=180
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of what a study needs of this checkout, with penguins laid in it by the command line."""
    root = tmp_path_factory.mktemp("scaffold").resolve()
    shutil.copytree(ROOT / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("book/_toc.yml", "book/claims.yml", "pyproject.toml"):
        (root / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    laid = python(root, "lib.press.scaffold", "penguins")
    assert laid.returncode == 0, laid.stderr
    assert "params/penguins/smoke.yaml" in laid.stdout and "make run STUDY=penguins PROFILE=smoke" in laid.stdout
    return root


def test_new_study_keeps_the_layout_but_for_its_reference(checkout):
    [problem] = layout.missing_rooms(checkout, "penguins")
    assert problem == "penguins: tests/reference/penguins.ipynb is missing; make reference STUDY=penguins"
    assert layout.parameter_problems(checkout, "penguins") == []
    assert "my_study" not in "".join((checkout / file).read_text() for file in scaffold.rooms("penguins"))


@pytest.mark.slow
def test_new_chapter_executes_and_its_reference_can_be_made(checkout):
    done = python(checkout, "lib.press", "run", "penguins", "--profile", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = json.loads((checkout / "_build/executed/smoke/penguins.ipynb").read_text())
    text = json.dumps([cell.get("outputs") for cell in notebook["cells"]])
    assert "trained below null: 3 of 3" in text
    assert "application/papermill.record/image/png" in text  # the hero figure, glued
    made = python(checkout, "lib.press.reference", "penguins")
    assert made.returncode == 0, made.stderr
    assert layout.missing_rooms(checkout, "penguins") == []
    assert layout.notebook_problems(checkout, ["tests/reference/penguins.ipynb"]) == []


@pytest.mark.slow
def test_new_chapter_renders_without_a_warning(checkout):
    """Labels, glued numbers, glossary terms: a warning fails the build. The glossary alone stands beside it."""
    shutil.copytree(ROOT / "book/_static", checkout / "book/_static")
    for file in ("_config.yml", "references.bib"):
        shutil.copy(ROOT / "book" / file, checkout / "book" / file)
    for file in CITED:
        shutil.copy(ROOT / file, checkout)
    (checkout / "book/glossary.md").write_text(GLOSSARY)
    (checkout / "book/_toc.yml").write_text(LITTLE_BOOK)
    done = python(checkout, "lib.press", "run", "penguins", "--profile", "smoke")
    assert done.returncode == 0, done.stderr
    built = python(checkout, "lib.press.site", "build", "--profile", "smoke")
    assert built.returncode == 0, built.stdout + built.stderr
    page = (checkout / "_build/html/studies/penguins.html").read_text()
    assert "Key findings" in page and 'id="fig-penguins-hero"' in page


def test_new_study_passes_its_own_test(checkout):
    done = python(checkout, "pytest", "-p", "no:cacheprovider", "tests/studies/penguins")
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


def test_new_files_are_clean(checkout):
    files = ["lib/studies/penguins", "tests/studies/penguins"]
    done = python(checkout, "ruff", "check", "--no-cache", *files)
    assert done.returncode == 0, done.stdout
    assert [p for p in layout.library_problems(checkout) if "penguins" in p] == []
    assert layout.outside_mentions(checkout, scaffold.rooms("penguins")) == []


@pytest.fixture
def bare(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book/_toc.yml").write_text(CONTENTS)
    return tmp_path


def test_contents_gain_one_line(bare):
    scaffold.lay("penguins", bare)
    line = "      - file: studies/penguins\n"
    entered = (bare / "book/_toc.yml").read_text()
    assert line in entered and entered.replace(line, "") == CONTENTS
    [studies] = [part for part in yaml.safe_load(entered)["parts"] if part.get("caption") == "Studies"]
    assert studies["chapters"][-1] == {"file": "studies/penguins"}


def files_under(root):
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


BAD_SLUGS = ["Penguins", "two-words", "1st", "_x", "class", "", "a/b", "../x", "a b", "é", "x" * 41]


@pytest.mark.parametrize("name", BAD_SLUGS)
def test_bad_slug_is_refused(bare, name):
    before = files_under(bare)
    with pytest.raises(scaffold.ScaffoldError, match="not a slug; use lowercase letters"):
        scaffold.lay(name, bare)
    assert files_under(bare) == before


@pytest.mark.parametrize(
    ("room", "named"),
    [
        ("book/studies/penguins.md", "book/studies/penguins.md"),
        ("params/penguins/sweep_seed.yaml", "params/penguins"),
        ("lib/studies/penguins/train.py", "lib/studies/penguins"),
        ("tests/studies/penguins/test_train.py", "tests/studies/penguins"),
        ("tests/test_penguins.py", "tests/test_penguins.py"),
        ("tests/reference/penguins.ipynb", "tests/reference/penguins.ipynb"),
    ],
)
def test_existing_room_is_refused_and_kept(bare, room, named):
    (bare / room).parent.mkdir(parents=True, exist_ok=True)
    (bare / room).write_text("mine")
    before = files_under(bare)
    with pytest.raises(scaffold.ScaffoldError, match=f"^penguins: {named} exists; choose another name or remove it"):
        scaffold.lay("penguins", bare)
    assert files_under(bare) == before


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (CONTENTS.replace("caption: Studies", "caption: Essays"), "no part `caption: Studies`"),
        (CONTENTS.replace("studies/superposition_phases", "studies/penguins"), "lists studies/penguins; choose"),
    ],
)
def test_contents_without_a_place_are_refused(bare, contents, message):
    (bare / "book/_toc.yml").write_text(contents)
    with pytest.raises(scaffold.ScaffoldError, match=message):
        scaffold.lay("penguins", bare)
    assert files_under(bare) == {"book/_toc.yml": contents}


@pytest.mark.parametrize("fails_at", range(len(scaffold.rooms("penguins")) + 1))
def test_what_cannot_be_written_whole_is_taken_back(bare, monkeypatch, fails_at):
    before, written = files_under(bare), []

    def failing(path, text):
        if len(written) == fails_at:
            raise OSError("disk full")
        written.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    monkeypatch.setattr(scaffold, "write_text", failing)
    with pytest.raises(OSError, match="disk full"):
        scaffold.lay("penguins", bare)
    assert files_under(bare) == before and not list(bare.rglob("penguins"))


def test_refusal_is_one_line_and_a_nonzero_exit(checkout):
    again = python(checkout, "lib.press.scaffold", "penguins")
    assert again.returncode == 2 and again.stdout == ""
    assert again.stderr == "study: penguins: book/studies/penguins.md exists; choose another name or remove it first\n"
