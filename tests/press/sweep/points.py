"""Points without a chapter behind them, and a small checkout with a sweep."""
from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml
from checkout import Checkout

from lib.press.sweep import point
from lib.press.sweep.results import RUN, RUN_SAME

FACTS = {"code": "c", "library": "l", "claims": "r"}
SWEEP = {
    "base": "quick", "figure": {"x": "seeds", "y": "answer", "says": "twice the seeds, a third of it",
                               "labels": {"seeds": "seeds", "answer": "a third of twice as many"}},
    "points": [{"grid": {"seeds": [2, 3], "rate": [0.5, 1]}}], "resources": {"cpus": 1, "gpus": 0},
}
MEASURING = '''\
from myst_nb import glue
answer = double(params.seeds) / 3
glue("answer", answer, display=False)
'''


def task(home: Path, id: str = "one", **changes: object) -> point.Task:
    made = point.Task("tiny", "quick", id, {}, {"seeds": 2}, FACTS, home, {}, 60.0, 1)
    return made._replace(**changes)


def sweeping(made: Checkout, **changes: object) -> Path:
    """Let the checkout's chapter quote its answer, and give it a sweep with some keys changed."""
    chapter = made.chapter.read_text()
    if MEASURING not in chapter:
        made.chapter.write_text(chapter.replace('print("answer"', MEASURING + 'print("answer"'))
    path = made.root / "params/tiny/sweep_mine.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **changes}))
    return path


def sweep(made: Checkout, command: str, *options: str):
    """Run a command of sweeps in the checkout to its end."""
    return made.press(command, "params/tiny/sweep_mine.yaml", *options, module=("-m", "lib.press.sweep"))


def table(made: Checkout) -> pd.DataFrame:
    """The table, without what differs from execution to execution."""
    frame = pd.read_parquet(made.root / "_build/sweeps/tiny/tables/mine.parquet")
    return frame[[name for name in frame if not name.startswith(RUN) or name in RUN_SAME]]


def begun(made: Checkout) -> list[int]:
    """How often each finished point was begun."""
    return [len(path.read_text().splitlines()) for path in made.root.glob("_build/sweeps/tiny/points/*/begun.txt")]
