"""What coders are given: finite tensors or an error that says what to do; samples for training, some held out."""
from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.rng import generator
from lib.schedules import EpochOrder
from lib.sparse_coders.kernels import Codes

FIRST = 1 << 14
"""Samples that measure the scale and the initial b_dec."""


def tensor(x: Any, name: str) -> Tensor:
    """x as a tensor; NumPy arrays of any strides and byte order are taken, and copied only where torch needs it."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray):
        x = x.astype(x.dtype.newbyteorder("="), copy=False)
        x = x.copy() if any(stride < 0 for stride in x.strides) else x
    try:
        return torch.as_tensor(x, device="cpu")
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


class Rows:
    """One array, tensor or store (anything with `__len__` and `batch(indices)`), read by row numbers."""

    def __init__(self, data: Any, name: str):
        self.data, self.name, self.is_store = data, name, callable(getattr(data, "batch", None))
        if not (self.is_store or isinstance(data, (np.ndarray, Tensor))):
            kind = type(data).__name__
            raise TypeError(f"{name} must be a NumPy array, a torch tensor or a store with batch(indices), got {kind}")
        shape = tuple(getattr(data, "shape", ()))
        sample = self[torch.arange(min(2, len(data)))] if self.is_store or shape else torch.empty(())
        if sample.ndim != 2 or not len(sample):
            raise ValueError(f"{name} must be [n_samples, width] and not empty, got {shape}")
        if not sample.is_floating_point():
            raise TypeError(f"{name} must be floating point, got {sample.dtype}; convert it with .astype or .float()")
        self.width = sample.shape[1]
        on_disk = self.is_store or isinstance(data, np.memmap)
        for first in () if on_disk else range(0, len(data), 1 << 16):
            bad = ~torch.isfinite(tensor(data[first : first + (1 << 16)], name)).all(1)
            if bad.any():
                raise ValueError(f"{name} has NaN or infinite values, first in row {first + int(bad.int().argmax())}")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, ids: Tensor) -> Tensor:
        """The rows of these numbers, outside the graph they may come from."""
        if self.is_store:
            rows = self.data.batch(ids)
        elif isinstance(self.data, Tensor):
            rows = self.data.index_select(0, ids.to(self.data.device))  # four times as fast as data[ids]
        else:
            rows = self.data[ids.numpy()]
        return tensor(rows, self.name).detach()

    def digest(self) -> str:
        """SHA-256 (hex) that identifies the data: of all rows of an array, of what a store calls its own `sha256`.

        A memory map, or a store without one, is told by its shape and by 256 rows spread over it.
        """
        total = hashlib.sha256(f"{len(self)} {self.width} {getattr(self.data, 'sha256', '')}".encode())
        spread = self.is_store or isinstance(self.data, np.memmap)
        rows = torch.linspace(0, len(self) - 1, 256).long() if spread else torch.arange(len(self))
        for ids in rows.split(1 << 14):
            total.update(self[ids].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()


class SampleBatches:
    """Training batches by step, and the held-out samples.

    Their order is an `EpochOrder`. Which rows are held out depends on their number alone, so that fits with different
    seeds are judged on the same samples.

    Args:
        data, target: as `lib.sparse_coders.fit` takes them.
        held_out: how many rows to keep from training, or the samples themselves (x, or (x, y)).
        batch_size: samples per step, at most the training rows.
        seed: of the order.
    """

    def __init__(self, data: Any, target: Any, held_out: Any, batch_size: int, seed: int):
        self.x, self.y = Rows(data, "data"), None if target is None else Rows(target, "target")
        if self.y is not None and len(self.y) != len(self.x):
            raise ValueError(f"data has {len(self.x)} samples and target {len(self.y)}; they must be pairs")
        self._hold_out(held_out)
        self.batch_size = min(batch_size, len(self.rows))
        self.order = EpochOrder(len(self.rows), self.batch_size, seed, "epoch")

    def _hold_out(self, held_out: Any) -> None:
        n = len(self.x)
        count = min(8192, max(2, n // 20)) if held_out is None else held_out
        if isinstance(count, (int, np.integer)):
            if not 2 <= count < n:
                raise ValueError(f"held_out {count} is outside 2 to {n - 1}, for {n} samples; samples may be given too")
            order = torch.randperm(n, generator=generator(0, "held out"), device="cpu")
            self.rows, held = order[count:], order[:count]
            self.measured = self.rows[:FIRST]
            self.held = self._rows(held)
            _refuse_nonfinite(self.held, held)
            return
        self.rows, shuffled = torch.arange(n), torch.randperm(n, generator=generator(0, "first"), device="cpu")
        self.measured = shuffled[:FIRST]  # the first rows of sorted data would not be like the others
        x, y = held_out if isinstance(held_out, tuple) else (held_out, None)
        if (y is None) != (self.y is None):
            raise ValueError("held_out must be x without a target and (x, y) with one")
        self.held = _all(Rows(x, "held_out"), self.x.width), None if y is None else _all(
            Rows(y, "held_out target"), self.y.width
        )
        _refuse_nonfinite(self.held, torch.arange(len(self.held[0])), "held_out ")

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor | None]:
        """x [B, width] and y of one step, [B, width of target] or None."""
        return self._rows(self.rows[self.order[step]])

    def first(self) -> tuple[Tensor, Tensor | None]:
        """Up to `FIRST` training samples, drawn from all of them."""
        first = self._rows(self.measured)
        _refuse_nonfinite(first, self.measured)
        return first

    def _rows(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.x[ids], None if self.y is None else self.y[ids]

    def digest(self) -> list[str | None]:
        """What identifies the data in a checkpoint."""
        return [self.x.digest(), self.y and self.y.digest()]


def _refuse_nonfinite(pair: tuple[Tensor, Tensor | None], ids: Tensor, kind: str = "") -> None:
    for name, rows in zip(("data", "target"), pair, strict=True):
        bad = None if rows is None else ~torch.isfinite(rows).all(1).cpu()
        if bad is not None and bad.any():
            raise ValueError(f"{kind}{name} has NaN or infinite values, in row {int(ids[bad].min())} at least; leave "
                             "such rows out")


def _all(rows: Rows, width: int) -> Tensor:
    if rows.width != width:
        raise ValueError(f"held_out samples are {rows.width} wide, the training samples {width}")
    return rows[torch.arange(len(rows))]
