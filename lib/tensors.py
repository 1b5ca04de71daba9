"""What arrays and tensors need everywhere: values as NumPy, a device by name, gradients that are given."""
from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.autograd.function import once_differentiable


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
    """The torch device for `auto` (CUDA where there is one), `cpu`, `cuda` or `mps`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda: torch finds no CUDA device here; write device: auto or cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device: mps: torch finds no Apple GPU here; write device: auto or cpu")
    return torch.device(name)


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no float64, as Apple's GPUs."""
    if device.type in ("cpu", "cuda"):
        return torch.float64
    try:
        return torch.zeros((), dtype=torch.float64, device=device).dtype
    except (TypeError, RuntimeError):
        return torch.float32


class WithGradient(torch.autograd.Function):
    """`WithGradient.apply(value, gradient, *tensors)` is value(*tensors), whose gradient is given and not derived.

    gradient(d, *tensors) gives that of each tensor, or None, from the value's own, d; it is differentiable once. What
    the functions enclose beside the tensors is not guarded against changes in between.
    """

    @staticmethod
    def forward(ctx, value, gradient, *tensors):
        ctx.gradient = gradient
        ctx.save_for_backward(*tensors)
        return value(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx, d):
        return None, None, *ctx.gradient(d, *ctx.saved_tensors)


_SESSIONS = {"lock": threading.Lock(), "open": 0, "dtype": torch.float32}


@contextmanager
def own_session() -> Iterator[None]:
    """Torch's own defaults inside the block or function, whatever the caller's session has: float32, CPU, gradients.

    A default dtype or device, no_grad, inference mode or autocast of the caller would change what is drawn or stop a
    training; they hold again afterwards.
    """
    elsewhere = torch.get_default_device().type != "cpu"
    _count_session(1)
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False), \
                torch.autocast("cuda", enabled=False), torch.device("cpu") if elsewhere else nullcontext():
            yield
    finally:
        _count_session(-1)


def _count_session(change: int) -> None:
    """The default dtype is one for all threads: the first session sets it, the last one puts the caller's back."""
    with _SESSIONS["lock"]:
        if change > 0 and not _SESSIONS["open"]:
            _SESSIONS["dtype"] = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _SESSIONS["open"] += change
        if not _SESSIONS["open"]:
            torch.set_default_dtype(_SESSIONS["dtype"])


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
