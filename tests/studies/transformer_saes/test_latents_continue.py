"""The study killed in its trainings and in the harvest goes on where it was: `python FILE EVENT` is killed at an event.

Events are steps of an optimiser and batches of windows that are read.
"""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from lib.activations import language, store
from lib.files import CHECKOUT, ROOT
from lib.params import load
from lib.press.runs import reuse
from lib.studies.transformer_saes import protocol, train, train_lm, world
from lib.studies.transformer_saes.train import Arm

LM_STEPS, STEPS, HELD = 24, 40, 6
"""Of each training; batches of held-out windows, which are read by every process."""


def run() -> list[dict[str, Any]]:
    """A model, its activations, a coder that is watched, a search for JumpReLU's aim and its coder."""
    own = load(protocol.Params, ROOT / "params/transformer_saes/smoke.yaml").replace(lm_steps=LM_STEPS, steps=STEPS)
    arms = {train.watched: Arm("topk"), train.coder: Arm("jumprelu", True)}
    return [reuse(stage, own, list(arm), 0) for stage, arm in arms.items()]


@contextmanager
def counted(most: float = float("inf")) -> Iterator[list[str]]:
    """The events of a run in order; the process is killed after `most`."""
    events: list[str] = []

    def happened(event: str) -> None:
        events.append(event)
        if len(events) == most:
            os.kill(os.getpid(), signal.SIGKILL)

    def read(*asked: Any, own: Any = language._read, **options: Any) -> Any:
        found = own(*asked, **options)
        happened("read")
        return found

    hook = register_optimizer_step_post_hook(lambda *_: happened("step"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "_read", read)
        patch.setattr(store, "KEEP_EVERY", 0.0)
        yield events
    hook.remove()


@pytest.fixture
def made(monkeypatch):
    """folder -> the results, kept in the folder, and the events that took."""
    def make(folder) -> tuple[list[dict[str, Any]], list[str]]:
        for module in ("lib.press.runs", "lib.files"):
            monkeypatch.setattr(f"{module}.BUILD", folder)
        forget()
        with counted() as events:
            return run(), events

    def forget() -> None:
        for cached in (world.untrained, train_lm.model_of, train.acts, train.samples):
            cached.cache_clear()

    yield make
    forget()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Where an undisturbed run lies, and its results and events once a test has made them."""
    return {"folder": tmp_path_factory.mktemp("whole")}


@pytest.mark.slow
@pytest.mark.parametrize(("place", "again"), [
    ("language model", LM_STEPS // 8), ("harvest", 4), ("coder", STEPS // 4 + HELD), ("search", STEPS // 4 + HELD)])
def test_a_killed_study_repeats_few_events_and_ends_as_undisturbed(place, again, made, whole, tmp_path):
    if "events" not in whole:
        whole["results"], whole["events"] = made(whole["folder"])
    events = whole["events"]
    reads, first_read = events.count("read"), events.index("read")
    assert events[:LM_STEPS] == ["step"] * LM_STEPS and first_read == LM_STEPS
    killed_at = {"language model": LM_STEPS - 4, "harvest": LM_STEPS + 7, "coder": LM_STEPS + reads + STEPS - 3,
                 "search": LM_STEPS + reads + 2 * STEPS - 3}[place]
    environment = os.environ | {"BOOK_BUILD": str(tmp_path), "PYTHONPATH": str(CHECKOUT),
                                "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run([sys.executable, __file__, str(killed_at)], env=environment)
    assert killed.returncode == -signal.SIGKILL
    results, left = made(tmp_path)
    assert 0 < killed_at + len(left) - len(events) <= again, (killed_at, len(left), len(events))
    np.testing.assert_equal(results, whole["results"])  # the same bits
    assert not list(tmp_path.rglob("*.checkpoints")) and not list(tmp_path.rglob("*.partial"))


if __name__ == "__main__":
    with counted(int(sys.argv[1])):
        run()
