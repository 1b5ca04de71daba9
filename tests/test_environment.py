"""One environment told in four files: pyproject.toml, constraints.txt, environment.yml and the Makefile agree."""
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from lib.files import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(text) for texts in (PROJECT["dependencies"], *EXTRAS.values()) for text in texts]
PINS = [
    Requirement(line.split(" #")[0])
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def pin_of(name: str) -> Version | None:
    """The version constraints.txt gives to `name` on this Python and platform."""
    fitting = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]
    fitting = [pin for pin in fitting if pin.marker is None or pin.marker.evaluate()]
    assert len(fitting) < 2, f"{name} is pinned {len(fitting)} times for this platform: {fitting}"
    return Version(str(fitting[0].specifier).removeprefix("==")) if fitting else None


def conda() -> tuple[list[str], list[str]]:
    """Dependencies in environment.yml: conda's own, pip's."""
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    [pip] = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return [entry for entry in entries if isinstance(entry, str)], pip


def test_lower_bound_of_python_is_one():
    bounds = {
        "pyproject.toml": re.fullmatch(r">=(\d+\.\d+)", PROJECT["requires-python"])[1],
        "environment.yml": next(e for e in conda()[0] if e.startswith("python")).removeprefix("python>="),
        "Makefile": ".".join(re.search(r"sys\.version_info < \((\d+), (\d+)\)", MAKEFILE).groups()),
        "make lock": re.search(r"--python-version (\d+\.\d+)", MAKEFILE)[1],
    }
    assert len(set(bounds.values())) == 1, bounds
    assert Version(".".join(map(str, sys.version_info[:2]))) in SpecifierSet(PROJECT["requires-python"])


def test_conda_installs_by_the_makefiles_pip_line():
    own, pip = conda()
    [made, sweep] = re.findall(r"pip install [^\n]*(-c \S+) (-e) '([^']+)'", MAKEFILE)
    assert sweep[2] == ".[sweep]", "what make test-sweep adds"
    assert pip == [made[0], f"{made[1]} {made[2]}"]
    assert own[1:] == ["pip"], "all packages come from pyproject.toml"
    assert set(re.search(r"\[(.+)\]", made[2])[1].split(",")) <= set(EXTRAS)


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_direct_dependency_is_pinned_and_installed_as_pinned(requirement):
    pin = pin_of(requirement.name)
    assert pin is not None, f"{requirement}: no pin in constraints.txt; make lock"
    assert requirement.specifier.contains(pin, prereleases=True), f"{requirement}: pinned to {pin}; make lock"
    asked_for = [*EXTRAS["sweep"], *EXTRAS["track"], *EXTRAS["umap"]]
    if str(requirement) in asked_for and not list(distributions(name=requirement.name)):
        pytest.skip("only those who ask for it install it")
    installed = Version(version(requirement.name))
    # a build tag such as torch's +cpu says for which processor, not which version
    assert installed.public == pin.public, f"{requirement.name}: {installed} is installed, {pin} pinned; remove .venv"


def test_every_pin_is_exact():
    loose = [str(pin) for pin in PINS if not re.fullmatch(r"==[^,*]+", str(pin.specifier))]
    assert loose == []


@pytest.mark.parametrize(("name", "pinned"), [("torch", "2.13.0"), ("torchvision", "0.28.0"), ("timm", "1.0.31")])
def test_packages_that_must_move_together_are_pinned_together(name, pinned):
    assert [str(pin.specifier) for pin in PINS if pin.name == name] == [f"=={pinned}"]


FAKE_PYTHON = r"""#!/bin/bash
# Stands for python3 and for the python of the environment it makes; one line of calls.log per call.
echo "$*" >> "{here}/calls.log"
case "$*" in
  "-c "*) exit {old} ;;
  "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "{here}/python" .venv/bin/python ;;
  "-m pip --version") exit 0 ;;
  "-m pip install "*) [ ! -e "{here}/broken" ] ;;
  *) exit 9 ;;
esac
"""


class Install:
    """The Makefile's `.venv/ready` rule in a folder of its own, with a Python that only pretends."""

    def __init__(self, root, old=0):
        self.root, self.here, self.stamp = root / "checkout", root / "fake", root / "checkout/.venv/ready"
        for folder in (self.root, self.here):
            folder.mkdir()
        for file in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / file, self.root)
        python = self.here / "python"
        python.write_text(FAKE_PYTHON.format(here=self.here, old=old))
        python.chmod(python.stat().st_mode | stat.S_IXUSR)

    def make(self, *targets):
        arguments = ["make", "--no-print-directory", f"PYTHON={self.here / 'python'}", *targets]
        alone = {"PATH": os.environ["PATH"]}  # `make test PROFILE=full` hands its variables down by the environment
        return subprocess.run(arguments, cwd=self.root, env=alone, capture_output=True, text=True, timeout=60)

    def calls(self):
        """What the fake was asked since the last time, version checks left out."""
        log = self.here / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith("-c ")]


@pytest.fixture
def install(tmp_path):
    return Install(tmp_path)


INSTALLS = "-m pip install --quiet --disable-pip-version-check -c constraints.txt -e .[book,test]"


def test_interrupted_install_is_taken_up_again(install):
    (install.here / "broken").touch()
    assert install.make(".venv/ready").returncode != 0
    assert not install.stamp.exists() and install.calls()[-1] == INSTALLS
    (install.here / "broken").unlink()
    assert install.make(".venv/ready").returncode == 0
    assert install.stamp.exists()
    assert install.calls() == ["-m pip --version", INSTALLS], "what the first attempt made is used"
    assert install.make(".venv/ready").returncode == 0 and install.calls() == [], "nothing is installed twice"


def test_environment_interrupted_while_it_was_made_is_made_again(install):
    (install.root / ".venv/bin").mkdir(parents=True)  # no python in it yet
    assert install.make(".venv/ready").returncode == 0
    assert install.calls() == ["-m venv --clear .venv", INSTALLS] and install.stamp.exists()


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_dependencies_are_installed_and_a_failure_leaves_no_stamp(install, changed):
    install.make(".venv/ready")
    (install.root / changed).write_text((install.root / changed).read_text() + "\n")
    later = install.stamp.stat().st_mtime + 10
    os.utime(install.root / changed, (later, later))
    install.calls()
    (install.here / "broken").touch()
    assert install.make(".venv/ready").returncode != 0
    assert install.calls()[-1] == INSTALLS and not install.stamp.exists()


def test_old_python_is_refused_with_the_remedy(tmp_path):
    install = Install(tmp_path, old=1)
    refused = install.make("book")
    assert refused.returncode != 0
    assert "is older than 3.11: name a newer one, make PYTHON=python3.12 book" in refused.stdout
    assert install.calls() == [] and not (install.root / ".venv").exists()


def test_the_makefiles_version_check_lets_this_python_pass_and_stops_older_ones():
    [check] = re.findall(r"\$\(PYTHON\) -c '([^']*version_info[^']*)'", MAKEFILE)
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
    older = check.replace("import sys;", "import sys; sys.version_info = (3, 10, 9);")
    assert subprocess.run([sys.executable, "-c", older]).returncode == 1


@pytest.mark.parametrize("target", ["book", "test", "lab", "data", "bench", "lint"])
def test_every_target_sets_the_environment_up_first(install, target):
    steps = install.make("-n", target).stdout.splitlines()
    [install_step] = [number for number, step in enumerate(steps) if "pip install" in step]
    command = re.sub(r"^(\w+=\S+ )+", "", steps[-1])  # without the environment it is given
    assert install_step < len(steps) - 1 and command.startswith(".venv/bin/python -m")


def test_cleaning_keeps_what_took_long_and_needs_nothing_there(install):
    for name in (".gitignore", "data/x", "runs/x", "sweeps/x", "html/x", "executed/x"):
        path = install.root / "_build" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert install.make("clean").returncode == 0
    assert {path.name for path in (install.root / "_build").iterdir()} == {".gitignore", "data", "runs", "sweeps"}
    shutil.rmtree(install.root / "_build")
    assert install.make("clean").returncode == 0


def test_book_executes_before_it_renders(install):
    steps = install.make("-n", "book").stdout.splitlines()
    assert steps[-2].startswith(".venv/bin/python -m lib.press run --site --profile quick")
    assert steps[-1].startswith(".venv/bin/python -m lib.press.site build --profile quick")


def test_help_is_the_default_and_every_documented_target_does_something(install):
    shown = install.make()
    targets = re.findall(r"^  make (\S+)", shown.stdout, re.MULTILINE)
    assert shown.returncode == 0 and {"book", "test", "run", "lab", "study", "clean"} <= set(targets)
    for target in targets:
        steps = install.make("-n", target, "NAME=x", "STUDY=x")
        assert steps.returncode == 0 and steps.stdout.strip(), f"make {target}: {steps.stderr}"
