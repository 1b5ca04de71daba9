"""What a result was computed with: versions and device, found without importing torch."""
from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PINNED = ("torch", "numpy", "timm", "papermill")
"""Packages whose version enters a content key, besides Python itself."""


def environment() -> dict[str, str | None]:
    """Versions and device a content key depends on."""
    return {"python": platform.python_version(), **versions(PINNED), "device": device()}


def device() -> str:
    """The GPUs a run may use, one name each, else `cpu`; honours CUDA_VISIBLE_DEVICES set to nothing."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}
    files = [] if hidden else sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [line.partition(":")[2].strip() for f in files for line in f.read_text().splitlines() if "Model" in line]
    return ", ".join(names) or "cpu"


def processor() -> str:
    """The processor's name and how many cores this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {cores()} cores"


def cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed version of each package, None where it is not installed."""
    return {name: _version(name) for name in packages}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
