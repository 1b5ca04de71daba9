"""Coders that are killed while they train, run by test_coders_continue: `python killed_coders.py ARM STEP`."""
import os
import signal
import sys
from collections.abc import Callable

from lib.files import ROOT
from lib.params import load
from lib.press.runs import reuse
from lib.sparse_coders.table import Table
from lib.sparse_coders.trainee import Trainee
from lib.studies.sparse_coders_recovery import measure
from lib.studies.sparse_coders_recovery import protocol as study

STEPS, EVERY = 40, 10
"""Of training, and between its checkpoints."""


def arguments(arm: str) -> dict:
    """Of a run at tiny size."""
    smoke = load(study.Params, ROOT / "params" / "sparse_coders_recovery" / "smoke.yaml")
    return study.asked(smoke.replace(steps=STEPS, gate_steps=STEPS), "independent", arm, 0)


def before_each_step(tell: Callable[[int], None], put: Callable = setattr) -> None:
    """Have `tell` called with the number of every training step, before it is made."""
    for kind in (Trainee, Table):
        def step(self, number, *batch, made=kind.step):
            tell(number)
            return made(self, number, *batch)

        put(kind, "step", step)


def main(arm: str, last: int) -> None:
    """Judge the coders of an arm, and be killed when its training comes to step `last`."""
    before_each_step(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == last else None)
    reuse(measure.sweep, **arguments(arm))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
