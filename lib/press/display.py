"""How far the jobs are: a live table on a terminal, plain lines elsewhere."""
from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LINE_EVERY = 20.0
"""Seconds between plain progress lines when standard output is not a terminal."""
BAR = 24
"""Columns of a bar."""


def clock(seconds: float) -> str:
    """Minutes and seconds, `1:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def left(jobs: Sequence[Any], slots: int) -> float:
    """Seconds until the last of `jobs` is done, by what earlier runs of the same pages took.

    The work that is left spread over the slots, and no less than the longest page needs; pages never run count 0.
    """
    rest = [max(0.0, job.expected - job.elapsed) for job in jobs if job.state in ("waiting", "running")]
    return max([sum(rest) / slots, *rest], default=0.0)


class display:
    """Live table on a terminal, plain lines elsewhere; `with display(jobs, slots) as show: ... show()`."""

    def __init__(self, jobs: list[Any], slots: int = 1):
        self.jobs, self.slots, self.live, self.said, self.last = jobs, slots, None, {}, time.monotonic()

    def __enter__(self):
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(get_renderable=self.table, refresh_per_second=4).__enter__()
        return self.show

    def __exit__(self, *error: Any) -> None:
        self.show(final=True)
        if self.live:
            self.live.__exit__(*error)

    def show(self, final: bool = False) -> None:
        if self.live:  # which draws itself
            return
        due = final or time.monotonic() - self.last > LINE_EVERY
        for job in self.jobs:
            if job.state != self.said.get(job.name, "waiting") or (due and not final and job.state == "running"):
                print(job.line, flush=True)
                self.said[job.name] = job.state
        if due:
            if not final and (seconds := left(self.jobs, self.slots)):
                print(f"about {clock(seconds)} left", flush=True)
            self.last = time.monotonic()

    def table(self) -> Any:
        """What is shown on a terminal."""
        from rich.console import Group

        seconds = left(self.jobs, self.slots)
        return Group(rows({job.name: job for job in self.jobs}), *[f"about {clock(seconds)} left"] * bool(seconds))


class rows:
    """A table for a terminal: of each job its name, state, cells and time, and a bar where there is room beside names.

    Names that are too long lose their beginning, which they are likely to share.
    """

    def __init__(self, jobs: Mapping[str, Any]):
        self.jobs = jobs

    def __rich_console__(self, _: Any, options: Any) -> Iterator[Any]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text  # a label such as [quick] is not markup

        told = []
        for name, job in self.jobs.items():
            done = job.cells if job.state == "done" else max(0, job.cell - 1)
            told.append((name, job.state, done, job.cells, f"{done}/{job.cells} cells", clock(job.elapsed)))
        widths = [max((len(str(row[at])) for row in told), default=0) for at in (0, 1, 4, 5)]
        room = options.max_width - sum(widths[1:]) - 2 * 3
        has_bar, table = room >= widths[0] + BAR + 2, Table.grid(padding=(0, 2))
        for name, state, done, cells, count, time_ in told:
            cut = name if len(name) <= room else f"…{name[len(name) - max(room, 1) + 1:]}"
            bar = [ProgressBar(total=max(1, cells), completed=done, width=BAR)] * has_bar
            table.add_row(Text(cut, no_wrap=True), state, *bar, count, time_)
        yield table
