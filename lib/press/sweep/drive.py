"""All points of a sweep brought up to date by an engine, one line per point."""
from __future__ import annotations

import concurrent.futures
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from lib.press.display import clock
from lib.press.pages import Page, Request
from lib.press.sweep import plan, point
from lib.press.sweep.engines import Engine

AGAIN = 1.0
"""Seconds before a point is asked for again that another driver executes."""


def wanted(sweep: plan.Sweep, states: Mapping[str, str], retry_failed: bool, keep_stale: bool) -> list[plan.Point]:
    """The points to execute."""
    again = {"missing", *["failed"] * retry_failed, *["stale"] * (not keep_stale)}
    return [point for point in sweep.points if states[point.id] in again]


def task(sweep: plan.Sweep, of: plan.Point) -> point.Task:
    """What an engine needs to know of a point."""
    return point.Task(
        sweep.page.name, sweep.plan.base, of.id, of.overrides, of.values, sweep.facts, sweep.home,
        {"BOOK_CORES": str(sweep.resources.cpus)}, 60 * sweep.plan.timeout_minutes, sweep.plan.retries)


def drive(
    sweep: plan.Sweep, todo: Iterable[plan.Point], engine: Engine, told: Callable[[plan.Point, point.Outcome], None]
) -> Counter[str]:
    """Execute points; what another driver executes is waited for. How many ended in which state.

    Args:
        told: called as each point ends.
    """
    counts: Counter[str] = Counter()
    waiting, running = deque((of, 0.0) for of in todo), {}
    while waiting or running:
        while waiting and len(running) < 2 * engine.width and waiting[0][1] <= time.monotonic():
            of, _ = waiting.popleft()
            running[engine.submit(task(sweep, of))] = of
        if not running:
            time.sleep(0.1)
            continue
        ended, _ = concurrent.futures.wait(running, timeout=AGAIN, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in ended:
            of, outcome = running.pop(future), _outcome(future)
            if outcome.state == "busy":
                waiting.append((of, time.monotonic() + AGAIN))
                continue
            counts[outcome.state] += 1
            told(of, outcome)
    return counts


def _outcome(future: concurrent.futures.Future[point.Outcome]) -> point.Outcome:
    try:
        return future.result()
    except Exception as error:  # of an engine: a worker lost with its host
        return point.Outcome("", "failed", 0.0, (str(error).strip() or type(error).__name__).splitlines()[-1])


def usual(sweep: plan.Sweep) -> tuple[list[float], str]:
    """Seconds that points of the study took, else its own execution at the base, and which of the two; may be none."""
    places = (sweep.home / "points").glob("*/done.json")
    made = [done for done in map(plan.mapping_in, places) if done and done.get("profile") == sweep.plan.base]
    if made:
        return [done["seconds"] for done in made], f"the median of {len(made)} points"
    stored = Request(Page(sweep.page.name), sweep.plan.base).stored()
    return [stored["metadata"]["book"]["seconds"]] if stored else [], f"the chapter's own time at {sweep.plan.base}"


def estimate(sweep: plan.Sweep, count: int, width: int) -> str:
    """How long so many points take, so many of them side by side."""
    seconds, source = usual(sweep)
    if not seconds:
        return f"no time known: neither a point nor {sweep.page.name} at {sweep.plan.base} has been executed here"
    return f"about {clock(statistics.median(seconds) * -(-count // width))} on {width} side by side, by {source}"
