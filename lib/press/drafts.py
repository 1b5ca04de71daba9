"""The site while pages are still being run: rendered as they finish."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from lib.files import BUILD, ROOT

REST = 4.0
"""Times as long as a rendering took, the next one waits: drafts take at most a fifth of one core."""


class Drafts:
    """Renders the site in a process of its own once a page is done that the last rendering did not have."""

    def __init__(self, profile: str):
        self.profile, self.process = profile, None
        self.shown, self.started, self.due = 0, 0.0, 0.0

    def follow(self, jobs: Sequence[Any]) -> str:
        """Start or end a rendering where it is time, again and again while jobs run; what to tell, if anything."""
        told = ""
        done, now = sum(job.state == "done" for job in jobs), time.monotonic()
        if self.process and self.process.poll() is not None:
            if self.process.returncode == 0:
                told = f"site: {self.shown} of {len(jobs)} pages so far: {BUILD / 'html' / 'index.html'}"
            self.process, self.due = None, now + REST * (now - self.started)
        if not self.process and done > self.shown and now >= self.due and any(job.state == "running" for job in jobs):
            self.shown, self.started, self.process = done, now, self._render()
        return told

    def end(self) -> None:
        """End a rendering that is under way; what it was to replace still stands."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _render(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "lib.press.site", "build", "--draft", "--profile", self.profile]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)
