"""Checkpoints of training: plain tensors, written whole or not at all, refused where they belong to another run."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.files import write_atomically

VERSION = 2


def write(path: Path, identity: dict[str, Any], step: int, states: list[dict[str, Any]]) -> None:
    """Write what continuing after `step` steps needs.

    Args:
        identity: what must be equal for the checkpoint to be used, as numbers and strings by name.
        states: of every part of the training; tensors, numbers and strings in dicts and lists.
    Raises:
        ValueError: a state has NaN or infinite values; what the file held before stays.
    """
    if not _is_finite(states):
        raise ValueError(f"training diverged by step {step}: there are NaN or infinite values in its state, so that "
                         f"{path} was not written; lower lr, or look for NaN in the data")
    content = {"version": VERSION, "identity": identity, "step": step, "states": states}
    content["sha256"] = content_digest(content)
    write_atomically(path, lambda file: torch.save(content, file))


def read(path: Path, identity: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Steps done, and the states.

    Raises:
        ValueError: the file is damaged, no checkpoint of this version, or of other options or data; names what
            differs.
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
    found = content["identity"]
    differing = [name for name in found.keys() | identity.keys() if found.get(name) != identity.get(name)]
    if differing:
        changes = ", ".join(f"{name} ({_short(found.get(name))} there)" for name in sorted(differing))
        raise ValueError(f"{path} belongs to another run: it differs in {changes}; use another file or delete it")
    return content["step"], content["states"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


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
