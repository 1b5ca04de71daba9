"""README and CONTRIBUTING say what is true: links, make targets, which studies have landed, the example's output."""
import os
import re
import subprocess
import sys

import layout
import pytest

from lib.files import ROOT
from lib.press.claims import STUDIES

DOCUMENTS = ("README.md", "CONTRIBUTING.md")
README = (ROOT / "README.md").read_text()


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


def test_landed_studies_are_in_the_table_and_the_others_are_planned():
    landed = re.findall(r"^\| `(\w+)` \| \[chapter\]", README, re.MULTILINE)
    planned = re.findall(r"^- `(\w+)`: ", README, re.MULTILINE)
    assert sorted(landed) == [slug for slug in layout.slugs(ROOT) if slug in STUDIES]
    assert sorted(landed + planned) == sorted(STUDIES)


def test_example_prints_what_is_said_of_it():
    [example] = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    common, rare = (sorted(map(float, row.split(","))) for row in re.findall(r"\[([\d., ]+)\]", done.stdout))
    assert common == [0, 0, 0.5, 0.5, 0.5, 0.5] and rare == [0, 0.4, 0.4, 0.4, 0.4, 0.4]
