"""What a machine without a network lacks of the book's packages, and how to carry it there; needs Python and pip alone.

    python -m lib.press.sweep.carry check           what this Python lacks, or has in a version that does not fit
    python -m lib.press.sweep.carry gather 3.12     wheels for a Python 3.12, PyTorch apart, into `_build/wheelhouse`
"""
from __future__ import annotations

import platform
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WHEELS = ROOT / "_build" / "wheelhouse"
EXTRAS = ("book",)
"""Beside the library's own packages: without them no page is executed or rendered."""
SYSTEMS = r"torch|torchvision|triton|nvidia-.*|cuda-.*"
"""What a GPU box has itself, in the build that fits its driver."""


def lacking() -> list[str]:
    """A line per package that is not there, or whose version the book does not accept."""
    from pip._vendor.packaging.requirements import Requirement  # pip is there where anything can be installed

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = []
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(each for name in EXTRAS for each in extras[name])]:
        wanted = Requirement(text)
        try:
            has = version(wanted.name)
        except PackageNotFoundError:
            lines.append(f"{text}: not installed")
            continue
        if not wanted.specifier.contains(has.partition("+")[0], prereleases=True):
            lines.append(f"{text}: {has} is installed")
    return lines


def pins(python: str) -> list[str]:
    """The lines of constraints.txt to carry to a Linux machine with that Python."""
    from pip._vendor.packaging.requirements import Requirement

    there = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
             "platform_system": "Linux", "platform_machine": platform.machine(), "os_name": "posix",
             "platform_python_implementation": "CPython", "implementation_name": "cpython"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.partition(" #")[0]) for line in lines if line.strip() and not line.startswith("#")]
    return [f"{each.name}{each.specifier}" for each in wanted
            if not re.fullmatch(SYSTEMS, each.name) and (each.marker is None or each.marker.evaluate(there))]


def check() -> int:
    """Say what is missing and how to carry it; 1 if anything is."""
    lines = lacking()
    if not lines:
        return 0
    print(f"{sys.executable} lacks what the book needs:", *(f"  {line}" for line in lines), sep="\n", file=sys.stderr)
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(f"on a machine with a network: make wheelhouse TARGET={minor}; copy _build/wheelhouse here; then:",
          f"  {sys.executable} -m pip install --no-index --no-deps _build/wheelhouse/*.whl",
          "PyTorch and torchvision come from this machine's own supplier, in builds that fit each other.", sep="\n",
          file=sys.stderr)
    return 1


def gather(python: str) -> int:
    """Download the wheels for a Linux machine with that Python; what pip returns."""
    names = pins(python)
    print(f"{len(names)} wheels for Python {python} into {WHEELS.relative_to(ROOT)}, without PyTorch")
    return subprocess.run([
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary",
        ":all:", "--python-version", python, "--dest", str(WHEELS), *names], check=False).returncode


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check"]:
            sys.exit(check())
        case ["gather", python]:
            sys.exit(gather(python))
    sys.exit(__doc__)
