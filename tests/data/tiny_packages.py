"""A tiny registry with one data set per provider, its archives, and stub package clients that deliver them."""
import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from lib.data import registry

IMAGES = np.arange(6 * 2 * 2, dtype=np.uint8).reshape(6, 2, 2)
LABELS = np.array([0, 1, 0, 1, 0, 1], dtype=np.uint8)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def deb(files: dict[str, bytes]) -> bytes:
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar(files, "w:xz")}
    out = b"!<arch>\n"
    for name, data in parts.items():
        out += f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return out


def wheel(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def entry(name: str, provider: str, decoder: str, archive: bytes, members: list[tuple[str, str, bytes]]) -> str:
    """Registry text of one data set whose arrays are IMAGES and LABELS."""
    lines = [
        f"[{name}]", f'title = "{name.title()}"', 'summary = "Six tiny images."', 'citation = "nobody"',
        'licence = "CC0"', "redistributable = true", "peak = 255", 'classes = ["even", "odd"]', f"[{name}.arrays]",
        f'images = {{ dtype = "uint8", shape = [6, 2, 2], sha256 = "{sha(IMAGES.tobytes())}" }}',
        f'labels = {{ dtype = "uint8", shape = [6], sha256 = "{sha(LABELS.tobytes())}" }}',
        f"[[{name}.sources]]", f'provider = "{provider}"', f'package = "tiny-{provider}"', 'version = "1.2.3"',
        f'decoder = "{decoder}"', f'archive_sha256 = "{sha(archive)}"', f"archive_bytes = {len(archive)}",
        "members = [",
    ]
    lines += [
        f'  {{ array = "{a}", path = "{p}", bytes = {len(d)}, sha256 = "{sha(d)}" }},' for a, p, d in members
    ]
    return "\n".join([*lines, "]", ""])


PAIR = [("images", "package/images", idx(IMAGES)), ("labels", "package/labels", gzip.compress(idx(LABELS), mtime=0))]
ROWS = "\n".join(",".join(map(str, [*image.ravel(), label])) for image, label in zip(IMAGES, LABELS, strict=True))
TABLE = [("table", "tiny/table.csv.gz", gzip.compress(ROWS.encode(), mtime=0))]


def files_of(members: list[tuple[str, str, bytes]]) -> dict[str, bytes]:
    return {path: data for _, path, data in members}


ARCHIVES = {
    "npm": tar({"package/index.js": b"process.exit(1)", **files_of(PAIR)}),
    "apt": deb({f"./{path}": data for path, data in files_of(PAIR).items()}),
    "pip": wheel({"tiny/__init__.py": b"raise SystemExit", **files_of(TABLE)}),
}
TEXT = (
    entry("by_npm", "npm", "idx", ARCHIVES["npm"], PAIR)
    + entry("by_apt", "apt", "idx", ARCHIVES["apt"], PAIR)
    + entry("by_pip", "pip", "csv", ARCHIVES["pip"], TABLE)
)
FILE_NAMES = {"npm": "tiny-npm-1.2.3.tgz", "apt": "tiny-apt_1.2.3_all.deb", "pip": "tiny_pip-1.2.3-py3-none-any.whl"}

CLIENT = """#!{python}
import json, os, pathlib, sys
log = pathlib.Path({folder!r}) / "calls.jsonl"
with log.open("a") as f:
    print(json.dumps([{provider!r}, *sys.argv[1:]]), file=f)
problem = pathlib.Path({folder!r}) / "{provider}.problem"
if problem.exists():
    sys.exit(problem.read_text())
pathlib.Path({name!r}).write_bytes((pathlib.Path({folder!r}) / {name!r}).read_bytes())
"""


class Clients:
    """The stub package clients: what they deliver, what they were asked."""

    def __init__(self, folder: Path):
        self.folder = folder

    def deliver(self, provider: str, archive: bytes) -> None:
        (self.folder / FILE_NAMES[provider]).write_bytes(archive)

    def fail(self, provider: str, message: str) -> None:
        (self.folder / f"{provider}.problem").write_text(message)

    def calls(self) -> list[list[str]]:
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def register(monkeypatch, text: str) -> None:
    """Let `text` be the registry."""
    parsed = registry.parse(text)
    monkeypatch.setattr(registry, "datasets", lambda: parsed)
