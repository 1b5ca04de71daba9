"""A JupyterLab of this checkout's own, started as `make lab` starts it."""
from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import nbformat.sign

from lib.files import BUILD, ROOT
from lib.press import lab


@contextlib.contextmanager
def opened(cell: nbformat.NotebookNode, folder: Path) -> Iterator[str]:
    """The address of a notebook with that one cell; folder: for the server's settings and log."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}  # else asked for
    notebook, log = BUILD / "lab" / f"{folder.name}.ipynb", folder / "lab.log"
    notebook.parent.mkdir(parents=True, exist_ok=True)
    made = nbformat.v4.new_notebook(cells=[cell], metadata=kernel)
    nbformat.write(made, notebook)
    nbformat.sign.NotebookNotary(data_dir=str(folder)).sign(made)  # as one's own run; else HTML is stripped
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=t", "--LabApp.news_url=None"]
    own = {f"JUPYTER{name}_DIR": str(folder) for name in ("_CONFIG", "_DATA", "_RUNTIME", "LAB_WORKSPACES")}
    with open(log, "w") as told:
        process = subprocess.Popen(lab.command(options), cwd=ROOT, stdout=told, stderr=told,
                                   env=lab.environment() | own)
        try:
            end = time.monotonic() + 90
            while "Use Control-C" not in log.read_text():
                assert time.monotonic() < end and process.poll() is None, log.read_text()
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}/lab/tree/{os.path.relpath(notebook, ROOT)}?token=t"
        finally:
            process.kill()  # it may wait long for a kernel that is still starting; a kernel ends with its server
            process.wait()
            notebook.unlink()
