"""Stub package clients that deliver the tiny packages."""
import os
import sys

import pytest
from tiny_packages import ARCHIVES, CLIENT, FILE_NAMES, TEXT, Clients, register

from lib import files


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Clients:
    """Tiny registry, empty cache, and stub npm, apt-get (on PATH) and pip (on PYTHONPATH)."""
    folder = tmp_path / "clients"
    (folder / "pip").mkdir(parents=True)
    (folder / "pip" / "__init__.py").touch()
    stubs = {"npm": folder / "npm", "apt": folder / "apt-get", "pip": folder / "pip" / "__main__.py"}
    for provider, path in stubs.items():
        words = {"python": sys.executable, "folder": str(folder), "provider": provider, "name": FILE_NAMES[provider]}
        path.write_text(CLIENT.format(**words))
        path.chmod(0o755)
        (folder / FILE_NAMES[provider]).write_bytes(ARCHIVES[provider])
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.delenv("BOOK_OFFLINE", raising=False)
    monkeypatch.setattr(files, "BUILD", tmp_path / "build")
    register(monkeypatch, TEXT)
    return Clients(folder)
