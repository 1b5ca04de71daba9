"""Command line of sweeps: `python -m lib.press.sweep run|status|collect FILE`; see `lib.press.sweep`."""
from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.params import ParameterError
from lib.press.claims import ClaimError
from lib.press.display import clock
from lib.press.jobs import Stopped
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
    for name, command in (("run", run_command), ("status", status_command), ("collect", collect_command)):
        own = commands.add_parser(name, help=command.__doc__)
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
            drive.drive(sweep, todo, engine, _Lines(len(todo)))
    return collect_command(sweep, asked)


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


class _Lines:
    """A line as each point ends."""

    def __init__(self, total: int) -> None:
        self.total, self.ended, self.started = total, 0, time.monotonic()

    def __call__(self, of: plan.Point, outcome: point.Outcome) -> None:
        self.ended += 1
        told = f"  {outcome.told}" if outcome.told else ""
        print(f"[{self.ended}/{self.total}] {clock(time.monotonic() - self.started)} {of.id} {outcome.state} "
              f"in {clock(outcome.seconds)}  {of.text}{told}", flush=True)


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
