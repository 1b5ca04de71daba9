"""Files of other libraries: read them, and say which file and key is wrong."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as they go into a file: detached, on the CPU, contiguous, none sharing memory."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def made(folder: str | Path) -> Path:
    """The folder, made if need be."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def read_json(path: Path) -> dict[str, Any]:
    """The configuration in a JSON file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the folder that holds it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a {type(config).__name__}, not a configuration")
    return config


def unpickle(path: Path) -> Any:
    """What a .pt file holds; nothing but tensors and plain containers is read."""
    return torch.load(path, map_location="cpu", weights_only=True)


def read_tensors(path: Path, read: Callable[[Path], Any]) -> dict[str, Tensor]:
    """The named tensors in a file.

    Args:
        read: reads a whole file, such as safetensors.torch.load_file or `unpickle`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the folder that holds it")
    try:
        tensors = read(path)
    except Exception as error:  # bytes that are no pickle raise errors of a dozen kinds
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is not a whole file of weights ({said}); fetch or save it again") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path} holds no state dict of tensors")
    return tensors


def count(path: Path, config: Mapping[str, Any], key: str) -> int:
    """A whole number of at least 1 in a configuration."""
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{path}: {key} {value!r} is not a whole number of at least 1")
    return value


def checked(path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors, all of them there, of these shapes and finite; half precision becomes float32."""
    problems = [f"{name} is missing" for name in shapes if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in shapes]
    for name in shapes.keys() & tensors.keys():
        if tuple(tensors[name].shape) != shapes[name]:
            problems.append(f"{name} is {tuple(tensors[name].shape)}, the configuration says {shapes[name]}")
        elif not torch.isfinite(tensors[name]).all():
            problems.append(f"{name} has NaN or infinite values")
    if problems:
        raise ValueError(f"{path}: {'; '.join(sorted(problems))}")
    halves = (torch.float16, torch.bfloat16)
    return {name: tensor.float() if tensor.dtype in halves else tensor for name, tensor in tensors.items()}
