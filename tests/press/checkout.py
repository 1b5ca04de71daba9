"""A miniature checkout with one tiny study, so that the press can be run, killed and broken for real."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]

CHAPTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Tiny

```{code-cell} ipython3
import json, os, time
from pathlib import Path

from lib.studies.tiny.protocol import Params, double
from lib.params import from_cell
```

```{code-cell} ipython3
:tags: [parameters]

profile = "quick"
seeds = 2
rate = 0.5
mode = "plain"
pause = 0.0
```

```{code-cell} ipython3
params = from_cell(Params, globals())
Path(os.environ["BOOK_RESULTS"]).write_text(json.dumps({"answer": double(params.seeds)}))
```

```{code-cell} ipython3
time.sleep(params.pause)
```

```{code-cell} ipython3
assert params.mode != "fail", "asked to fail"
print("answer", double(params.seeds))
```
"""

STUDY = '''\
from lib.params import Params as Base

class Params(Base):
    profile: str
    seeds: int
    rate: float
    mode: str
    pause: float

def double(x):
    return 2 * x
'''

JUDGING = """\
params = from_cell(Params, globals())
from lib.press.ledger import Ledger
from lib.press.verdicts import Measured
ledger = Ledger("tiny", params)
for claim in ledger.claims:
    ledger.judge(claim, Measured([double(params.seed) / 20 + 1.0, 1.1, 1.2]))
"""
"""Instead of the third cell: a chapter that judges its claims by values that move with a root seed."""

CLAIM = """\
- id: TI-1
  study: tiny
  source: nobody, nowhere
  origin: claim
  statement: Something is more than nothing.
  parts:
    - {name: something, kind: effect, direction: more, estimate: something, nulls: [nothing], margin: 0.5, why: half}
"""

QUICK = "profile: quick\nseeds: 2\nrate: 0.5\nmode: plain\npause: 0.0\n"


@dataclass
class Checkout:
    """A folder with `lib`, `book/studies/tiny.md` and `params/tiny/quick.yaml`."""

    root: Path

    @property
    def chapter(self) -> Path:
        return self.root / "book/studies/tiny.md"

    @property
    def quick(self) -> Path:
        return self.root / "params/tiny/quick.yaml"

    @property
    def output(self) -> Path:
        return self.root / "_build/executed/quick/tiny.ipynb"

    @property
    def results(self) -> Path:
        return self.root / "_build/results/quick/tiny.json"

    def start(self, *arguments: str, module: tuple[str, ...] = ("-m", "lib.press")) -> subprocess.Popen:
        """Start `python -m lib.press ...` in this checkout."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BOOK_")}
        return subprocess.Popen(
            [sys.executable, *module, *arguments], cwd=self.root, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Python in this checkout, with its own `lib`."""
        return self.press(*arguments, module=())

    def press(self, *arguments: str, **more: tuple[str, ...]) -> subprocess.CompletedProcess:
        """Run `python -m lib.press ...` to its end."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=600)  # a busy machine is no hang
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.press("run", "tiny", *arguments)

    def notebook(self) -> dict:
        return json.loads(self.output.read_text())

    def processes(self) -> list[psutil.Process]:
        """Every live process whose working directory is this checkout: press, workers and kernels."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self.root:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                pass
        return found

    def wait_until_pausing(self) -> None:
        """Wait until the chapter's first cells have run and it sleeps in the next."""
        self.wait_for(lambda: list(self.root.glob("_build/partial/*/tiny.results.json")), "the chapter to start")

    def wait_for(self, condition, what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds} s for {what}"
            time.sleep(0.05)


def until_quiet(made: Checkout) -> Iterator[Checkout]:
    """Whatever a checkout started must be gone when the test ends."""
    yield made
    leftover = made.processes()
    for process in leftover:
        process.kill()
    assert leftover == [], f"left running: {leftover}"


def known(claims: Path) -> str:
    """The module of claims with the study `tiny`, whose claims are called TI, among those it knows."""
    text = claims.read_text()
    for before, added in (('STUDIES = (\n', '    "tiny",\n'), ('PROJECTS = {\n', '    "TI": "a tiny study",\n')):
        assert before in text
        text = text.replace(before, before + added)
    return text


def judging(made: Checkout) -> None:
    """Let the checkout's chapter judge its claims, and give it a root seed."""
    old = CHAPTER.split("```{code-cell} ipython3\n")[3].split("```")[0]
    chapter = made.chapter.read_text()
    assert old in chapter
    made.chapter.write_text(chapter.replace(old, JUDGING).replace('seeds = 2\n', 'seeds = 2\nseed = 0\n'))
    made.quick.write_text(QUICK + "seed: 0\n")
    protocol = made.root / "lib/studies/tiny/protocol.py"
    protocol.write_text(STUDY.replace("    seeds: int\n", "    seeds: int\n    seed: int\n"))


def make_checkout(root: Path) -> Checkout:
    """Lay a miniature checkout in `root`."""
    ignore = shutil.ignore_patterns("__pycache__", "studies")
    shutil.copytree(REPOSITORY / "lib", root / "lib", ignore=ignore)
    files = {
        "pyproject.toml": "[project]\nname = 'tiny'\n",
        "lib/studies/__init__.py": "",
        "lib/studies/tiny/protocol.py": STUDY,
        "lib/press/claims.py": known(REPOSITORY / "lib/press/claims.py"),
        "book/claims.yml": "[]\n",
        "book/studies/tiny.md": CHAPTER,
        "params/tiny/quick.yaml": QUICK,
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return Checkout(root)
