"""Keys of runs as a copy of the library gives them, for tests that edit the copy."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lib.files import PACKAGE


def copy(root: Path) -> Path:
    """A copy of the library under `root`, which is returned."""
    shutil.copytree(PACKAGE, root / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def key(root: Path, imports: str, expression: str) -> str:
    """What `expression` prints as after `imports`, with `planned`, in a process whose library is the copy in `root`."""
    code = f"from lib.press.runs import planned\n{imports}\nprint({expression})"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOOK_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment | {"PYTHONPATH": str(root)},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
