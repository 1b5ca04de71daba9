"""Every study's own sweep, cut to three points of smoke's size, on two Ray workers whose driver is killed twice: its
table equals the serial engine's. An hour on two cores: `make test-sweep ARGS="-m walk"`.
"""
from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from checkout import REPOSITORY, Checkout, until_quiet

from lib.params import ParameterError, check, read_yaml
from lib.press.pages import Request
from lib.press.sweep import plan, results

pytestmark = [
    pytest.mark.ray, pytest.mark.walk,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-sweep"),
]
POINTS = 3
"""Two are executed side by side, and the third when one of them has ended."""
LONG = ("seeds", "steps", "epochs", "passes", "samples", "images", "batch")
"""How names end of what stays as smoke has it, since more of it only takes longer."""
EACH = [f"{results.RUN}{name}" for name in ("seconds", "finished", "attempts", "host")]
"""What differs from execution to execution."""


def short(values):
    return {name: value for name, value in values.items() if not name.endswith(LONG)}


def cut(path):
    """The sweep file of a study as one of smoke's: the first points of its figure that smoke's other values allow."""
    sweep = plan.read(path)
    base, fixed, points = Request(sweep.page, "smoke").raw_values, short(sweep.plan.fixed), []
    for varied in (short(point.varied) for point in sweep.points):
        try:
            check(sweep.page.params_class(), {**base, **fixed, **varied}, sweep.page.name)
        except ParameterError:
            continue
        if {sweep.figure.x, sweep.figure.by} - {""} <= varied.keys() and varied not in points:
            points.append(varied)
    of_smoke = {"base": "smoke", "fixed": fixed, "points": [{"list": points[:POINTS]}]}
    return {**read_yaml(path), **of_smoke, "resources": {"cpus": 1, "gpus": 0}}


class Sweeping(Checkout):
    """A copy of this checkout with a study's sweep to run; what is generated lies in `build`."""

    def lay(self, path):
        for name in ("lib", "book", "params"):
            shutil.copytree(REPOSITORY / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", self.root)
        self.study, self.file = path.parent.name, self.root / "params" / path.parent.name / "sweep_cut.yaml"
        self.file.write_text(yaml.safe_dump(cut(path)))
        self.build = self.root / "by_ray"

    def start(self, *options):
        return subprocess.Popen(
            [sys.executable, "-m", "lib.press.sweep", "run", self.file, *options], cwd=self.root, text=True,
            env={**os.environ, "BOOK_BUILD": str(self.build)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, *options):
        return self.start(*options).communicate(timeout=3600)[0]

    def killed(self, driver, when, what):
        """Kill a driver as soon as points are under way as asked for; when the finished ones were written."""
        self.wait_for(lambda: when() or driver.poll() is not None, what, 3600)
        driver.kill()
        said, _ = driver.communicate(timeout=600)
        self.wait_for(lambda: not self.processes(), "the end of its points", 600)
        assert when(), said
        return self.finished()

    def under_way(self):
        """Points with cells behind them."""
        return {path.parent.name for path in self.files("work/*/partial.ipynb")}

    def finished(self):
        return {path.parent.name: path.stat().st_mtime_ns for path in self.files("points/*/done.json")}

    def attempts(self):
        return [json.loads(path.read_text())["attempts"] for path in self.files("points/*/done.json")]

    def files(self, pattern):
        return self.build.glob(f"sweeps/{self.study}/{pattern}")

    def table(self):
        return pd.read_parquet(*self.files("tables/cut.parquet")).drop(columns=EACH)


@pytest.fixture
def made(tmp_path):
    yield from until_quiet(Sweeping(tmp_path.resolve()))


@pytest.mark.parametrize("path", plan.files(), ids=lambda path: path.parent.name)
def test_a_sweep_killed_twice_equals_the_serial_one(nodes, made, path):
    """First with two points under way and a run behind them, then with one done and the third under way."""
    made.lay(path)
    on_ray = ("--address", nodes.address)
    none = made.killed(made.start(*on_ray), lambda: len(made.under_way()) == 2 and [*made.build.glob("runs/*/*.npz")],
                       "two points side by side")
    first = made.under_way()
    some = made.killed(made.start(*on_ray), lambda: made.finished() and made.under_way() - first, "the third point")
    missing = POINTS - len(some)
    assert not none and 0 < missing < POINTS
    said = made.run(*on_ray)
    assert f"{len(some)} done, 0 stale, 0 failed, {missing} missing; {missing} to execute" in said, said
    assert made.finished().items() >= some.items() and len(made.attempts()) == POINTS and min(made.attempts()) > 1, said
    by_ray = made.table()
    assert set(by_ray["run.state"]) == {"done"} and not (made.root / "_build").exists()
    made.build = made.root / "serial"
    assert f"{POINTS} missing; {POINTS} to execute" in (said := made.run("--workers", "2")), said
    pd.testing.assert_frame_equal(by_ray, made.table(), check_exact=True)
