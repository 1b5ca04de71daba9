"""A killed run of coders continues from its last checkpoint and ends with the very same weights."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keys_in_a_copy import edit, keys
from killed_coders import EVERY, STEPS, arguments, before_each_step

from lib.files import ROOT
from lib.press import runs
from lib.studies.sparse_coders_recovery import measure, train

SCRIPT = Path(__file__).with_name("killed_coders.py")

@pytest.mark.parametrize("arm", ["topk", "stochastic"])
def test_killed_coders_continue_bit_for_bit_and_leave_no_folder(arm, tmp_path, monkeypatch):
    killed_at = 3 * EVERY - 1  # the last step before a checkpoint
    environment = {**os.environ, "BOOK_BUILD": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, SCRIPT, arm, str(killed_at)], env=environment)
    assert done.returncode == -signal.SIGKILL

    steps = set()
    before_each_step(steps.add, monkeypatch.setattr)
    monkeypatch.setattr(runs, "BUILD", tmp_path)
    found = runs.reuse(measure.sweep, **arguments(arm))
    repeated = {step for step in steps if step < killed_at}
    assert len(repeated) < EVERY and steps | set(range(killed_at)) == set(range(STEPS))
    assert not list(tmp_path.glob("runs/*/*.checkpoints"))

    kept = runs.reuse(train.coders, **arguments(arm))["coders"]
    steps.clear()
    undisturbed = train.coders(**arguments(arm))["coders"]
    assert steps == set(range(STEPS))
    for one, other in zip(kept, undisturbed, strict=True):
        assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    monkeypatch.setattr(runs, "BUILD", tmp_path / "undisturbed")
    assert found["rows"].equals(runs.reuse(measure.sweep, **arguments(arm))["rows"])


def test_measuring_again_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "BUILD", tmp_path)
    first = runs.reuse(measure.sweep, **arguments("topk"))["rows"]
    next(tmp_path.glob("runs/*measure.sweep/*.npz")).unlink()  # as an edited measure would have another key
    before_each_step(lambda _: pytest.fail("trained again"), monkeypatch.setattr)
    assert runs.reuse(measure.sweep, **arguments("topk"))["rows"].equals(first)


@pytest.mark.slow
def test_an_edit_repeats_what_it_makes(copy):
    before = "\n".join([
        "from lib.files import ROOT", "from lib.params import load",
        "from lib.studies.sparse_coders_recovery import measure, samples, train, protocol as study",
        "params = load(study.Params, ROOT / 'params/sparse_coders_recovery/smoke.yaml')",
        "asked = study.asked(params, 'planted', 'topk', 0)",
    ])
    calls = "train.coders, **asked", "measure.sweep, **asked", "samples.toy_models, params, 20, 5"
    unedited, changed = keys(copy, before, *calls), {}
    for file in ("metrics/topography", "spd/losses", "metrics/recovery", "sparse_coders/losses"):
        edit(copy, f"lib/{file}.py")
        found = keys(copy, before, *calls)
        changed[file] = [new != old for new, old in zip(found, unedited, strict=True)]
        unedited = found
    assert changed["metrics/topography"] == changed["spd/losses"] == [False, False, False]
    assert changed["metrics/recovery"] == [False, True, False]
    assert changed["sparse_coders/losses"] == [True, True, False]
