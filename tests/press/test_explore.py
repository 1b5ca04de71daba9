"""Explorer cells: nothing where nobody reads, a slider and the last value's figure where somebody does."""
from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lib.files import ROOT
from lib.press import explore as press
from lib.press import jobs
from lib.press.explore import SESSION, explore


@pytest.fixture
def shown(monkeypatch):
    """What is displayed, in a kernel that a notebook server has started."""
    displayed = []
    monkeypatch.setenv(SESSION, "chapter.md")
    monkeypatch.setattr("IPython.display.display", displayed.append)
    InteractiveShell.instance()
    yield displayed
    InteractiveShell.clear_instance()


def test_without_a_reader_nothing_is_drawn_shown_or_imported():
    code = ("import sys; from lib.press.explore import explore\n"
            "explore(lambda a: 1 / 0, a=(1,)); print('ipywidgets' in sys.modules)")
    environment = {k: v for k, v in os.environ.items() if k != SESSION}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_page_run_from_a_readers_notebook_has_no_reader_itself(monkeypatch, tmp_path):
    started = []
    monkeypatch.setenv(SESSION, "chapter.md")
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *_, env, **__: started.append(env))
    request = SimpleNamespace(page=SimpleNamespace(name="tiny"), profile="smoke", overrides={}, folder=None,
                              partial=tmp_path / "partial" / "tiny.ipynb")
    jobs.start(SimpleNamespace(request=request, values={}), {}, tmp_path / "job.json", {})
    assert SESSION in os.environ and SESSION not in started[0] and "PYTHONPATH" in started[0]


def test_a_reader_has_a_slider_per_knob_and_the_first_values_figure(shown):
    explore(lambda base, dose, rule: f"{base} {dose} {rule}", "of", dose=(0.5, 2), rule=("topk", "relu"))
    [box] = shown
    dose, rule, out = box.children
    assert type(dose).__name__ == "SelectionSlider" and dose.continuous_update is False
    assert type(rule).__name__ == "Dropdown" and rule.options == (("topk", "topk"), ("relu", "relu"))
    assert out.outputs[0]["data"] == {"text/plain": "'of 0.5 topk'"}


def test_of_many_turns_at_once_only_the_last_is_drawn(shown, monkeypatch):
    monkeypatch.setattr(press, "PAUSE", 0.01)
    drawn = []

    async def turn():
        explore(lambda dose: drawn.append(dose), dose=range(5))
        for value in (1, 2, 4):
            shown[0].children[0].value = value
        await asyncio.sleep(0.1)

    asyncio.run(turn())
    assert drawn == [0, 4]


def test_a_figure_that_cannot_be_drawn_is_one_line_in_its_place(shown):
    explore(lambda a: [][a], a=(3,))
    [output] = shown[0].children[-1].outputs
    assert output == {"output_type": "stream", "name": "stderr", "text": "IndexError: list index out of range"}
