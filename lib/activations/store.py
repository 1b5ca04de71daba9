"""Activations on disk: one flat file of rows with its description, there whole or not at all.

A store is a folder with `activations.bin` (rows x width, little-endian float16 or float32) and `store.json` (shape,
type, SHA-256 of the rows, what they are, their statistics). It is written beside its place and renamed into it, so a
killed writer leaves only a `.partial` folder, where the next writer goes on.
"""
from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lib.files import file_digest, only_one, read_json, write_json

KEEP_EVERY = 10.0
"""Seconds between notes of how far a writer has come."""
_ROWS, _ABOUT = "activations.bin", "store.json"
_FORMAT = 1
_DTYPES = {"float16": torch.float16, "float32": torch.float32}
Batches = Callable[[], Iterable[Tensor | Callable[[], Tensor]]]


class StoreError(ValueError):
    """A store that is not what its description says, or rows that cannot be stored."""


class Statistics:
    """Mean and variance of rows that come in chunks, merged without loss of digits (float64).

    For chunks of n_a and n_b rows with δ the difference of their means, M2 = M2_a + M2_b + δ^2 n_a n_b / (n_a + n_b).

    Attributes:
        count: rows so far; mean, m2: of each dimension, float64 [d].
    Source: Chan, Golub & LeVeque 1979.
    """

    def __init__(self, width: int):
        self.count = 0
        self.mean, self.m2 = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)

    def update(self, x: Tensor) -> None:
        """Add rows [n, d]."""
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"statistics of width {len(self.mean)} cannot take {tuple(x.shape)}")
        if not len(x):
            return
        x, total = x.detach().double().cpu(), self.count + len(x)
        mean = x.mean(0)
        delta = mean - self.mean
        self.m2 = self.m2 + (x - mean).square().sum(0) + delta.square() * (self.count * len(x) / total)
        self.mean = self.mean + delta * (len(x) / total)
        self.count = total

    @property
    def var(self) -> Tensor:
        """Variance of each dimension, M2 / n, float64 [d]; var.sum() · n is the total that `fvu` divides by."""
        return self.m2 / self.count

    def plain(self) -> dict[str, Any]:
        """As JSON types; `Statistics.from_plain` restores it exactly."""
        return {"count": self.count, "mean": self.mean.tolist(), "m2": self.m2.tolist()}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Statistics:
        """What `plain` returned."""
        found = cls(len(data["mean"]))
        found.count = data["count"]
        found.mean, found.m2 = (torch.tensor(data[name], dtype=torch.float64) for name in ("mean", "m2"))
        return found


class ActivationStore:
    """Rows of activations read from disk by number; made by `build`, reopened by `open_store`.

    Attributes:
        path: the folder; shape: (rows, width); dtype: as stored, "float16" or "float32".
        identity: what was stored (model, module, data), as given to `build`; sha256: of the rows.
        statistics: of the rows as stored.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]):
        self.path, self.shape, self.dtype = path, (about["rows"], about["width"]), about["dtype"]
        self.identity, self.sha256 = about["identity"], about["sha256"]
        self.statistics = Statistics.from_plain(about["statistics"])
        self._rows = np.memmap(path / _ROWS, dtype=np.dtype(self.dtype).newbyteorder("<"), mode="r", shape=self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def batch(self, indices: ArrayLike) -> Tensor:
        """Rows by number, in the order given, float32 [len(indices), width]."""
        rows = torch.as_tensor(indices).cpu().numpy()
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise IndexError(f"indices must be a list of row numbers, got {rows.dtype} {rows.shape}")
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} asked of a store of {len(self)}")
        return torch.from_numpy(self._rows[rows.astype(np.int64)].astype(np.float32))


def build(path: Path | str, identity: Mapping[str, Any], batches: Batches, dtype: str = "float16") -> ActivationStore:
    """The store at `path`, written first if it is not there; a writer that was killed is gone on from.

    Args:
        identity: what the rows are: plain data that changes whenever they would (model, weights, module, data, seed).
        batches: called when rows are needed; yields them in chunks [..., width], or functions that make one each: of
            the chunks that a killed writer wrote, only the last is then made again, to see that it is the same.
        dtype: "float16" halves disk and reading and keeps three digits; "float32" keeps all.
    Raises:
        StoreError: another identity or type is stored there, the store is damaged, a value is not finite or does not
            fit float16, chunks differ in width, or there are none.
    """
    path = Path(path)
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    identity = json.loads(json.dumps(identity, sort_keys=True))
    if is_new := not path.exists():
        _write(path, identity, batches, dtype)
    store = open_store(path, verify=not is_new)
    _refuse_other(path, (store.identity, store.dtype), (identity, dtype))
    return store


def _refuse_other(path: Path, *asked: tuple[Mapping[str, Any], str]) -> None:
    """An error that names what differs, where identity and dtype there are not the ones asked for."""
    there, here = ({**identity, "type of the rows": dtype} for identity, dtype in asked)
    if differing := sorted(name for name in there | here if there.get(name) != here.get(name)):
        told = ", ".join(f"{name} ({there.get(name)!r} there, {here.get(name)!r} asked for)" for name in differing)
        raise StoreError(f"{path} holds other rows: they differ in {told}; use another path, or delete this folder")


def open_store(path: Path | str, verify: bool = True) -> ActivationStore:
    """An existing store; StoreError where its description or its rows are damaged.

    Args:
        verify: read all rows once and compare their SHA-256; without it only shape and size are compared.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"there is no activation store at {path}")
    remedy = f"delete {path} and build it again"
    try:
        about = read_json(path / _ABOUT)
        size = about["rows"] * about["width"] * np.dtype(about["dtype"]).itemsize
        held = (path / _ROWS).stat().st_size
        store = ActivationStore(path, about) if held == size and about["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path / _ABOUT} does not describe a store ({error}); {remedy}") from error
    if store is None:
        raise StoreError(f"{path / _ROWS} has {held} bytes, its description (format {about['format']}) says {size}; "
                         f"{remedy}")
    if verify and file_digest(path / _ROWS) != store.sha256:
        raise StoreError(f"{path / _ROWS} has changed since it was written (SHA-256 differs); {remedy}")
    return store


def _write(path: Path, identity: Any, batches: Batches, dtype: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with only_one(path.with_name(f".{path.name}.lock")):
        if path.exists():  # written while we waited; opening it will tell whether it is ours
            return
        before = _left(partial, identity, dtype, batches)
        if before is None:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
        try:
            _write_rows(partial, {"format": _FORMAT, "dtype": dtype, "identity": identity}, batches(), before)
            os.rename(partial, path)
        except StoreError:  # the rows are at fault; a kill, a full disk or a failing model leaves what is noted
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _left(partial: Path, identity: Any, dtype: str, batches: Batches) -> tuple[int, Statistics, Any] | None:
    """Chunks, their statistics and the digest of their bytes that a killed writer left; None to begin anew.

    The last chunk is made again and must be the same; what is damaged is begun anew.
    """
    try:
        about = read_json(partial / _ABOUT)
        there, before = ({**about["identity"]}, about["dtype"]), range(about["chunks"])
        with open(partial / _ROWS, "r+b") as file:
            file.truncate(about["rows"] * about["width"] * np.dtype(about["dtype"]).itemsize)
            sha256 = hashlib.file_digest(file, "sha256")
        store = ActivationStore(partial, about)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    _refuse_other(partial, there, (identity, dtype))
    if not before or sha256.hexdigest() != store.sha256:
        return None
    last = next((_rows(chunk) for chunk in islice(batches(), before[-1], None)), torch.empty(0, 0))
    again = last.to("cpu", _DTYPES[dtype]).float()
    same = torch.equal(store.batch(range(len(store))[-len(last):]), again)
    return (len(before), store.statistics, sha256) if same else None


def _write_rows(
    partial: Path, about: dict[str, Any], chunks: Iterable[Tensor | Callable[[], Tensor]],
    before: tuple[int, Statistics, Any] | None,
) -> None:
    """The rows after those that are there, and the description of all: on the way too, every `KEEP_EVERY` seconds."""
    done, statistics, sha256 = before or (0, None, hashlib.sha256())
    noted, dtype = time.monotonic(), about["dtype"]

    def note() -> None:
        file.flush()
        os.fsync(file.fileno())
        found = {"chunks": done, "rows": statistics.count, "width": len(statistics.mean)}
        write_json(partial / _ABOUT, about | found | {"sha256": sha256.hexdigest(), "statistics": statistics.plain()})

    with open(partial / _ROWS, "ab") as file:
        for chunk in islice(chunks, done, None):
            rows, done = _rows(chunk), done + 1
            statistics = statistics or Statistics(rows.shape[-1])
            if rows.shape[1] != len(statistics.mean):
                raise StoreError(f"a chunk is {rows.shape[1]} wide, the ones before it {len(statistics.mean)}")
            stored = _stored(rows, dtype, statistics.count)
            statistics.update(stored)
            data = stored.numpy().astype(np.dtype(dtype).newbyteorder("<"), copy=False).tobytes()
            file.write(data)
            sha256.update(data)
            if time.monotonic() - noted >= KEEP_EVERY:
                note()
                noted = time.monotonic()
        if statistics is None or not statistics.count:
            raise StoreError("there were no rows to store")
        note()


def _rows(chunk: Tensor | Callable[[], Tensor]) -> Tensor:
    """A chunk, made if it is not yet, as rows [n, width]."""
    chunk = (chunk() if callable(chunk) else chunk).detach()
    return chunk.flatten(0, -2) if chunk.ndim > 1 else chunk[None]


def _stored(rows: Tensor, dtype: str, first: int) -> Tensor:
    """Rows in the type of the store, or an error that names the first row that does not fit."""
    stored = rows.to(device="cpu", dtype=_DTYPES[dtype])
    bad = ~torch.isfinite(stored).all(1)
    if bad.any():
        row = int(bad.int().argmax())
        if not torch.isfinite(rows[row]).all():
            raise StoreError(f"row {first + row} has NaN or infinite activations; find out where the model makes them")
        raise StoreError(f"row {first + row} reaches {float(rows[row].abs().max()):.4g}, beyond {dtype}'s "
                         f"{torch.finfo(stored.dtype).max:g}; divide the activations by a constant, or store "
                         "dtype='float32'")
    return stored
