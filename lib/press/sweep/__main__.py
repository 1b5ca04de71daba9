"""Command line of sweeps: `python -m lib.press.sweep run|status|collect|keep FILE`; see `lib.press.sweep`."""
from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.files import ROOT
from lib.params import ParameterError
from lib.press.claims import ClaimError
from lib.press.display import clock, display, left, rows
from lib.press.jobs import Job, Stopped
from lib.press.pages import PageError
from lib.press.sweep import drive, plan, point, results
from lib.press.sweep.engines import Engine, Local


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status: 1 where a point has failed."""
    arguments = _parser().parse_args(argv)
    try:
        with _stopped_by_signals():
            return arguments.command(plan.read(arguments.file), arguments)
    except (PageError, ParameterError, ClaimError) as error:
        print(error, file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"sweep: {stop}; finished points are kept, the others are missing", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.press.sweep", description="Run the points of a sweep.")
    commands = parser.add_subparsers(required=True)
    for command in (run_command, status_command, collect_command, keep_command):
        own = commands.add_parser(command.__name__.removesuffix("_command"), help=command.__doc__)
        own.add_argument("file", type=Path, help="params/<study>/sweep_<name>.yaml")
        own.set_defaults(command=command)
    run = commands.choices["run"]
    run.add_argument("--workers", type=_count, help="points side by side (default: what cores and GPUs allow)")
    run.add_argument("--gpus", type=int, help="GPUs to hand out (default: those that are seen)")
    run.add_argument("--address", help="a running Ray cluster that executes them instead, host:port")
    run.add_argument("--limit", type=_count, help="execute no more than so many points now")
    run.add_argument("--retry-failed", action="store_true", help="execute points again that failed with this code")
    run.add_argument("--keep-stale", action="store_true", help="leave points as they are that other code has made")
    run.add_argument("--dry-run", action="store_true", help="say what would be executed and how long it would take")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number, at least 1")
    return int(text)


def run_command(sweep: plan.Sweep, asked: argparse.Namespace) -> int:
    """execute what is missing and collect"""
    states = sweep.states()
    todo = drive.wanted(sweep, states, asked.retry_failed, asked.keep_stale)[:asked.limit]
    print(f"{_name(sweep)}: {_counts(states)}; {len(todo)} to execute", flush=True)
    if asked.dry_run:
        with _engine(sweep, asked) as engine:
            width = min(engine.width, len(todo))
        print("\n".join([*(f"  {of.id}  {of.text}" for of in todo), drive.estimate(sweep, len(todo), width)]))
        return 0
    if todo:
        with _engine(sweep, asked) as engine:
            with Board(todo, states, engine.width, drive.usual(sweep)[0]) as told:
                drive.drive(sweep, todo, engine, told)
        states = sweep.states()
    return collect_command(sweep, asked) or int(any(states[of.id] != "done" for of in todo))  # lost with its host, say


def status_command(sweep: plan.Sweep, _: argparse.Namespace) -> int:
    """count the points that are done, stale, failed and missing"""
    states = sweep.states()
    print(f"{_name(sweep)}: {_counts(states)}")
    return int("failed" in states.values())


def collect_command(sweep: plan.Sweep, _: argparse.Namespace) -> int:
    """make the table from the points there are"""
    states = results.collect(sweep)["run.state"]
    print(f"{_name(sweep)}: {_counts(dict(enumerate(states)))}: {sweep.table}")
    return int("failed" in set(states))


def keep_command(sweep: plan.Sweep, _: argparse.Namespace) -> int:
    """copy the table into book/kept/sweeps, for readers who will not run it"""
    print(f"{_name(sweep)}: kept as {results.keep(sweep).relative_to(ROOT)}")
    return 0


class Board(display):
    """A line as each point ends, which stays; on a terminal, below it, how many stand how and the points that run."""

    def __init__(self, todo: list[plan.Point], states: dict[str, str], width: int, seconds: list[float]) -> None:
        super().__init__([], width)
        self.todo, self.states, self.seconds = {of.id: of for of in todo}, dict(states), list(seconds)
        self.total, self.started = len(todo), time.monotonic()

    def show(self, of: plan.Point | None = None, outcome: point.Outcome | None = None, final: bool = False) -> None:
        if final:
            if self.live:
                self.live.transient = True  # what is collected says the same
            return
        del self.todo[of.id]
        self.states[of.id] = {"kept": "done", "stopped": "missing"}.get(outcome.state, outcome.state)
        self.seconds += [outcome.seconds] * (outcome.state == "done")
        told = f"  {outcome.told}" if outcome.told else ""
        line = (f"[{self.total - len(self.todo)}/{self.total}] {clock(time.monotonic() - self.started)} {of.id} "
                f"{outcome.state} in {clock(outcome.seconds)}  {of.text}{told}")
        if self.live:  # whose console breaks what is printed past it into lines of its own
            self.live.console.print(line, soft_wrap=True, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def table(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        todo, running = dict(self.todo), dict(point.RUNNING)
        begun = list(running or todo)[:self.slots]  # a cluster does not tell which ones it has begun, if any
        counts = Counter({**self.states, **dict.fromkeys(begun, "running")}.values())
        waiting = Job(None, {}, expected=statistics.median(self.seconds or [0.0]))
        for job in running.values():
            job.expected = waiting.expected
        seconds = left([*running.values(), *[waiting] * (len(todo) - len(running))], self.slots)
        most = "up to " if begun and not running else ""
        told = ", ".join([f"{counts['done']} done", f"{most}{counts['running']} running",
                          *(f"{counts[name]} {name}" for name in plan.STATES[1:])])
        told += f"; about {clock(seconds)} left" if seconds else ""
        texts = _told_apart([todo[id] for id in running if id in todo])
        return Group(Text(told), rows({texts.get(id, id): job for id, job in running.items()}))


def _told_apart(points: list[plan.Point]) -> dict[str, str]:
    """The varied values of each point by its id, without those that all of them share."""
    shared = {name for name in points[0].varied if len({of.part(name) for of in points}) == 1} if points[1:] else set()
    return {of.id: " ".join(of.part(name) for name in of.varied if name not in shared) or of.id for of in points}


def _engine(sweep: plan.Sweep, asked: argparse.Namespace) -> Engine:
    if not asked.address:
        return Local(sweep.resources, asked.workers, asked.gpus)
    if asked.workers or asked.gpus is not None:
        raise PageError("--address: the cluster has workers and GPUs of its own; leave --workers and --gpus out")
    from lib.press.sweep.cluster import Ray

    return Ray(sweep.resources, asked.address, sweep.plan.retries)


def _name(sweep: plan.Sweep) -> str:
    return f"{sweep.page.name} {sweep.name}"


def _counts(states: dict[Any, str]) -> str:
    counts = Counter(states.values())
    return f"{len(states)} points: {', '.join(f'{counts[name]} {name}' for name in plan.STATES)}"


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    def stop(number: int, _: Any) -> None:
        raise Stopped(f"stopped by {signal.Signals(number).name}")

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
