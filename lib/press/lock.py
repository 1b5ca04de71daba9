"""One process at a time, by a lock file that the system frees when its holder ends, however that happens."""
from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock file `path` inside the block; who comes second waits. A child that inherits it holds it too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
