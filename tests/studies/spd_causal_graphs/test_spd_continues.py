"""Training that is killed goes on from its last checkpoint: `python FILE STAGE STEP` is killed at an optimiser step."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from lib.files import CHECKOUT, ROOT
from lib.params import load
from lib.press.runs import reuse
from lib.studies.spd_causal_graphs import common, protocol, train, train_coders, train_spd, train_toy

EVERY, STEPS = 7, 25
STAGES = {
    "network": (train.trained, 0),
    "decomposition": (train_spd.decomposed, 0, "noise"),
    "recipe": (train_spd.by_recipe, 0),
    "transcoders": (train_coders.transcoded, 0),
    "toy": (train_toy.decomposed_toy, "uniform"),
}


def run(stage: str) -> dict[str, Any]:
    """One stage at the smallest size."""
    params = load(protocol.Params, ROOT / "params/spd_causal_graphs/smoke.yaml")
    params = params.replace(steps=STEPS, coder_steps=STEPS, toy_steps=STEPS, recipe_steps=STEPS, components=14,
                            coder_sizes=[1.0, 1.0])
    function, *rest = STAGES[stage]
    return reuse(function, params, *rest)


@contextmanager
def counted(most: float = float("inf")) -> Iterator[count]:
    """Count optimiser steps; the process is killed after `most`."""
    steps = count()

    def step(*_: Any) -> None:
        if next(steps) + 1 == most:
            os.kill(os.getpid(), signal.SIGKILL)

    hook = register_optimizer_step_post_hook(step)
    yield steps
    hook.remove()


@pytest.fixture
def made(monkeypatch):
    """(stage, folder) -> its result, kept in the folder, and the optimiser steps that took."""
    def make(stage: str, folder: Path) -> tuple[dict[str, Any], int]:
        monkeypatch.setattr("lib.press.runs.BUILD", folder)
        with counted() as steps:
            return run(stage), next(steps)

    monkeypatch.setattr(common, "EVERY", EVERY)
    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "before_the_end"),
    [("network", 9), ("decomposition", 9), ("decomposition", 101), ("recipe", 9), ("recipe", 301), ("transcoders", 9),
     ("toy", 9)],
)
def test_a_killed_stage_repeats_few_steps_and_ends_as_undisturbed(stage, before_the_end, made, tmp_path):
    undisturbed, steps = made(stage, tmp_path / "undisturbed")
    killed_at = steps - before_the_end
    environment = os.environ | {"BOOK_BUILD": str(tmp_path / "killed"), "PYTHONPATH": str(CHECKOUT),
                                "OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run([sys.executable, __file__, stage, str(killed_at)], env=environment)
    assert killed.returncode == -signal.SIGKILL and len(list(tmp_path.rglob("*.checkpoints"))) == 1
    continued, left = made(stage, tmp_path / "killed")
    assert 0 < killed_at + left - steps < EVERY
    assert not list(tmp_path.rglob("*.checkpoints"))
    np.testing.assert_equal(continued, undisturbed)  # the same bits


if __name__ == "__main__":
    common.EVERY = EVERY
    with counted(int(sys.argv[2])):
        run(sys.argv[1])
