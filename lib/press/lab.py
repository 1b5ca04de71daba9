"""Opens the book in JupyterLab: `python -m lib.press.lab [options of jupyter lab]`.

A chapter is its MyST file; double-clicked it opens as a notebook (jupytext), and saving writes the Markdown back.
Outputs stay in the paired notebook under `_build/ipynb`, never in git.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lib.files import BUILD, ROOT, write_json
from lib.press.jobs import KERNEL_ENVIRONMENT, THREADS

VIEWERS = {"@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Jupytext Notebook"}}}


def command(options: Sequence[str]) -> list[str]:
    """The command line that starts JupyterLab on this checkout."""
    settings = write_json(BUILD / "lab" / "overrides.json", VIEWERS).parent
    return [
        sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", f"--LabApp.app_settings_dir={settings}",
        "--LabApp.default_url=/lab/tree/book/intro.md", *options,
    ]


def environment() -> dict[str, str]:
    """The press's environment for kernels: one thread, since tiny models lose by more, or what OMP_NUM_THREADS says."""
    threads = {} if "OMP_NUM_THREADS" not in os.environ else dict.fromkeys(THREADS, os.environ["OMP_NUM_THREADS"])
    kept = {k: v for k, v in KERNEL_ENVIRONMENT.items() if k != "PLOTLY_RENDERER"}
    return {**os.environ, **kept, **threads}


if __name__ == "__main__":
    os.execvpe(sys.executable, command(sys.argv[1:]), environment())
