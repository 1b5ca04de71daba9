"""What each data set is: `registry.toml` read into frozen records, and the errors of `lib.data`."""
from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

REGISTRY = Path(__file__).with_name("registry.toml")
CLIENTS = {"pip": "PyPI", "npm": "npm", "apt": "Debian"}
PROVIDERS = (*CLIENTS, "torchvision")
DECODERS = ("csv", "idx", "png_strips", "bytes")


class DataError(RuntimeError):
    """A data set cannot be used; the message says which, why and what to do."""


class DatasetUnavailable(DataError):
    """A data set is nowhere to be found; the message gives the command that gets it, its size and licence."""


class DataCorrupt(DataError):
    """Bytes differ from what the registry pins, or an archive is not what it should be."""


class Missing(DataError):
    """A data set is not in this place; another may have it."""


def check(what: str, found: object, pinned: object) -> None:
    """Raise DataCorrupt unless what was found is what the registry pins."""
    if found != pinned:
        raise DataCorrupt(f"{what} {found}, registry pins {pinned}; not used")


@dataclass(frozen=True)
class Member:
    """One file inside an archive and the array it fills; members of one array are concatenated in order."""

    array: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """One place a data set can come from: a pinned package of one provider.

    `archive_sha256` is None where wheels differ by platform; the members' hashes decide there.
    """

    provider: str
    package: str
    version: str = ""
    decoder: str | None = None
    archive_sha256: str | None = None
    archive_bytes: int | None = None
    members: tuple[Member, ...] = ()

    def __str__(self) -> str:
        return f"{self.provider} {self.package}{' ' if self.version else ''}{self.version}"

    @property
    def provenance(self) -> str:
        """Where it lies and what its archive is held to, for a reader."""
        if self.provider == "torchvision":
            return f"torchvision.datasets.{self.package}, its own downloader; held to the same hashes"
        pinned = f", archive SHA-256 {self.archive_sha256[:16]}" if self.archive_sha256 else ""
        return f"{CLIENTS[self.provider]} package {self.package} {self.version}{pinned}"


@dataclass(frozen=True)
class Array:
    """A decoded array: dtype, shape and the SHA-256 of its C-order bytes, the same whatever the source."""

    dtype: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def bytes(self) -> int:
        """Size of the decoded array; every registered dtype is one byte wide."""
        return prod(self.shape)


@dataclass(frozen=True)
class Dataset:
    """A registered data set; `sources` are tried in order."""

    name: str
    title: str
    summary: str
    citation: str
    licence: str
    redistributable: bool
    arrays: dict[str, Array]
    sources: tuple[Source, ...]
    peak: int = 0
    classes: tuple[str, ...] = ()
    """None where it holds no labelled images."""
    apart: bool = False
    """Whether it is downloaded even where a package client would install it: the book needs nothing of the package."""

    @property
    def bytes(self) -> int:
        """Size of all decoded arrays."""
        return sum(a.bytes for a in self.arrays.values())

    @property
    def download_bytes(self) -> int:
        """Size of the first source's archive."""
        return self.sources[0].archive_bytes or 0

    @property
    def command(self) -> str:
        """The command that fetches this data set."""
        return f"make data DATA={self.name}"

    @property
    def splits(self) -> tuple[str, ...]:
        """"train" and "test", or none where all images are one set."""
        return tuple(key.removesuffix("_images") for key in self.arrays if key.endswith("_images"))

    @property
    def comes_installed(self) -> bool:
        """Whether a package that the book itself needs carries it."""
        return self.sources[0].provider == "pip" and not self.apart

    def facts(self) -> dict[str, str]:
        """What a reader should know of it, by heading, in Markdown; hashes are cut to 16 digits."""
        return {
            "what": self.summary,
            "source": "; or ".join(source.provenance for source in self.sources),
            "licence": f"{self.licence}; {'may' if self.redistributable else 'not to'} be passed on",
            "size": f"{megabytes(self.bytes)} as arrays, {megabytes(self.download_bytes)} to download",
            "get it": "it comes with the book's packages" if self.comes_installed else f"`{self.command}`",
        } | {name: f"{a.dtype} {list(a.shape)}, SHA-256 {a.sha256[:16]}" for name, a in self.arrays.items()}


def megabytes(n: int) -> str:
    """`n` bytes as text: "0.1 MB", "139 MB"."""
    return f"{n / 1e6:.1f} MB" if n < 1e7 else f"{n / 1e6:.0f} MB"


def dataset(name: str) -> Dataset:
    """The registered data set called `name`; DataError lists the accepted names where there is none."""
    known = datasets()
    if name not in known:
        raise DataError(f"unknown data set {name!r}; accepted names: {', '.join(sorted(known))}")
    return known[name]


@cache
def datasets() -> dict[str, Dataset]:
    """Every registered data set by name, in the registry's order."""
    return parse(REGISTRY.read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Dataset]:
    """Read the text of a registry; DataError where an entry lacks a key or has an unknown one, or a refused value."""
    found = {}
    for name, entry in tomllib.loads(text).items():
        try:
            found[name] = _dataset(name, dict(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"registry entry {name!r}: {error}") from error
    return found


def is_safe_path(path: str) -> bool:
    """Whether an archive's member path stays inside the archive: relative, no `..`, no backslash, no drive."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and not set(path) & set("\\:\0")


def _dataset(name: str, entry: dict[str, Any]) -> Dataset:
    arrays = {key: Array(**{**spec, "shape": tuple(spec["shape"])}) for key, spec in entry.pop("arrays").items()}
    sources = tuple(_source(dict(source)) for source in entry.pop("sources"))
    return Dataset(name=name, arrays=arrays, sources=sources, classes=tuple(entry.pop("classes", ())), **entry)


def _source(entry: dict[str, Any]) -> Source:
    members = tuple(Member(**member) for member in entry.pop("members", ()))
    source = Source(members=members, **entry)
    if source.provider not in PROVIDERS:
        raise ValueError(f"provider {source.provider!r} is not one of {', '.join(PROVIDERS)}")
    if source.provider != "torchvision" and source.decoder not in DECODERS:
        raise ValueError(f"decoder {source.decoder!r} is not one of {', '.join(DECODERS)}")
    for member in members:
        if not is_safe_path(member.path):
            raise ValueError(f"member path {member.path!r} leaves the archive")
    return source
