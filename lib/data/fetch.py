"""Downloads through ordinary package clients, into a temporary folder: nothing is installed and no script runs."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from lib.data.archives import Arrays
from lib.data.registry import Missing, Source

SECONDS = 1800
"""A client that takes longer is stopped."""


def allowed() -> bool:
    """Whether downloads are allowed: unless the environment says `BOOK_OFFLINE=1`."""
    return os.environ.get("BOOK_OFFLINE", "") in ("", "0")


def command(source: Source) -> list[str]:
    """The package client's command that puts the source's archive into the working directory."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "."]
    return {
        "pip": [*pip, f"{source.package}=={source.version}"],
        "npm": ["npm", "pack", "--silent", "--ignore-scripts", f"{source.package}@{source.version}"],
        "apt": ["apt-get", "download", "--quiet", f"{source.package}={source.version}"],
    }[source.provider]


def fetch_archive(source: Source, folder: Path) -> Path:
    """Let the source's package client download its archive into the empty `folder`; the archive's path.

    Raises:
        Missing: the client is missing, fails, takes too long, or leaves anything but one file.
    """
    words = command(source)
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError as error:
        raise Missing(f"{source}: {words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{source}: {words[0]} took more than {SECONDS} s") from error
    if done.returncode:
        remedy = " (package lists missing or old? run `apt-get update` as root)" if source.provider == "apt" else ""
        raise Missing(f"{source}: `{' '.join(words)}` failed: {_last_line(done.stderr)}{remedy}")
    files = list(folder.iterdir())
    if len(files) != 1:
        raise Missing(f"{source}: expected one archive from {words[0]}, found {sorted(f.name for f in files)}")
    return files[0]


def fetch_torchvision(source: Source, folder: Path) -> Arrays:
    """What torchvision's own downloader gives: train_images, train_labels, test_images, test_labels, as yet unchecked.

    Args:
        source: its `package` names a class of `torchvision.datasets` with `data` and `targets`.
    Raises:
        Missing: torchvision cannot be imported, or its download fails.
    """
    from lib.torchvision_import import import_torchvision  # imports torch: not for every command line

    found = {}
    try:
        cls = getattr(import_torchvision("torchvision.datasets"), source.package)
        for split in ("train", "test"):
            part = cls(str(folder), train=split == "train", download=True)
            found[f"{split}_images"] = np.asarray(part.data, dtype=np.uint8)
            found[f"{split}_labels"] = np.asarray(part.targets, dtype=np.uint8)
    except (ImportError, OSError, RuntimeError) as error:
        raise Missing(f"{source}: {_last_line(str(error))}") from error
    return found


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("e:", "error", "npm err"))]
    return (errors or lines or ["no message"])[-1][:300]
