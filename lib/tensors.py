"""What arrays and tensors need everywhere: values as NumPy, a device by name, denormal numbers as 0."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import ArrayLike


def as_array(values: ArrayLike) -> ArrayLike:
    """A torch tensor's values, on any device and in any graph; anything else as it is."""
    if not isinstance(values, torch.Tensor):
        return values
    return values.detach().cpu().to(torch.float32 if values.dtype == torch.bfloat16 else values.dtype).numpy()


def finite(values: ArrayLike, name: str) -> np.ndarray:
    """`values` as float64, or a ValueError that counts those which are NaN or infinite."""
    values = np.asarray(as_array(values), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has {(~np.isfinite(values)).sum()} non-finite values; decide what they mean first")
    return values


def matrix(values: ArrayLike, name: str, batched: bool = False) -> np.ndarray:
    """`values` as a finite, non-empty float64 matrix, or several [..., m, n] where `batched`; else a ValueError."""
    values = finite(values, name)
    if values.ndim < 2 or values.ndim > 2 and not batched or not values.size:
        raise ValueError(f"{name} must be a matrix with rows and columns, got shape {values.shape}")
    return values


def device_named(name: str) -> torch.device:
    """The torch device for `auto` (CUDA where there is one), `cpu` or `cuda`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda: torch finds no CUDA device here; write device: auto or cpu")
    return torch.device(name)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Treat denormal numbers as 0 inside the block, and as the caller had them afterwards.

    Adam's moments of a feature that is not active decay into the denormals, where CPU arithmetic is many times slower.
    """
    before = bool(torch.tensor([1e-40]).mul(1.0) == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
