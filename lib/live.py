"""One line of progress for long cells: a single output that updates, in a notebook, under papermill or in a terminal.

(tqdm's notebook bar freezes and a rich display leaves an empty widget when a notebook runs headless.)
"""
from __future__ import annotations

import sys
import time
from typing import Any, Self

PASSING = "progress"
"""Metadata of a line that no page shows."""
SELDOM = 60.0
"""Seconds between lines where standard error is no terminal; a run that takes less says nothing there."""


class Progress:
    """`with Progress(9, "runs") as progress: ... progress.advance()`; `samples` of each, if given, are told per second.
    """

    def __init__(self, total: int, label: str, done: int = 0, every: float = 0.5, samples: int = 0):
        self.total, self.label, self.done, self.reused = total, label, done, done
        self.every, self.samples = every, samples
        self.start = self.shown = self.told = time.monotonic()
        self.handle: Any = None

    @property
    def text(self) -> str:
        """What is shown: done of total, reused, elapsed, and the time left and the speed as far as they can be told."""
        elapsed, made = time.monotonic() - self.start, self.done - self.reused
        remaining = self.total - self.done
        left = f", {elapsed / made * remaining:.0f} s left" if made and remaining else ""
        reused = f" ({self.reused} reused)" if self.reused else ""
        rate = f", {made * self.samples / elapsed:,.0f} samples/s" if made and elapsed and self.samples else ""
        return f"{self.label}: {self.done} of {self.total}{reused}, {elapsed:.0f} s{left}{rate}"

    def advance(self, count: int = 1) -> None:
        """Count finished runs and refresh the line if it is due."""
        self.done += count
        if time.monotonic() - self.shown >= self.every:
            self.show()

    def show(self, last: bool = False) -> None:
        """Refresh the line now."""
        self.shown = time.monotonic()
        if "ipykernel" in sys.modules:
            self._show_in_notebook()
        elif sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{self.text}" + ("\n" if last else ""))
            sys.stderr.flush()
        elif self.shown - self.told >= SELDOM:  # in a file, as under nohup, lines pile up
            self.told = self.shown
            sys.stderr.write(f"{self.text}\n")

    def _show_in_notebook(self) -> None:
        from IPython.display import display

        bundle = {"text/plain": self.text}
        if self.handle is None:
            self.handle = display(bundle, raw=True, metadata={PASSING: True}, display_id=True)
        else:
            self.handle.update(bundle, raw=True, metadata={PASSING: True})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self.handle is not None or time.monotonic() - self.start >= self.every:  # what took no time needs no line
            self.show(last=True)
