"""Runs that are computed once: cached by content, resumable after a kill, collected into one DataFrame.

A run is a call of a function of this library. Its key covers the function, every library file that function's module
reaches, the arguments, the versions and the device; its result appears on disk whole or not at all. So a collection
killed in its seventh run reuses six, and an edited library file reruns what depends on it. Of a study's Params only the
fields a run has read are arguments: changing one parameter repeats only the runs that use it.
"""
from __future__ import annotations

import concurrent.futures
import io
import json
import multiprocessing
import os
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel

from lib.files import BUILD, PACKAGE, digest, write_atomically, write_json
from lib.live import Progress
from lib.press import provenance
from lib.press.keys import closure_digest

Function = Callable[..., Mapping[str, Any]]


def reuse(function: Function, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """`function(*args, **kwargs)`, from disk if the same call has been made with the same code before.

    Args:
        function: a module-level function of this library that returns a dict of arrays, DataFrames, plain values and
            nested dicts or lists of them. It must be deterministic in its arguments (seeds are arguments).
        args, kwargs: numbers, texts, sequences, arrays or Params.
    Returns:
        The dict; tuples inside come back as lists.
    Raises:
        TypeError: the function is not the library's, or an argument or result has no plain form.
    """
    start, library = time.monotonic(), _library(function)
    args, kwargs = tuple(map(_unwatched, args)), {name: _unwatched(value) for name, value in kwargs.items()}
    run_path(function, args, kwargs, library)  # refuses arguments that are not plain before anything runs
    for fields in _known_reads(function, library):
        result = _read(run_path(function, args, kwargs, library, fields))
        if result is not None:
            _calls.append((_name(function), time.monotonic() - start, True))
            return result
    reads: set[str] = set()
    watched = [_Watched(a, reads) if isinstance(a, BaseModel) else a for a in args]
    named = {k: _Watched(a, reads) if isinstance(a, BaseModel) else a for k, a in kwargs.items()}
    result = function(*watched, **named)
    path = run_path(function, args, kwargs, library, reads)
    # What is written is what is returned, so a first and a second call cannot differ.
    write_atomically(path, lambda p: _write(p, result))
    _remember_reads(function, library, reads)
    _calls.append((_name(function), time.monotonic() - start, False))
    return _read(path)


def calls() -> pd.DataFrame:
    """What `reuse` did in this process, in order: columns run, seconds, reused."""
    return pd.DataFrame(_calls, columns=["run", "seconds", "reused"])


_calls: list[tuple[str, float, bool]] = []


class _Watched:
    """A stand-in for Params that notes which fields are read; a method of it counts as reading them all."""

    def __init__(self, params: BaseModel, reads: set[str]):
        self._params, self._reads = params, reads

    def __getattr__(self, name: str) -> Any:
        fields = type(self._params).model_fields
        self._reads.update([name] if name in fields else fields)
        return getattr(self._params, name)


def _unwatched(value: Any) -> Any:
    """Params handed on from one run to another: the outer run depends on all of them."""
    if isinstance(value, _Watched):
        value._reads.update(type(value._params).model_fields)
        return value._params
    return value


def _known_reads(function: Function, library: str) -> list[list[str]]:
    """Sets of fields that earlier runs of this function, as the library is now, have read.

    A run is determined by the fields it reads: another Params that agrees on them takes the same course.
    """
    path = _reads_path(function)
    try:
        return json.loads(path.read_text(encoding="utf-8")).get(library, [])
    except (OSError, ValueError, AttributeError):
        return []


def _remember_reads(function: Function, library: str, reads: set[str]) -> None:
    known = _known_reads(function, library)
    if sorted(reads) not in known:
        write_json(_reads_path(function), {library: [*known, sorted(reads)]})


def _reads_path(function: Function) -> Path:
    return _folder(function) / "reads.json"


def collect(
    function: Function, configs: Iterable[Mapping[str, Any]], jobs: int | None = None, label: str = "runs"
) -> pd.DataFrame:
    """One row per config: its arguments and what `function(**config)` returned.

    Args:
        function: as in `reuse`.
        configs: keyword arguments, one mapping per run.
        jobs: worker processes of one thread each; default the press's core budget (BOOK_CORES), else 1.
        label: what the progress line calls the runs.
    Returns:
        DataFrame in the order of `configs`; `attrs["reused"]` counts the runs that were already there.
    """
    configs = [dict(config) for config in configs]
    jobs = jobs or int(os.environ.get("BOOK_CORES", "1"))
    library = _library(function)
    paths = [run_path(function, (), config, library) for config in configs]
    results = [_read(path) for path in paths]
    missing = [i for i, result in enumerate(results) if result is None]
    with Progress(len(configs), label, done=len(configs) - len(missing)) as progress:
        for _ in _finished(function, [(configs[i], paths[i]) for i in missing], min(jobs, len(missing))):
            progress.advance()
    for i in missing:
        results[i] = _read(paths[i])
    frame = pd.DataFrame([{**config, **result} for config, result in zip(configs, results, strict=True)])
    frame.attrs["reused"] = len(configs) - len(missing)
    return frame


def run_path(
    function: Function,
    args: tuple,
    kwargs: Mapping[str, Any],
    library: str | None = None,
    reads: Iterable[str] | None = None,
) -> Path:
    """Where this call's result is or will be: `_build/runs/<module>.<function>/<key>.npz`.

    `reads` are the fields of a Params argument that count; None: all.
    """
    library, reads = library or _library(function), None if reads is None else frozenset(reads)
    plain = _plain(args, reads), _plain(dict(kwargs), reads)
    key = digest(_name(function), library, *plain, provenance.environment())
    return _folder(function) / f"{key[:32]}.npz"


def _folder(function: Function) -> Path:
    return BUILD / "runs" / _name(function)


def _name(function: Function) -> str:
    return f"{function.__module__}.{function.__qualname__}".removeprefix(f"{PACKAGE.name}.")


def _library(function: Function) -> str:
    """Digest of every library file the function's module reaches."""
    module, name = function.__module__, function.__qualname__
    if module.split(".")[0] != PACKAGE.name or "<" in name:
        raise TypeError(f"{module}.{name}: only a module-level function of `{PACKAGE.name}` can be cached")
    return closure_digest(f"import {module}")


def _make(function: Function, config: dict, path: Path) -> None:
    write_atomically(path, lambda p: _write(p, function(**config)))


def _finished(function: Function, runs: list[tuple[dict, Path]], jobs: int) -> Iterable[None]:
    """Make the runs, yielding after each."""
    if jobs <= 1:
        for config, path in runs:
            _make(function, config, path)
            yield
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _end_with_parent, (os.getpid(),)) as pool:
        try:
            for future in concurrent.futures.as_completed([pool.submit(_make, function, *run) for run in runs]):
                future.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent(parent: int) -> None:
    """In a worker: one torch thread, and an end as soon as the parent is gone, however it went."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _plain(value: Any, reads: frozenset[str] | None = None) -> Any:
    """An argument as JSON that tells types apart: `1`, `1.0`, `"1"` and `True` give different keys."""
    if isinstance(value, BaseModel):
        return {"params": type(value).__name__, **json.loads(value.model_dump_json(include=reads))}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(k): _plain(v, reads) for k, v in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(v, reads) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a run's argument must be plain data, got {type(value).__name__}")


_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile)
"""What NumPy and zipfile raise on a damaged file (NotImplementedError is a RuntimeError)."""


def _write(path: Path, result: Any) -> None:
    arrays: list[np.ndarray] = []
    skeleton = json.dumps(_encode(result, arrays))
    with open(path, "wb") as file:
        np.savez(file, skeleton=np.array(skeleton), **{f"a{i}": array for i, array in enumerate(arrays)})


def _read(path: Path) -> dict[str, Any] | None:
    """A stored result; None if there is none or it cannot be read (then it is computed again, with a warning)."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return _decode(json.loads(str(file["skeleton"])), file)
    except _UNREADABLE as error:
        warnings.warn(f"{path}: stored run cannot be read ({error}); computing it again", stacklevel=3)
        return None


def _encode(value: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(value, Mapping):
        return {"dict": [[_text(k), _encode(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_encode(v, arrays) for v in value]}
    if isinstance(value, pd.DataFrame):
        arrays.append(np.frombuffer(value.to_parquet(), dtype=np.uint8))
        return {"frame": len(arrays) - 1}
    if isinstance(value, np.ndarray) and value.dtype != object:
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(f"a run may return arrays, DataFrames, plain values, dicts and lists; got {type(value).__name__}")


def _decode(code: Any, file: Mapping[str, np.ndarray]) -> Any:
    [(kind, content)] = code.items()
    if kind == "dict":
        return {key: _decode(inner, file) for key, inner in content}
    if kind == "list":
        return [_decode(inner, file) for inner in content]
    if kind == "frame":
        return pd.read_parquet(io.BytesIO(file[f"a{content}"].tobytes()))
    return file[f"a{content}"] if kind == "array" else content


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a run's result must have text keys, got {key!r}")
    return key
