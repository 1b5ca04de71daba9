"""How far the jobs are, told on a terminal and in plain lines."""
import io
import sys

import pytest
from rich.console import Console

from lib.press import display
from lib.press.jobs import Job
from lib.press.pages import Page, Request


@pytest.fixture
def job():
    made = Job(Request(Page("penguins"), "quick"), {})
    made.state, made.cell, made.cells, made.started, made.ended = "running", 3, 8, 10.0, 75.0
    return made


def test_the_table_names_page_profile_cells_and_time(job):
    console = Console(file=io.StringIO(), width=120)
    console.print(display.display([job]).table())
    text = console.file.getvalue()
    assert "penguins [quick]" in text and "2/8 cells" in text and "1:05" in text


def test_plain_lines_tell_each_state_once(job, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    with display.display([job]) as show:
        show()
        show()
        job.state = "done"
    assert capsys.readouterr().out.splitlines() == [
        "penguins [quick]: running, cell 3/8, 1:05",
        "penguins [quick]: done, 1:05",
    ]


def test_long_jobs_are_told_again(job, capsys, monkeypatch):
    monkeypatch.setattr(display, "LINE_EVERY", -1.0)
    with display.display([job]) as show:
        show()
        show()
    assert capsys.readouterr().out.count("running") >= 2


def test_time_left_is_what_earlier_runs_took_over_the_slots_and_no_less_than_the_longest(job):
    job.expected, waiting, unknown = 100.0, Job(job.request, {}), Job(job.request, {})
    waiting.expected = 20.0
    assert display.left([job, waiting, unknown], slots=2) == 100 - 65  # (35 + 20) / 2 = 27.5 < 35
    assert display.left([job, waiting], slots=1) == 35 + 20
    job.state = "done"
    assert display.left([job], slots=1) == 0
