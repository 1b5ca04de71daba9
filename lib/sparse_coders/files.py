"""The file of a sparse coder: safetensors, with the format's version and the configuration as JSON in its metadata."""
from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.files import write_atomically

FORMAT, VERSION = "superposition-book sparse coder", 1
REQUIRED = ("d_in", "n_latents", "rule", "dtype")


def save(path: str | Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a coder's tensors and configuration atomically."""
    metadata = {"format": FORMAT, "version": str(VERSION), "config": json.dumps(dict(config))}
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return write_atomically(Path(path), lambda file: save_file(ready, file, metadata=metadata))


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of a coder's file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no sparse coder at {path}; SparseCoder.save(path) writes one")
    if is_zipfile(path):
        raise ValueError(f"{path} is a checkpoint of a training, or another file of torch.save, and no coder; go on "
                         "with fit(coder, data, checkpoint=path) as it was begun, then coder.save(another path)")
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); save the coder again") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} holds no coder of this library; lib.sparse_coders.interchange reads other layouts")
    if metadata.get("version") != str(VERSION):
        raise ValueError(f"{path} has version {metadata.get('version')}, this library reads {VERSION}; update one")
    return _config(path, metadata), tensors


def _config(path: str | Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        config = json.loads(metadata.get("config", ""))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has an unreadable configuration ({error}); save the coder again") from error
    missing = [name for name in REQUIRED if name not in config]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)} in its configuration; save the coder again")
    return config


def check_tensors(path: str | Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are missing, too many, or of another shape or dtype."""
    problems = [f"{name} is missing" for name in wanted if name not in found]
    problems += [f"{name} is unknown" for name in found if name not in wanted]
    for name in wanted.keys() & found.keys():
        has, needs = found[name], wanted[name]
        if has.shape != needs.shape or has.dtype != needs.dtype:
            said, meant = (f"{tuple(t.shape)} of {t.dtype}" for t in (has, needs))
            problems.append(f"{name} is {said}, expected {meant}")
    if problems:
        raise ValueError(f"{path}: {'; '.join(sorted(problems))}; save the coder again")
