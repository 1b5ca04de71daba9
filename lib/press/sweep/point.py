"""One point of a sweep: claimed, executed in a process of its own, then put in place or put aside by one rename."""
from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lib.files import read_json, write_json
from lib.press import jobs
from lib.press.pages import Page, Request
from lib.press.sweep import plan
from lib.press.sweep.measures import measured

BEGUN = "begun.txt"
"""In the folder where a point is made: a line for each time it was begun."""
TOLD = ("profile", "overrides", "seconds", "finished", "processor", "broken", "facts")
"""What a point tells of its execution."""


class Task(NamedTuple):
    """A point to execute, as plain data that can travel to another host."""

    study: str
    base: str
    id: str
    overrides: dict[str, Any]
    values: dict[str, Any]
    facts: dict[str, Any]
    home: Path
    variables: dict[str, str]
    """Added to the environment of its process: cores, which GPUs."""
    seconds: float
    """A point that takes longer has failed."""
    retries: int
    """How often it is begun again where its process died."""


class Outcome(NamedTuple):
    """How a point ended."""

    id: str
    state: str
    """done; kept: was done already; failed; busy: another driver executes it; stopped: this one was asked to end."""
    seconds: float = 0.0
    told: str = ""
    """Why it failed, or which checks do not hold."""


RUNNING: dict[str, jobs.Job] = {}
"""The points that this process watches, by id."""


class Died(Exception):
    """A point's process or kernel ended before it could say how the point went."""


Execute = Callable[[Task, Path, int, threading.Event], dict[str, Any]]
"""From a task, its folder, an open lock to hold and what asks it to stop to what `done.json` says."""


def run(task: Task, stop: threading.Event | None = None, execute: Execute | None = None) -> Outcome:
    """Bring one point up to date; may be called any number of times, from any host that sees `task.home`."""
    started = time.monotonic()
    with claimed(task.home / "work" / f"{task.id}.lock") as lock:
        if lock is None:
            return Outcome(task.id, "busy")
        if plan.state(task.home, task.id, task.facts) == "done":
            return Outcome(task.id, "kept")
        work = task.home / "work" / task.id
        try:
            done = _tried(task, work, lock, stop or threading.Event(), execute or in_worker)
            write_json(work / "done.json", done)
            _replace(work, task.home / "points" / task.id)
            shutil.rmtree(task.home / "failed" / task.id, ignore_errors=True)
        except KeyboardInterrupt:
            return Outcome(task.id, "stopped", time.monotonic() - started)
        except (RuntimeError, OSError, Died) as error:
            told = str(error) if type(error) in (RuntimeError, Died) else f"{type(error).__name__}: {error}"
            _put_aside(task, work, told)
            return Outcome(task.id, "failed", time.monotonic() - started, told)
        return Outcome(task.id, "done", time.monotonic() - started, "; ".join(done.get("broken") or []))


@contextmanager
def claimed(path: Path) -> Iterator[int | None]:
    """Hold the lock at `path` inside the block; None where another process holds it. The system frees it at death."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield lock.fileno()


def _tried(task: Task, work: Path, lock: int, stop: threading.Event, execute: Execute) -> dict[str, Any]:
    """Execute, and again where the process died; what its runs kept (`lib.press.runs`) is found again."""
    work.mkdir(parents=True, exist_ok=True)
    for left in range(task.retries, -1, -1):
        with open(work / BEGUN, "a", encoding="utf-8") as begun:
            begun.write(f"{socket.gethostname()} {os.getpid()} {time.time():.0f}\n")
        try:
            made = execute(task, work, lock, stop)
            attempts = len((work / BEGUN).read_text(encoding="utf-8").splitlines())
            return {"study": task.study, "id": task.id, "params": task.values, "host": socket.gethostname(),
                    "attempts": attempts, **made, "facts": {**made.get("facts", {}), **task.facts}}
        except Died:
            if not left:
                raise
    raise AssertionError("unreachable")


def in_worker(task: Task, work: Path, lock: int, stop: threading.Event) -> dict[str, Any]:
    """Execute the chapter in a worker process of the press; what its notebook says of itself, and its measures.

    Raises:
        RuntimeError: a cell failed, or it took too long. Died: the process or its kernel died. KeyboardInterrupt: stop.
    """
    request = Request(Page(task.study), task.base, task.overrides, work)
    job = jobs.Job(request, task.values)
    facts = {**task.facts, "values": request.facts_of_values}
    jobs.start(job, facts, work / "job.json", task.variables, held=(lock,))
    RUNNING[task.id] = job
    listener = threading.Thread(target=_listen, args=(job,), daemon=True)
    listener.start()
    try:
        while listener.is_alive():
            listener.join(0.1)
            jobs.remember_family(job)
            if stop.is_set():
                raise KeyboardInterrupt
            if job.elapsed > task.seconds:
                raise RuntimeError(f"took longer than {task.seconds / 60:g} minutes; timeout_minutes allows no more")
        jobs.finish(job)
    finally:
        del RUNNING[task.id]
        jobs.end(job)
    if job.state != "done":
        told = job.failure["what"]
        died = "event" not in job.failure or told.startswith("DeadKernelError")
        raise Died(told) if died else RuntimeError(told)
    return _from_notebook(request, task)


def _listen(job: jobs.Job) -> None:
    for line in job.process.stdout:
        job.hear(json.loads(line))


def _from_notebook(request: Request, task: Task) -> dict[str, Any]:
    notebook = read_json(request.output)
    book = notebook["metadata"]["book"]
    kept = {name: book[name] for name in TOLD}
    return {**kept, "measures": measured(notebook, book["results"], task.values)}


def _replace(work: Path, place: Path) -> None:
    """Put a whole point in place; an older one goes."""
    old = work.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        os.rename(place, old)
    os.rename(work, place)
    shutil.rmtree(old, ignore_errors=True)


def _put_aside(task: Task, work: Path, told: str) -> None:
    """Keep what is left of a failed point, with the reason; where the disk is full it stays where it was made."""
    error = {"study": task.study, "id": task.id, "params": task.values, "error": told, "facts": task.facts,
             "host": socket.gethostname()}
    try:
        write_json(work / "error.json", error)
        _replace(work, task.home / "failed" / task.id)
    except OSError:
        pass
