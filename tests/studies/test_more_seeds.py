"""A reader's first change, more seeds in the smallest profile: it runs to its end and settles nothing."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lib.files import ROOT
from lib.press.pages import all_pages

STUDIES = [page.name for page in all_pages() if page.is_study]


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_twenty_seeds_at_smoke_run_through(study, tmp_path):
    command = [sys.executable, "-m", "lib.press", "run", study, "--profile", "smoke", "-p", "seeds=20", "--jobs", "1"]
    environment = {**os.environ, "BOOK_BUILD": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = tmp_path.glob("results/smoke+seeds=20/*.json")
    words = {record["word"] for record in json.loads(path.read_text())["records"]}
    assert words == {"not tested here"}
