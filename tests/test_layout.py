"""One name, one study, every room: the tree keeps its promises, and each check is seen to fail on a broken tree."""
import subprocess
import sys
from pathlib import Path

import floors
import layout
import pytest
import sizes

import lib
from lib.files import ROOT
from lib.press.claims import STUDIES
from lib.press.scaffold import lay

CONTENTS = "root: intro\nparts:\n  - caption: Studies\n    chapters:\n      - file: studies/{}\n"
CHAPTER, QUICK = "book/studies/penguins.md", "params/penguins/quick.yaml"


@pytest.fixture(scope="module")
def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked or ignored cannot be asked")
    return layout.git(ROOT, "ls-files", "-z")


def test_a_chapters_asserts_stand_in_check_cells_and_say_their_values(tmp_path):
    assert layout.loose_asserts(ROOT) == []
    page = tmp_path / "book/studies/one.md"
    page.parent.mkdir(parents=True)
    cells = ("assert 1", ":tags: [check]\n\nassert 1, 2")
    page.write_text("".join(f"```{{code-cell}} ipython3\n{cell}\n```\n\n" for cell in cells))
    where = "book/studies/one.md: code cell 1: "
    problems = [f"{where}asserts, and is not tagged check", f"{where}an assert says no values"]
    assert layout.loose_asserts(tmp_path) == problems


@pytest.mark.parametrize("slug", layout.slugs(ROOT))
def test_a_chapter_keeps_to_its_bounds_and_begins_with_its_answer(slug):
    assert layout.chapter_problems(ROOT, slug) == []


def test_a_chapter_beyond_its_bounds_is_named(tree):
    assert layout.chapter_problems(tree, "penguins") == []
    edit(tree / CHAPTER, "Yes: by {ci}`effect:.2f` in {glue:text}`seeds:d` models.\n", "Yes.\n")
    edit(tree / CHAPTER, 'glue("hero", ', f"{'x' * 89}\nglue('hero', ")
    edit(tree / CHAPTER, "## Provenance", f"{'{ci}`a:.2f` ' * 4}\n\n## Provenance{chr(10) * 600}")
    edit(tree / CHAPTER, "quote(globals())", "tell(a=1)")
    found = [problem.partition(": ")[2] for problem in layout.chapter_problems(tree, "penguins")]
    assert found[0].endswith(" lines, at most 700") and found[1:] == [
        "89 columns of code, at most 88", "4 intervals in a paragraph, at most 3",
        "no computed sentence under the title answers it", "quote(globals()) stands 0 times, expected 1",
        "tell( stands 1 times, expected 0"]


@pytest.mark.parametrize("slug", layout.slugs(ROOT))
def test_every_room_of_the_study_is_there(slug):
    assert layout.missing_rooms(ROOT, slug) == []


@pytest.mark.parametrize("slug", layout.slugs(ROOT))
def test_parameter_files_tell_their_story_and_agree_with_the_chapter(slug):
    assert layout.parameter_problems(ROOT, slug) == []


def test_there_is_a_study_and_the_book_has_eight():
    assert layout.slugs(ROOT) and len(STUDIES) == len(set(STUDIES)) == 8


def test_claims_belong_to_studies_of_the_book():
    assert layout.claim_problems(ROOT) == []


def test_library_is_this_checkouts_and_not_ignored(tracked):
    assert Path(lib.__file__).resolve() == Path(__file__).resolve().parents[1] / "lib" / "__init__.py"
    assert layout.ignored_library_files(ROOT) == []


def test_tracked_files_name_no_machine_and_no_package_host(tracked):
    assert layout.outside_mentions(ROOT, tracked) == []


def test_only_small_references_are_notebooks_in_git(tracked):
    assert layout.notebook_problems(ROOT, tracked) == []


def test_no_two_test_files_share_a_name(tmp_path):
    assert layout.namesakes(ROOT) == []
    for folder in ("a", "b"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "test_x.py").write_text("")
    assert layout.namesakes(tmp_path) == ["tests/b/test_x.py: tests/a/test_x.py has that name already; rename one"]


def test_imports_go_down():
    assert floors.climbing_imports(ROOT) == []


@pytest.mark.parametrize("instrument", ["sparse_coders", "topoloss", "spd"])
def test_an_instrument_imports_neither_what_takes_long_nor_another_instrument(instrument):
    """Seconds would be the machine's; all that is slow to import, torch apart, stands here by name."""
    code = f"import sys, lib.{instrument}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not loaded & {"pandas", "pyarrow", "scipy", "sklearn", "statsmodels", "matplotlib", "plotly", "torchvision"}
    others = {"lib.sparse_coders", "lib.topoloss", "lib.spd"} - {f"lib.{instrument}"}
    assert not loaded & others and f"lib.{instrument}" in loaded


def test_every_module_of_the_library_has_somebody_to_serve(monkeypatch):
    assert floors.lone_modules(ROOT) == [] and len(floors.FOR_STRANGERS) <= 12
    monkeypatch.setattr(floors, "FOR_STRANGERS", ("metrics.statistics", *floors.FOR_STRANGERS[1:]))
    problems = "\n".join(floors.lone_modules(ROOT))
    assert "lib/activations/patching.py: one study at most uses it" in problems
    assert "lib.metrics.statistics is for strangers no longer" in problems
    assert "lib.metrics.statistics is for strangers, but no recipe" in problems


def test_pages_import_what_is_theirs(tree):
    assert floors.page_imports(ROOT) == floors.page_imports(tree) == []
    (tree / "book/instruments").mkdir()
    stray = {"instruments/x": "studies.penguins", "studies/emus": "studies.penguins", "studies/penguins": "press.jobs"}
    for page, module in stray.items():
        (tree / f"book/{page}.md").write_text(f"```{{code-cell}} ipython3\nfrom lib.{module} import x\n```\n")
    assert {line.removesuffix(".x") for line in floors.page_imports(tree)} == {
        f"book/{page}.md imports lib.{module}" for page, module in stray.items()}


def test_wings_are_within_their_bounds():
    assert sizes.too_large(ROOT) == []
    assert sizes.unwieldy(ROOT) == []


def test_library_keeps_its_habits():
    assert layout.library_problems(ROOT) == []


@pytest.fixture
def tree(tmp_path):
    """A miniature tree with one whole study, penguins."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book/_toc.yml").write_text(CONTENTS.format("superposition_phases"))
    lay("penguins", tmp_path)
    (tmp_path / "book/_toc.yml").write_text(CONTENTS.format("penguins"))
    (tmp_path / "tests/reference").mkdir()
    (tmp_path / "tests/reference/penguins.ipynb").write_text("{}")
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_whole_miniature_has_no_problem(tree):
    assert layout.slugs(tree) == ["penguins"]
    assert layout.missing_rooms(tree, "penguins") == layout.parameter_problems(tree, "penguins") == []
    assert layout.library_problems(tree) == []


@pytest.mark.parametrize(
    "room",
    [
        CHAPTER, QUICK, "params/penguins/smoke.yaml", "params/penguins/full.yaml", "lib/studies/penguins/protocol.py",
        "tests/studies/penguins/test_penguins.py", "tests/reference/penguins.ipynb",
    ],
)
def test_a_missing_room_is_named(tree, room):
    (tree / room).unlink()
    [problem] = layout.missing_rooms(tree, "penguins")
    assert problem.startswith(f"penguins: {room} is missing")
    assert layout.parameter_problems(tree, "penguins") == []  # told once


def test_a_chapter_left_out_of_the_contents_is_named(tree):
    (tree / "book/_toc.yml").write_text(CONTENTS.format("whales"))
    assert layout.missing_rooms(tree, "penguins") == ["penguins: book/_toc.yml does not list studies/penguins"]
    assert layout.slugs(tree) == ["penguins", "whales"] and len(layout.missing_rooms(tree, "whales")) == 7


@pytest.mark.parametrize(
    "room", ["book/studies/emus.md", "params/emus", "lib/studies/emus/protocol.py", "tests/studies/emus/test_emus.py",
             "tests/reference/emus.ipynb"]
)
def test_one_room_makes_a_study_that_lacks_the_others(tree, room):
    (tree / room if room.startswith("params") else (tree / room).parent).mkdir(parents=True, exist_ok=True)
    if not room.startswith("params"):
        (tree / room).write_text("")
    assert layout.slugs(tree) == ["emus", "penguins"]
    others = 8 if room.startswith("params") else 7  # an empty folder still lacks its three files
    assert len(layout.missing_rooms(tree, "emus")) == others


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (QUICK, "# Reproduces: ", "# About ", "quick.yaml: line 1 must be `# Reproduces: ...`"),
        (QUICK, "press run penguins", "press run", "quick.yaml: line 2 must be `# Command: ...` with the command"),
        (QUICK, "a few seconds", "soon", "quick.yaml: line 2 must be `# Command: ...` with the command"),
        (QUICK, "# Expected: ", "#\n# Expected: ", "quick.yaml: line 3 must be `# Expected: ...`"),
        (QUICK, "seeds: 8", "seeds: 8.0", "seeds: input should be a valid integer, got 8.0 (float)"),
        (QUICK, "seeds: 8", "seeds: 9", "seeds is 8 in the parameters cell, 9 in quick.yaml"),
        (QUICK, "sparsity: 0.9", "sparsity: 0", "sparsity is 0.9 in the parameters cell, 0 in quick.yaml"),
        (QUICK, "steps:", "step:", "unknown parameter step; did you mean steps?"),
        (QUICK, "profile: quick", "profile: full", "quick.yaml: profile says 'full'"),
        ("params/penguins/full.yaml", "draws: 1000", "draws: 1e3", "YAML reads 1e3 as text"),
        (CHAPTER, "steps = 1000 ", "steps = 1000.0 ", "steps is 1000.0 in the parameters cell, 1000 in quick.yaml"),
        (CHAPTER, "seed = 0 ", "seed = False ", "seed is False in the parameters cell, 0 in quick.yaml"),
        (CHAPTER, "n_hidden = 4  # dimensions they share\n", "", "has profile, seed, seeds, n_features, sparsity"),
        (CHAPTER, "n_hidden = 4  #", "n_hidden = 4; s = 1  #", "has profile, seed, seeds, n_features, n_hidden, s,"),
        (CHAPTER, "n_hidden = 4", "n_hidden = 2 * 2", "parameters cell: "),
        (CHAPTER, "n_hidden = 4", "print()", "parameters cell: line 5 is not `name = value`"),
        (CHAPTER, ":tags: [parameters]", ":tags: []", "0 cells are tagged parameters, expected one"),
    ],
)
def test_a_parameter_file_or_cell_gone_astray_is_named(tree, file, old, new, problem):
    edit(tree / file, old, new)
    assert problem in "\n".join(layout.parameter_problems(tree, "penguins"))


def test_a_long_profile_that_trains_hardly_longer_is_named(tree):
    text = (tree / QUICK).read_text().replace("profile: quick", "profile: long")
    (tree / "params/penguins/long.yaml").write_text(text.replace("steps: 1000", "steps: 1999"))
    [problem] = layout.parameter_problems(tree, "penguins")
    assert problem == "params/penguins/long.yaml: steps is 1999, expected at least twice quick's 1000"
    edit(tree / "params/penguins/long.yaml", "steps: 1999", "steps: 2000")
    assert layout.parameter_problems(tree, "penguins") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("def metric(x):\n    return x\n", ":1: metric has no docstring"),
        ("class Metric:\n    pass\n", ":1: Metric has no docstring"),
        ("def _own(x):\n    print(x)\n", ":2: only command lines print"),
        ("LINE = '#0072B2'\n", ":1: colour #0072B2: colours belong"),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None\n", ":3: except ImportError hides"),
        ("try:\n    import torch\nexcept (OSError, ModuleNotFoundError):\n    pass\n", ":3: except ImportError hides"),
    ],
)
def test_a_library_habit_broken_is_named(tree, line, problem):
    (tree / "lib/stray.py").write_text(line)
    assert [p.startswith(f"lib/stray.py{problem}") for p in layout.library_problems(tree)] == [True]


@pytest.mark.parametrize(
    ("file", "line", "problem"),
    [
        ("lib/metrics/x.py", "from lib.figures import style", "metrics (floor 3) imports lib.figures.style (floor 7)"),
        ("lib/metrics/x.py", "import lib.data.images", "metrics (floor 3) imports lib.data.images (floor 3)"),
        ("lib/models/x.py", "def f():\n    from lib import spd", "models (floor 4) imports lib.spd (floor 6)"),
        ("lib/spd/x.py", "from lib.studies.penguins import protocol", "spd (floor 6) imports lib.studies.penguins."),
        ("lib/spd/x.py", "from lib.press.runs import reuse", "spd (floor 6) imports lib.press.runs.reuse (floor 8)"),
        ("lib/press/x.py", "from lib.studies.penguins import protocol", "press (floor 8) imports lib.studies.penguins"),
        ("lib/studies/emus/x.py", "from lib.studies.penguins import protocol", "study emus imports study penguins"),
        ("lib/studies/emus/x.py", "from lib.press.jobs import Press", "a study imports lib.press.jobs.Press"),
        ("lib/metrics/x.py", "from ..figures import style", "(relative) stands on no floor"),
        ("lib/metrics/x.py", "load('lib.press.jobs')", "metrics (floor 3) imports lib.press.jobs (floor 8)"),
        ("lib/studies/emus/x.py", "from lib.press.runs_too import x", "a study imports lib.press.runs_too.x"),
        ("lib/attic/x.py", "from lib.files import ROOT", "attic stands on no floor"),
    ],
)
def test_an_import_that_climbs_is_named(tree, file, line, problem):
    (tree / file).parent.mkdir(parents=True, exist_ok=True)
    (tree / file).write_text(line)
    [found] = floors.climbing_imports(tree)
    assert found.startswith(f"{file}: ") and problem in found


def test_imports_that_go_down_are_none_to_name(tree):
    (tree / "lib/spd").mkdir()
    (tree / "lib/spd/x.py").write_text("from lib.models import toy_training\nfrom lib.spd import masks\nimport torch")
    (tree / "lib/studies/penguins/x.py").write_text("from lib.press.runs import reuse\nfrom lib.spd import x")
    assert floors.climbing_imports(tree) == []


def test_a_wing_beyond_its_bound_is_named(tree):
    (tree / "lib/spd.py").write_text("x = 1\n" * (sizes.BOUNDS["library"] + 1))
    (tree / "lib/studies/penguins/long.py").write_text("x = 1\n" * 2_000)
    library, penguins = sizes.too_large(tree)
    assert library.startswith(f"library: {sizes.BOUNDS['library'] + 1} lines")
    assert penguins.startswith("studies/penguins: 20")


def test_a_function_too_long_or_with_too_many_parameters_is_named(tree):
    many = ", ".join("abcdefghij")
    (tree / "lib/spd.py").write_text(f"def f({many}):\n    return a\n\ndef _own({many}):\n    return a\n")
    (tree / "lib/long.py").write_text("def f():\n" + "    x = 1\n" * 60)
    long, wide = sizes.unwieldy(tree)
    assert long == "lib/long.py:1 f: 61 lines, at most 60" and wide == "lib/spd.py:1 f: 10 parameters, at most 9"


def test_command_lines_may_print_and_an_import_error_may_be_told_better(tree):
    (tree / "lib/press").mkdir()
    (tree / "lib/press/__main__.py").write_text("print('kept')\n")
    told = "try:\n    import torch\nexcept ImportError as error:\n    raise OSError('install torch') from error\n"
    (tree / "lib/told.py").write_text(told)
    assert layout.library_problems(tree) == []


def test_an_ignored_library_is_found(tree):
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    assert layout.ignored_library_files(tree) == []
    (tree / ".gitignore").write_text("lib/\n")
    rooms = [f"lib/studies/penguins/{name}.py" for name in ("__init__", "knobs", "protocol")]
    assert sorted(layout.ignored_library_files(tree)) == rooms


@pytest.mark.parametrize(
    "mention", ["/wor{}k/main", "/roo{}t/.cache", "/tm{}p/research/x", "/hom{}e/ada/x", "https://pyp{}i.org/simple",
                "files.pytho{}nhosted.org", "--inde{}x-url x", "registr{}y.npmjs.org", "fil{}e:///opt/x"]
)
def test_a_path_of_one_machine_or_a_package_host_is_found(tree, mention):
    (tree / "notes.md").write_text(f"see\n{mention.format('')}")
    assert [p.split(":")[:2] for p in layout.outside_mentions(tree, ["notes.md"])] == [["notes.md", "2"]]


def test_paths_inside_the_tree_are_no_machine_paths(tree):
    (tree / "notes.md").write_text("_build/work/x, sweeps/S/work/<id>, `lib/root/`, a/home/b, home_page")
    assert layout.outside_mentions(tree, ["notes.md"]) == []


def test_notebooks_elsewhere_or_large_are_found(tree):
    (tree / "tests/reference/penguins.ipynb").write_text("x" * 49153)
    (tree / "book/stray.ipynb").write_text("{}")
    files = ["tests/reference/penguins.ipynb", "book/stray.ipynb", CHAPTER]
    stray, large = layout.notebook_problems(tree, files)
    assert stray.startswith("book/stray.ipynb: only")
    assert large.startswith("tests/reference/penguins.ipynb: 49153 bytes")


def test_a_claim_of_an_unknown_study_is_found(tree):
    (tree / "book/claims.yml").write_text("- {id: PE-1, study: penguins}\n- {id: SP-1, study: superposition_phases}\n")
    assert layout.claim_problems(tree) == ["claims.yml: PE-1: unknown study 'penguins'"]
