"""What benchmarks share: the clock of a process, its peak memory, and measurements in a process of their own.

The allocator's settings are read when a process starts, and a peak never falls; so a benchmark file that measures in
fresh processes is called as a script with the name of a measurement and its arguments, and prints it as JSON.
"""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lib.files import ROOT
from lib.press.jobs import KERNEL_ENVIRONMENT

Call = Callable[[], object]


def cpu_seconds(call: Call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def least_ms(calls: list[Call], rounds: int) -> list[float]:
    """Least CPU-milliseconds of each call, taken in turns, so that a busy machine slows all, after one to warm up."""
    times = [[cpu_seconds(call) for call in calls] for _ in range(rounds + 1)][1:]
    return [1000 * min(column) for column in zip(*times, strict=True)]


def peak_mb() -> float:
    """Largest resident size of this process since it began (`ru_maxrss` would count the parent's before it)."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def measured(file: str, kind: str, *names: str) -> Any:
    """What a script says, in the environment kernels of the press have.

    For "memory" every large block is returned at once: the peak is then what a step holds, not what the heap keeps.
    """
    environment = {**os.environ, **KERNEL_ENVIRONMENT}
    if kind == "memory":
        environment["MALLOC_MMAP_THRESHOLD_"] = str(2**17)
    command = [sys.executable, file, kind, *names]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def answer(*kinds: Callable[..., object]) -> None:
    """Print the measurement that the command line names."""
    torch.set_num_threads(1)
    print(json.dumps({kind.__name__: kind for kind in kinds}[sys.argv[1]](*sys.argv[2:])))
