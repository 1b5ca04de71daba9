"""Checkpoints of training: plain tensors in a file that is whole, and finite, or not there."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.files import write_atomically

VERSION = 3


def write(path: Path, step: int, states: list[dict[str, Any]], **rest: Any) -> None:
    """Write what continuing after `step` steps needs.

    Args:
        states: of every part of the training; tensors, numbers and strings in dicts and lists, as is the rest.
    Raises:
        ValueError: a state has NaN or infinite values; what the file held before stays.
    """
    if not _is_finite(states):
        raise ValueError(f"training diverged by step {step}: there are NaN or infinite values in its state, so that "
                         f"{path} was not written; lower lr, or look for NaN in the data")
    content = {"version": VERSION, "step": step, "states": states, **rest}
    content["sha256"] = content_digest(content)
    write_atomically(path, lambda file: torch.save(content, file))


def read(path: Path) -> dict[str, Any]:
    """What `write` was given, by name.

    Raises:
        ValueError: the file is damaged, or no checkpoint of this version.
    """
    remedy = "delete it to train from the start"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise errors of a dozen kinds
        raise ValueError(f"{path} is not a whole checkpoint ({type(error).__name__}); {remedy}") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{path} is no checkpoint of version {VERSION}; {remedy}")
    if content.pop("sha256", None) != content_digest(content):
        raise ValueError(f"{path} has changed since it was written (SHA-256 differs); {remedy}")
    return content


def content_digest(content: Any) -> str:
    """SHA-256 (hex) of tensors, numbers and strings in dicts and lists."""
    total = hashlib.sha256()
    _feed(total, content)
    return total.hexdigest()


def _feed(total: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        total.update(f"{value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, dict):
        _feed(total, [part for item in value.items() for part in item])
    elif isinstance(value, (list, tuple)):
        total.update(f"{len(value)} parts".encode())
        for part in value:
            _feed(total, part)
    else:
        total.update(f"{value!r};".encode())


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return all(map(_is_finite, parts))
