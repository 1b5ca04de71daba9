"""Runs that are computed once: cached by content, resumable after a kill, collected into one DataFrame.

A run is a call of a function of this library. Its key covers the function, what every library file its module reaches
does (docstrings, comments and the press apart), the arguments, the versions and the device; its result appears on disk
whole or not at all. So a collection killed in its seventh run reuses six, and an edited library file reruns what
depends on it.

A function says in its signature what it takes. Where it names a group of a study's parameters, a class that Params
inherits from, it is given those fields and no others, and only they are in the key. Where it has an argument
`checkpoints`, it is given a folder beside its entry, outside the key, that goes when the result lands: what it keeps
there it finds again after a kill.
"""
from __future__ import annotations

import concurrent.futures
import inspect
import io
import json
import multiprocessing
import os
import shutil
import threading
import time
import typing
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel

from lib.files import BUILD, PACKAGE, digest, only_one, write_atomically
from lib.live import Progress
from lib.press import provenance
from lib.press.keys import PRESS, closure_digest

Function = Callable[..., Mapping[str, Any]]
CHECKPOINTS = "checkpoints"
"""The argument under which a function is given its folder."""


class Run(NamedTuple):
    """A call and the place of its result."""

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    """Both with defaults included and parameters narrowed to what the function takes."""
    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder beside the result that a function with an argument of that name is given."""
        return self.path.with_suffix(f".{CHECKPOINTS}")

    def stored(self) -> dict[str, Any] | None:
        """The result, if it is there and whole; what a kill left of its checkpoints is swept away."""
        result = _read(self.path)
        if result is not None and self.checkpoints.is_dir():
            shutil.rmtree(self.checkpoints, ignore_errors=True)
        return result

    def make(self) -> None:
        """Compute the result and put it in place, unless another process does so meanwhile: that one is waited for."""
        own = {CHECKPOINTS: self.checkpoints} if CHECKPOINTS in inspect.signature(self.function).parameters else {}
        lock = self.path.with_suffix(".lock")
        with only_one(lock):
            if self.stored() is None:
                result = self.function(*self.args, **self.kwargs, **own)
                write_atomically(self.path, lambda p: _write(p, result))
                shutil.rmtree(self.checkpoints, ignore_errors=True)
            lock.unlink(missing_ok=True)


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
    start, before, run = time.monotonic(), len(_calls), planned(function, *args, **kwargs)
    result = run.stored()
    is_reused = result is not None
    if not is_reused:
        run.make()
        result = _read(run.path)  # what is written is what is returned, so a first and a second call cannot differ
    inner = sum(seconds for _, seconds, _ in _calls[before:])
    _calls.append((_name(function), time.monotonic() - start - inner, is_reused))
    return result


def calls() -> pd.DataFrame:
    """What `reuse` did in this process, as runs ended: columns run, seconds (without those of runs inside), reused."""
    return pd.DataFrame(_calls, columns=["run", "seconds", "reused"])


_calls: list[tuple[str, float, bool]] = []


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
    runs = [planned(function, **config) for config in configs]
    results = [run.stored() for run in runs]
    missing = [i for i, result in enumerate(results) if result is None]
    with Progress(len(configs), label, done=len(configs) - len(missing)) as progress:
        for _ in _made([runs[i] for i in missing], min(jobs, len(missing))):
            progress.advance()
    for i in missing:
        results[i] = _read(runs[i].path)
    frame = pd.DataFrame([{**config, **result} for config, result in zip(configs, results, strict=True)])
    frame.attrs["reused"] = len(configs) - len(missing)
    return frame


def planned(function: Function, *args: Any, **kwargs: Any) -> Run:
    """The run a call is; its result is or will be `_build/runs/<module>.<function>/<key>.npz`.

    Raises:
        TypeError: as `reuse`.
    """
    module, name = function.__module__, function.__qualname__
    if module.split(".")[0] != PACKAGE.name or "<" in name or module.startswith(f"{PACKAGE.name}.{PRESS}."):
        raise TypeError(f"{module}.{name}: only a module-level function of `{PACKAGE.name}`, the press apart, can be "
                        "cached")
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    bound.arguments.pop(CHECKPOINTS, None)
    takes = typing.get_type_hints(function)
    bound.arguments |= {name: _narrowed(value, takes.get(name)) for name, value in bound.arguments.items()}
    library = closure_digest(f"import {module}", without=PRESS)
    key = digest(_name(function), library, _plain(bound.args), _plain(bound.kwargs), provenance.environment())
    return Run(function, bound.args, bound.kwargs, BUILD / "runs" / _name(function) / f"{key[:32]}.npz")


def _narrowed(value: Any, group: Any) -> Any:
    """Parameters as the group a signature names; anything else as it is."""
    if not isinstance(value, BaseModel) or type(value) is group or not inspect.isclass(group):
        return value
    return value.view(group) if isinstance(value, group) else value


def _name(function: Function) -> str:
    return f"{function.__module__}.{function.__qualname__}".removeprefix(f"{PACKAGE.name}.")


def _made(runs: list[Run], jobs: int) -> Iterable[None]:
    """Make the runs, yielding after each."""
    if jobs <= 1:
        for run in runs:
            run.make()
            yield
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _end_with_parent, (os.getpid(),)) as pool:
        try:
            for future in concurrent.futures.as_completed([pool.submit(run.make) for run in runs]):
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


def _plain(value: Any) -> Any:
    """An argument as JSON that tells types apart: `1`, `1.0`, `"1"` and `True` give different keys."""
    if isinstance(value, BaseModel):
        return {"params": type(value).__name__, **json.loads(value.model_dump_json())}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [_plain(v) for v in value]
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
