"""Named random streams. A seed and a label give a generator; nothing here or in `lib` touches a global one.

Streams with different labels are independent, so data, initialisation, noise and coder never share draws.
"""
from __future__ import annotations

import hashlib

import numpy as np
import torch


def stream_seed(seed: int, *labels: str | int) -> int:
    """A 63-bit seed from `seed` and a path of labels, stable across machines and versions."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an int, got {seed!r}")
    text = "/".join(str(part) for part in (int(seed), *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *labels: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator for the stream named by `seed` and `labels`, on `device`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, *labels))


def numpy_generator(seed: int, *labels: str | int) -> np.random.Generator:
    """A NumPy generator for the stream named by `seed` and `labels`."""
    return np.random.default_rng(stream_seed(seed, *labels))


def checked_generator(rng: np.random.Generator) -> np.random.Generator:
    """`rng`, or a TypeError for a bare seed, which would silently repeat one stream."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a NumPy Generator, got {rng!r}; use lib.rng.numpy_generator(seed, label)")
    return rng
