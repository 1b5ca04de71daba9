"""A reader's own runs in the smallest profile: more seeds, and every command of the page for those who come from one of
the projects. Each runs to its end, judges every claim of its study and settles nothing."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from lib.files import ROOT
from lib.press import claims
from lib.press.pages import all_pages

COMMAND = re.compile(r'^make run STUDY=(\w+)(?: ARGS="([^"]*)")?$', re.MULTILINE)
PAGE = (ROOT / "book" / "coming_from.md").read_text(encoding="utf-8")
STUDIES = [page.name for page in all_pages() if page.is_study]
UNIT = {"shapes_and_colours": "networks"}  # what a study calls its seeds
RUNS = [(study, f"-p {UNIT.get(study, 'seeds')}=8") for study in STUDIES] + COMMAND.findall(PAGE)


@pytest.mark.slow
@pytest.mark.parametrize(("study", "arguments"), [run for run in RUNS if run[1]])
def test_a_readers_run_goes_through(study, arguments, tmp_path, tmp_path_factory):
    shared = tmp_path_factory.getbasetemp() / "runs"  # a run of the same values is not made again
    shared.mkdir(exist_ok=True)
    (tmp_path / "runs").symlink_to(shared)
    command = [sys.executable, "-m", "lib.press", "run", study, "--profile", "smoke", "--jobs", "1", *arguments.split()]
    environment = {**os.environ, "BOOK_BUILD": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = tmp_path.glob("results/*/*.json")
    words = {record["claim_id"]: record["word"] for record in json.loads(path.read_text())["records"]}
    assert set(words) == set(claims.of_study(study)) and set(words.values()) == {"not tested here"}


def test_the_page_maps_every_project_of_the_book():
    mapped = {study for study, _ in COMMAND.findall(PAGE)}
    assert mapped == set(STUDIES)
    assert len(COMMAND.findall(PAGE)) == PAGE.count("make run ")  # none is written so that the test would miss it
