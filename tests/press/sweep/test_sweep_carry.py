"""A machine's own Python: what it lacks is listed with the remedy, and what is carried there leaves PyTorch out."""
import os
import subprocess
import sys

import pytest

from lib.files import ROOT
from lib.press.sweep import carry


def test_this_environment_lacks_nothing(capsys):
    assert carry.lacking() == [] and carry.check() == 0 and capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("has", "line"), [
    (None, "torch>=2.11,<2.14: not installed"), ("2.10.0", "torch>=2.11,<2.14: 2.10.0 is installed"),
    ("2.14.1+cu130", "torch>=2.11,<2.14: 2.14.1+cu130 is installed"), ("2.11.0+cu128", None)])
def test_what_is_missing_or_does_not_fit_is_told(monkeypatch, capsys, has, line):
    def version(name):
        if name != "torch":
            return real(name)
        if has is None:
            raise carry.PackageNotFoundError
        return has

    real = carry.version
    monkeypatch.setattr(carry, "version", version)
    assert carry.lacking() == ([line] if line else []) and carry.check() == bool(line)
    said = capsys.readouterr().err
    assert ("make wheelhouse TARGET=" in said and "--no-index" in said) == bool(line)


def test_pins_leave_out_what_the_machine_has_and_follow_its_python():
    pins = carry.pins("3.12")
    names = {pin.partition("==")[0] for pin in pins}
    assert {"numpy", "papermill", "jupyter-book", "timm", "ray"} <= names and all("==" in pin for pin in pins)
    assert not {name for name in names if name.startswith(("torch", "nvidia", "triton", "cuda"))}


def test_it_runs_where_nothing_is_installed():
    """With the standard library alone: site-packages are not on the path."""
    done = subprocess.run([sys.executable, "-S", "-c", "import lib.press.sweep.carry as c; print(c.ROOT)"], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(ROOT), done.stderr


def test_make_with_the_systems_python_installs_nothing():
    """It checks first, and then runs the same command by that Python."""
    command = ["make", "-n", "--no-print-directory", "SYSTEM=1", "PYTHON=python9", "sweep", "STUDY=s", "SWEEP=w"]
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "ARGS")}
    steps = subprocess.run(command, cwd=ROOT, env=outside,
                           capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert steps[0] == "python9 -m lib.press.sweep.carry check" and "install" not in "".join(steps)
    assert steps[-1].strip() == "python9 -m lib.press.sweep run params/s/sweep_w.yaml"
