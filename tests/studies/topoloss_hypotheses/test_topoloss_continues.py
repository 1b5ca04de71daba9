"""Training goes on where it was killed, and only what makes a model can ask for another one."""
from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from keys_in_a_copy import edit, keys

STEPS, BETWEEN = 40, 10
TRAIN = f"""
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_post_hook

from lib.files import BUILD, ROOT
from lib.params import load
from lib.press.runs import reuse
from lib.studies.topoloss_hypotheses import protocol, train

def count(*_):
    with open(BUILD / "steps", "a") as file:
        file.write(".")
    if (BUILD / "steps").stat().st_size == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

BUILD.mkdir(exist_ok=True)
register_optimizer_step_post_hook(count)
train.LEAST = {BETWEEN}
params = load(protocol.Params, ROOT / "params/topoloss_hypotheses/smoke.yaml", {{"steps": {STEPS}}})
reuse(train.trained, params, tuple(protocol.arms(params)[0]), 0)
"""
BEFORE = """
from pathlib import Path
from lib.params import load
from lib.studies.topoloss_hypotheses import measure, protocol, train
params = load(protocol.Params, Path("params/topoloss_hypotheses/smoke.yaml"))
arm = protocol.arms(params)[0]
"""
RUNS = "train.trained, params, tuple(arm), 0", "measure.measured, params, arm, 0"


def trained(build, die_at=-1):
    """Train one model in a process that is killed after so many steps, those of the processes before it included."""
    environment = {**os.environ, "BOOK_BUILD": str(build)}
    done = subprocess.run([sys.executable, "-c", TRAIN, str(die_at)], env=environment, capture_output=True, text=True)
    assert done.returncode == (0 if die_at < 0 else -signal.SIGKILL), done.stderr
    return len((build / "steps").read_text())


def result(build):
    [path] = build.glob("runs/*/*.npz")
    with np.load(path) as file:
        return dict(file)


@pytest.mark.slow
def test_a_killed_training_repeats_less_than_lies_between_checkpoints_and_ends_the_same(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert trained(undisturbed) == STEPS
    assert trained(killed, die_at=29) == 29  # the snapshots of steps 20 and 28 are there, the checkpoint is of step 20
    assert trained(killed, die_at=29 + 12) == 41  # step 32: both snapshots are older than the checkpoint of step 30
    assert trained(killed) - STEPS == (29 - 20) + (32 - 30) < 2 * BETWEEN
    expected, found = result(undisturbed), result(killed)
    assert "snapshots" in str(expected["skeleton"]) and expected.keys() == found.keys()
    assert all(np.array_equal(found[name], value) for name, value in expected.items())
    assert not list(tmp_path.glob("**/*.checkpoints"))


@pytest.mark.slow
def test_an_edit_to_what_measures_trains_no_model_again_and_one_to_the_loss_does(copy):
    trained, measured = keys(copy, BEFORE, *RUNS)
    edit(copy, "lib/metrics/topography.py")
    again, other = keys(copy, BEFORE, *RUNS)
    assert again == trained and other != measured
    edit(copy, "lib/topoloss.py")
    assert keys(copy, BEFORE, RUNS[0]) != [trained]
