"""Checkpoints of training: plain tensors, written whole or not at all, refused where they belong to another run."""
from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.content import write_atomically

VERSION = 1


def write(path: Path, identity: dict[str, Any], step: int, states: list[dict[str, Any]]) -> None:
    """Write what continuing after `step` steps needs.

    Args:
        identity: what must be equal for the checkpoint to be used, as numbers and strings by name.
        states: of every part of the training; tensors, numbers and strings in dicts and lists.
    """
    content = {"version": VERSION, "identity": identity, "step": step, "states": states}
    write_atomically(path, lambda file: torch.save(content, file))


def read(path: Path, identity: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Steps done, and the states.

    Raises:
        ValueError: the file is no checkpoint of this version, or of other options or data; names what differs.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a whole checkpoint; delete it to train from the start") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{path} is no checkpoint of version {VERSION}; delete it to train from the start")
    found = content["identity"]
    differing = [name for name in found.keys() | identity.keys() if found.get(name) != identity.get(name)]
    if differing:
        changes = ", ".join(f"{name} ({_short(found.get(name))} there)" for name in sorted(differing))
        raise ValueError(f"{path} belongs to another run: it differs in {changes}; use another file or delete it")
    return content["step"], content["states"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def weights_digest(tensors: Iterable[Tensor]) -> str:
    """SHA-256 (hex) of the bytes of tensors."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
