"""Which GPUs a process is given: a pool hands them out by `CUDA_VISIBLE_DEVICES`, the least busy first."""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.press.pages import PageError


def gpus() -> list[str]:
    """The GPUs this process may use, as `CUDA_VISIBLE_DEVICES` names them; all of the driver's where it is not set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    return [str(number) for number in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*/information"))))]


class Slots:
    """GPUs shared between processes.

    Args:
        share: what one process takes: a share of a GPU, or a whole number of them; 0: it sees none.
        count: GPUs to hand out, as if there were so many; None: those there are.
    Raises:
        PageError: fewer GPUs than one process takes.
    """

    def __init__(self, share: float, count: int | None = None) -> None:
        names = gpus() if count is None else [str(number) for number in range(count)]
        self.share, self.used, self.lock = share, dict.fromkeys(names, 0.0), threading.Condition()
        if share > len(names):
            raise PageError(f"a point takes {share:g} of a GPU, and {len(names) or 'none'} are seen here; "
                            "write gpus: 0 under resources to run without")

    def room(self, most: int) -> int:
        """How many processes fit side by side, of `most` that the cores allow."""
        if not self.share:
            return most
        per_gpu = int(1 / self.share + 1e-9)
        return min(most, len(self.used) * per_gpu if self.share <= 1 else int(len(self.used) / self.share))

    @contextmanager
    def taken(self) -> Iterator[dict[str, str]]:
        """Wait for room and hold it inside the block; the environment variables that say which GPUs these are."""
        if not self.share:
            yield {"CUDA_VISIBLE_DEVICES": ""}
            return
        each, count = min(self.share, 1.0), max(1, int(self.share))
        with self.lock:
            free = self.lock.wait_for(lambda: self._free(each, count))
            self._add(free, each)
        try:
            yield {"CUDA_VISIBLE_DEVICES": ",".join(free), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        finally:
            with self.lock:
                self._add(free, -each)
                self.lock.notify_all()

    def _free(self, each: float, count: int) -> list[str]:
        able = sorted((name for name, used in self.used.items() if used + each <= 1 + 1e-9), key=self.used.__getitem__)
        return able[:count] if len(able) >= count else []

    def _add(self, names: list[str], each: float) -> None:
        for name in names:
            self.used[name] += each
