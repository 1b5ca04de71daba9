"""What coders are given, as finite tensors of their own dtype and device, or an error that says what to do."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.sparse_coders.kernels import Codes


def tensor(x: Any, name: str) -> Tensor:
    """x as a tensor; NumPy arrays of any strides and byte order are taken, and copied only where torch needs it."""
    if isinstance(x, np.ndarray):
        x = x.astype(x.dtype.newbyteorder("="), copy=False)
        x = x.copy() if any(stride < 0 for stride in x.strides) else x
    try:
        return torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a matrix of floating-point numbers, torch or NumPy ({error})") from error


def checked(x: Any, width: int, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """x as a finite tensor [B, width] of this dtype and device."""
    x = tensor(x, name)
    if x.ndim != 2 or x.shape[1] != width or not len(x):
        remedy = "; flatten leading dimensions with x.reshape(-1, x.shape[-1])" if x.ndim != 2 else ""
        raise ValueError(f"{name} must be [B, {width}], got {tuple(x.shape)}{remedy}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {x.dtype}; convert with .astype or .float()")
    cast = x.to(device, dtype)
    if not torch.isfinite(cast).all():
        bad = (~torch.isfinite(cast)).any(1).nonzero()[:, 0]
        where = f"{len(bad)} of {len(x)} rows, the first of them row {int(bad[0])}"
        if torch.isfinite(x).all():
            raise ValueError(f"{name} is too large for {dtype} in {where}; divide it by a constant")
        raise ValueError(f"{name} has NaN or infinite values in {where}")
    return cast


def checked_codes(codes: Codes, n_latents: int, dtype: torch.dtype) -> Codes:
    """Codes with finite values of this dtype and indices of existing latents."""
    if len(codes.indices) and not 0 <= int(codes.indices.min()) <= int(codes.indices.max()) < n_latents:
        low, high = int(codes.indices.min()), int(codes.indices.max())
        raise ValueError(f"codes are of latents {low} to {high}, this coder has {n_latents}")
    if not torch.isfinite(codes.values).all():
        raise ValueError("codes have NaN or infinite values")
    return codes.with_values(codes.values.to(dtype))
