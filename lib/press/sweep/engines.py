"""Where points are executed: what an engine is, and the slots of this machine."""
from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, Self

from lib.press import provenance
from lib.press.pages import PageError
from lib.press.sweep import plan, point
from lib.press.sweep.slots import Slots


class Engine(Protocol):
    """Executes points inside its `with` block, `width` of them side by side; leaving it ends what still runs."""

    width: int

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def submit(self, task: point.Task) -> Future[point.Outcome]: ...


class Local:
    """Slots of this machine, a thread each that watches a worker process; needs nothing but the press.

    Raises:
        PageError: the machine has not what one point needs.
    """

    def __init__(self, needs: plan.Resources, workers: int | None = None, gpus: int | None = None) -> None:
        self.slots, self.stop = Slots(needs.gpus, gpus), threading.Event()
        possible = self.slots.room(provenance.cores() // needs.cpus)
        if not possible and needs.cpus > provenance.cores():
            raise PageError(f"a point needs {needs.cpus} cores, this machine has {provenance.cores()}")
        self.width = min(workers or possible, self.slots.room(workers or possible))

    def __enter__(self) -> Self:
        self.pool = ThreadPoolExecutor(self.width)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, task: point.Task) -> Future[point.Outcome]:
        return self.pool.submit(self._run, task)

    def _run(self, task: point.Task) -> point.Outcome:
        with self.slots.taken() as variables:
            return point.run(task._replace(variables={**task.variables, **variables}), self.stop)
