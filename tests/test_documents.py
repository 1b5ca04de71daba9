"""README and CONTRIBUTING say what is true: links, make targets, which studies have landed, the example's output."""
import os
import re
import subprocess
import sys

import layout
import pytest

import lib
from lib.files import ROOT
from lib.press.claims import STUDIES

DOCUMENTS = ("README.md", "CONTRIBUTING.md")
README = (ROOT / "README.md").read_text()
RECIPES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def broken_links(text, root):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    return [link for link in links if "://" not in link and not (root / link).exists()]


def unknown_targets(text, makefile):
    return sorted(set(re.findall(r"\bmake ([a-z][a-z-]+)", "\n".join(code(text)))) - set(targets(makefile)))


def code(text):
    """What stands in backticks or fenced blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return blocks + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def targets(makefile):
    return re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_resolve(name):
    assert broken_links((ROOT / name).read_text(), ROOT) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_targets_exist(name):
    assert unknown_targets((ROOT / name).read_text(), (ROOT / "Makefile").read_text()) == []


def test_a_broken_link_and_an_unknown_target_are_found(tmp_path):
    (tmp_path / "here.md").touch()
    assert broken_links("[a](here.md) [b](gone.md) [c](https://x.org/y)", tmp_path) == ["gone.md"]
    assert unknown_targets("they make things; `make book`, then\n```sh\nmake tea\n```\n", "book: x ## all\n") == ["tea"]


def missing_rooms(text, root):
    """Rows of the table of tasks whose files define none of the names to look at, or that name no file."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)[2:]
    problems = []
    for task, where, names in rows:
        sources = [(root / file).read_text() for file in re.findall(r"\]\((lib/[^)]+\.py)\)", where)]
        for name in re.findall(r"`(\w+)`", names):
            if not any(re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE) for source in sources):
                problems.append(f"{task}: {name} is defined in none of {where}")
    return problems if len(rows) >= 10 else [*problems, f"{len(rows)} tasks"]


def test_the_table_of_tasks_fits_the_tree():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert missing_rooms(text, ROOT) == []
    [moved] = missing_rooms(text.replace("`null_distribution`", "`null_law`"), ROOT)
    assert moved.startswith("add a metric with its null: null_law is defined in none of")


def test_the_map_lists_every_room_and_a_spine_of_twenty_files():
    rooms = {path.parent.name for path in (ROOT / "lib").glob("*/__init__.py")}
    rooms |= {path.stem for path in (ROOT / "lib").glob("*.py")} - {"__init__"}
    assert set(re.findall(r"^    lib\.(\w+) ", lib.__doc__, re.MULTILINE)) == rooms - {"studies", "press"}
    spine = re.findall(r"[\w/]+\.py", lib.__doc__.split("The spine")[1])
    assert len(set(spine)) == 20 and [file for file in spine if not (ROOT / "lib" / file).is_file()] == []


def test_landed_studies_are_in_the_table_and_the_others_are_planned():
    landed = re.findall(r"^\| `(\w+)` \| \[chapter\]", README, re.MULTILINE)
    planned = re.findall(r"^- `(\w+)`: ", README, re.MULTILINE)
    assert sorted(landed) == [slug for slug in layout.slugs(ROOT) if slug in STUDIES]
    assert sorted(landed + planned) == sorted(STUDIES)


def test_example_prints_what_is_said_of_it():
    out = run(RECIPES[0], ROOT)
    common, rare = (sorted(map(float, row.split(","))) for row in re.findall(r"\[([\d., ]+)\]", out))
    assert common == [0, 0, 0.5, 0.5, 0.5, 0.5] and rare == [0, 0.4, 0.4, 0.4, 0.4, 0.4]


def test_timm_is_imported_as_the_readme_and_the_map_say(tmp_path):
    [recipe] = [text for text in RECIPES if "import_torchvision" in text]
    assert run(recipe + "import timm.models, torchvision.ops", tmp_path) == "resnet18\n"
    assert "torchvision::nms does not exist" in README and 'import_torchvision("timm")' in lib.__doc__


OWN, RECIPES = [text for text in RECIPES if "# yours" in text], [text for text in RECIPES if "# yours" not in text]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES[1:], ids=lambda text: re.search(r"from lib\.([\w.]+)", text)[1])
def test_recipes_run(recipe, tmp_path):
    assert run(recipe, tmp_path)


def test_a_readers_activations_become_a_coder(tmp_path):
    [recipe] = [text for text in OWN if "lib.sparse_coders" in text]
    check = "\nassert latents.shape == (5000, 128) and ((latents != 0).sum(1) <= 8).all()\n"
    check += "assert torch.equal(latents, coder.encode(x).detach())"
    assert 0 < float(re.search(r"'fvu': ([\d.e-]+)", run(recipe + check, tmp_path))[1]) < 0.9


def test_a_readers_network_is_decomposed_saved_and_loaded(tmp_path):
    [recipe] = [text for text in OWN if "lib.spd" in text]
    check = "\nassert all(np.array_equal(value, found.arrays()[name]) for name, value in again.arrays().items())\n"
    check += "assert torch.equal(importance, found.causal_importance(inputs)['0']) and importance.shape == (5000, 40)"
    assert "tensor(" in run(recipe + check, tmp_path)


def test_a_readers_loop_makes_neighbours_alike(tmp_path):
    [recipe] = [text for text in OWN if "lib.topoloss" in text]
    before, after = map(float, run(recipe, tmp_path).split())
    assert after < 0.95 * before


def run(code, folder):
    """What code prints that is run in a folder, with this checkout's library."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
