"""Watchers of a training, called at each logged step: a display in a terminal, and two trackers. None is on by default.

    fit(coder, activations, watch=[Display()])
    fit(coder, activations, watch=[Display(), tensorboard("_build/tensorboard/mine"), wandb("mine")])

A watcher is any function of (step, told); told has numbers by name, and lists of them, such as firing rates.
"""
from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Told = Mapping[str, float | Sequence[float]]
Watcher = Callable[[int, Told], None]
BARS = "▁▂▃▄▅▆▇█"
DECADES = range(-6, 1)
"""Powers of ten between which a histogram in the terminal counts."""


class Display:
    """Each number with its course, each list as a histogram over powers of ten; drawn over itself, on a terminal alone.

    Nothing is drawn in a notebook, under papermill or where standard error goes to a file.
    """

    def __init__(self, width: int = 40):
        self.width, self.course, self.lines = width, {}, 0

    def __call__(self, step: int, told: Told) -> None:
        text = self.text(step, told)
        if sys.stderr.isatty() and "ipykernel" not in sys.modules:
            up = f"\x1b[{self.lines}F" if self.lines else ""
            self.lines = text.count("\n") + 1
            sys.stderr.write(f"\r{up}\x1b[J{text}\n")
            sys.stderr.flush()

    def text(self, step: int, told: Told) -> str:
        """What is drawn."""
        lines, most = [f"step {step:,}"], max(map(len, told))
        for name, value in told.items():
            if isinstance(value, (int, float)):
                self.course.setdefault(name, []).append(float(value))
                lines.append(f"{name:{most}}  {value:<10.4g} {spark(self.course[name], self.width)}")
            else:
                lines.append(f"{name:{most}}  {histogram(value)}")
        return "\n".join(lines)


def spark(values: Sequence[float], width: int) -> str:
    """The course of numbers as at most `width` bars, between the least and the largest finite one; the last is shown.
    """
    n = min(width, len(values))
    shown = [values[(i + 1) * len(values) // n - 1] for i in range(n)]
    known = [value for value in shown if math.isfinite(value)] or [0.0]
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(BARS[round((value - low) / span * 7)] if math.isfinite(value) else " " for value in shown)


def histogram(values: Sequence[float]) -> str:
    """Counts of positive numbers by power of ten, four bars each, and how many are 0."""
    counts = [0] * (4 * (len(DECADES) - 1))
    for value in values:
        if value > 0:
            place = int(4 * (math.log10(value) - DECADES[0]))
            counts[min(max(place, 0), len(counts) - 1)] += 1
    bars = spark([0, *counts], len(counts) + 1)[1:]
    zero = sum(value <= 0 for value in values)
    return f"1e{DECADES[0]} {bars} 1e{DECADES[-1]}, {zero} of {len(values)} are 0"


def tensorboard(folder: str | Path) -> Watcher:
    """A watcher that writes event files of TensorBoard, which must be installed."""
    writer = _package("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

    def told_to(step: int, told: Told) -> None:
        for name, value in told.items():
            if isinstance(value, (int, float)):
                writer.add_scalar(name, value, step)
            else:
                import numpy as np

                writer.add_histogram(name, np.asarray(value), step)
        writer.flush()

    return told_to


def wandb(project: str, folder: str | Path = "_build", **settings: Any) -> Watcher:
    """A watcher that writes a run of Weights & Biases, which must be installed, below `folder` and sends nothing.

    `wandb sync` sends it later. settings: of `wandb.init`; mode="online" sends at once.
    """
    package = _package("wandb", "wandb")
    Path(folder).mkdir(parents=True, exist_ok=True)
    run = package.init(**{"project": project, "dir": str(folder), "mode": "offline"} | settings)

    def told_to(step: int, told: Told) -> None:
        run.log({name: value if isinstance(value, (int, float)) else package.Histogram(list(value))
                 for name, value in told.items()}, step=step)

    return told_to


def _package(module: str, name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{name} is not installed; pip install {name}, or leave its watcher out") from error
