"""Worker processes of the press: started within the core budget, watched, and ended with all their children."""
from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from lib.files import BUILD, ROOT
from lib.press import provenance
from lib.press.display import clock, display
from lib.press.drafts import Drafts
from lib.press.explore import SESSION
from lib.press.pages import Request
from lib.press.sweep import slots

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
KERNEL_ENVIRONMENT = {
    **dict.fromkeys(THREADS, "1"),  # several processes run side by side, and oversubscription costs 4-30x
    "PLOTLY_RENDERER": "plotly_mimetype",
    # Large temporaries are reused instead of returned to the system: 2-4x less time in page faults.
    "MALLOC_MMAP_THRESHOLD_": "2147483648",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel called python3 is this environment's, not the user's
    "PYTHONPATH": str(ROOT),
}
UNSET = ("MPLBACKEND", SESSION)  # Agg would lose figures silently; no reader sits at a page, who would turn knobs


@dataclass
class Job:
    """One page being executed by a worker process."""

    request: Request
    values: dict[str, Any]
    process: subprocess.Popen | None = None
    started: float = 0.0
    ended: float = 0.0
    cell: int = 0
    cells: int = 0
    gpu: str = ""
    state: str = "waiting"
    failure: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    family: set[Any] = field(default_factory=set)
    expected: float = 0.0
    """Seconds that an earlier run of the page took; 0 where none is known."""

    @property
    def name(self) -> str:
        return f"{self.request.page.name} [{self.request.label}]"

    @property
    def elapsed(self) -> float:
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take note of what the worker tells."""
        if event["event"] == "cell":
            self.cell, self.cells = event["number"], event["total"]
        elif event["event"] == "failed":
            self.failure = dict(event)
        else:
            self.broken = event["broken"]

    @property
    def line(self) -> str:
        progress = f", cell {self.cell}/{self.cells}" if self.state == "running" and self.cells else ""
        time_taken = f", {clock(self.elapsed)}" if self.started else ""
        return f"{self.name}: {self.state}{progress}{time_taken}"


class Stopped(Exception):
    """The press was asked to stop by a signal."""


class Press:
    """Runs jobs in worker processes, at most `slots` at a time, and shows how far they are."""

    def __init__(self, jobs: list[Job], slots: int, drafts: Drafts | None = None):
        self.jobs, self.slots, self.drafts = jobs, slots, drafts
        self.events: queue.Queue[tuple[Job, dict[str, Any] | None]] = queue.Queue()

    @property
    def share(self) -> int:
        """Cores for the runs of the next page; the last page gets all, since those beside it end before it."""
        waiting = sum(job.state == "waiting" for job in self.jobs)
        return max(1, provenance.cores() // max(1, min(self.slots, waiting)))

    def run(self) -> int:
        """Run all jobs to their end; 0 only if all succeeded.

        Raises:
            Stopped: SIGINT or SIGTERM arrived; every worker and kernel has been ended.
        """
        previous = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with tempfile.TemporaryDirectory() as folder, display(self.jobs, self.slots) as show:
                while any(job.state in ("waiting", "running") for job in self.jobs):
                    self._start_waiting(Path(folder))
                    self._take_events()
                    if self.drafts and (told := self.drafts.follow(self.jobs)):
                        print(told, flush=True)
                    show()
        finally:
            for job in self.jobs:
                end(job)
            if self.drafts:
                self.drafts.end()
            for number, handler in previous.items():
                signal.signal(number, handler)
        for job in self.jobs:
            if job.state == "failed":
                print(_failure_text(job), file=sys.stderr)
            elif job.broken:
                print(f"{job.name}: done; {broken_text(job.broken)}\n  notebook: {_shown(job.request.output)}")
        return int(any(job.state == "failed" for job in self.jobs))

    def _start_waiting(self, folder: Path) -> None:
        free = self.slots - sum(job.state == "running" for job in self.jobs)
        for job in [job for job in self.jobs if job.state == "waiting"][:free]:
            self._start(job, folder / f"{self.jobs.index(job)}.json")

    def _start(self, job: Job, job_file: Path) -> None:
        job.gpu = self._gpu()
        alone = {"CUDA_VISIBLE_DEVICES": job.gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if job.gpu else {}
        start(job, job.request.facts, job_file, {"BOOK_CORES": str(self.share), **alone})
        threading.Thread(target=self._listen, args=(job,), daemon=True).start()

    def _gpu(self) -> str:
        """The least busy of several GPUs, for the next page; empty where there is nothing to choose."""
        names, busy = slots.gpus(), [job.gpu for job in self.jobs if job.state == "running"]
        return min(names, key=busy.count) if len(names) > 1 else ""

    def _listen(self, job: Job) -> None:
        for line in job.process.stdout:
            self.events.put((job, json.loads(line)))
        self.events.put((job, None))

    def _take_events(self) -> None:
        for job in self.jobs:
            remember_family(job)
        try:
            job, event = self.events.get(timeout=0.2)
        except queue.Empty:
            return
        if event is None:
            finish(job)
        else:
            job.hear(event)


def start(
    job: Job, facts: Mapping[str, Any], job_file: Path, variables: Mapping[str, str], held: Sequence[int] = ()
) -> None:
    """Start the worker process of a job; it tells its events on its standard output.

    Args:
        facts: what the execution is to be made from (`Request.facts`).
        job_file: where to write what the worker reads.
        variables: added to the environment of the worker and its kernel.
        held: open files that the worker is to hold as well, locks for instance.
    """
    request = job.request
    text = {"page": request.page.name, "profile": request.profile, "overrides": request.overrides,
            "folder": str(request.folder) if request.folder else None, "values": job.values, "facts": facts}
    job_file.write_text(json.dumps(text), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if k not in UNSET}
    environment |= {**KERNEL_ENVIRONMENT, "IPYTHONDIR": str(BUILD / "ipython"), "BOOK_BUILD": str(BUILD), **variables}
    log = request.partial.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "wb") as errors:
        job.process = subprocess.Popen(
            [sys.executable, "-m", "lib.press.worker", str(job_file)], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=ROOT, start_new_session=True, pass_fds=held,
        )
    job.state, job.started = "running", time.monotonic()


def finish(job: Job) -> None:
    """Note how a job's worker ended, and end what it left behind."""
    status = job.process.wait()
    job.state, job.ended = ("done" if status == 0 else "failed"), time.monotonic()
    if status and not job.failure:
        job.failure = {"what": f"its process ended with status {status}", "partial": str(job.request.partial)}
    end(job)


def _stop(number: int, _: Any) -> None:
    raise Stopped(f"stopped by {signal.Signals(number).name}")


def remember_family(job: Job) -> None:
    """Note the worker's descendants, so that they can be ended even after the worker is gone."""
    if job.state == "running":
        with suppress(psutil.NoSuchProcess):
            job.family |= set(psutil.Process(job.process.pid).children(recursive=True))


def end(job: Job) -> None:
    """End a job's worker, its kernel and whatever that started."""
    if job.process is None:
        return
    remember_family(job)
    if job.process.poll() is None:
        job.process.kill()
        job.state, job.ended = "stopped", time.monotonic()
    for process in job.family:
        with suppress(psutil.NoSuchProcess):
            job.family = job.family | set(process.children(recursive=True))
    for process in job.family:
        with suppress(psutil.NoSuchProcess):
            process.kill()  # psutil checks that the pid still is the same process
    psutil.wait_procs(job.family, timeout=5)
    job.process.wait()


def _failure_text(job: Job) -> str:
    """Which study, which cell, which error, where to look."""
    lines = [f"{job.name}: FAILED after {clock(job.elapsed)}: {job.failure['what']}"]
    if source := job.failure.get("source"):
        lines += [f"    | {line}" for line in source.strip().splitlines()[-8:]]
    if partial := job.failure.get("partial"):
        log = Path(partial).with_suffix(".log")
        lines.append(f"  notebook up to there: {_shown(Path(partial))}   log: {_shown(log)}")
    kept = job.request.output
    lines.append(f"  previous output, untouched: {_shown(kept)}" if kept.is_file() else "  there is no previous output")
    return "\n".join(lines)


def broken_text(broken: list[str]) -> str:
    """How many checks a reader's own values break, and which, a line each."""
    count = "1 check does" if len(broken) == 1 else f"{len(broken)} checks do"
    return "\n".join([f"{count} not hold with these values:", *(f"  {line}" for line in broken)])


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
