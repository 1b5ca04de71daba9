"""How many cores a page gets for its runs."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

from lib.press import provenance
from lib.press.jobs import Job, Press


def press(monkeypatch: pytest.MonkeyPatch, states: list[str], slots: int, cores: int) -> Press:
    monkeypatch.setattr(provenance, "cores", lambda: cores)
    jobs = [Job(SimpleNamespace(), {}) for _ in states]
    for job, state in zip(jobs, states, strict=True):
        job.state = state
    return Press(jobs, slots)


def test_pages_side_by_side_divide_the_cores(monkeypatch):
    assert press(monkeypatch, ["waiting"] * 3, slots=2, cores=8).share == 4


def test_the_last_page_gets_all_cores(monkeypatch):
    assert press(monkeypatch, ["done", "running", "waiting"], slots=2, cores=2).share == 2


def test_a_page_has_a_core_even_where_pages_outnumber_them(monkeypatch):
    assert press(monkeypatch, ["waiting"] * 3, slots=3, cores=2).share == 1
