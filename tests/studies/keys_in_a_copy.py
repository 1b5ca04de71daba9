"""Keys of runs in a copy of the library, so that a file can be edited and the keys that change be told."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lib.files import PACKAGE, ROOT


def copied(root: Path) -> Path:
    """Lay a copy of the library and its parameter files in `root`."""
    shutil.copytree(PACKAGE, root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "params", root / "params")
    (root / "pyproject.toml").touch()
    return root


def edit(root: Path, file: str, line: str = "_EDITED = True") -> None:
    """Add a line of code to a file of the copy."""
    with open(root / file, "a", encoding="utf-8") as text:
        text.write(f"\n{line}\n")


def keys(root: Path, before: str, *calls: str) -> list[str]:
    """The keys of runs in the copy, as a process that starts there finds them.

    Args:
        before: lines that import and load what the calls name.
        calls: function and arguments as `planned` takes them, "train.trained, params, 0".
    """
    lines = ["from lib.press.runs import planned", before, *[f"print(planned({call}).path.stem)" for call in calls]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOOK_")}
    environment["PYTHONPATH"] = str(root)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
