"""The one door to torchvision and timm, which also opens where torch is a CPU build and torchvision is not.

A CPU-only torch beside the package index's torchvision fails at import ("operator torchvision::nms does not exist"):
torchvision registers fake versions of two operators its compiled part could not define. Declaring them is enough for
everything but running them, and this book runs neither.
"""
from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_DECLARED: list[torch.library.Library] = []
"""Kept alive: the declarations vanish with the object."""


def import_torchvision(name: str = "torchvision") -> ModuleType:
    """The module `name`, from torchvision or anything that imports it (`timm`); a working install is left alone."""
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error) or _DECLARED:
            raise
    for module in [m for m in sys.modules if m.split(".")[0] in ("torchvision", name.split(".")[0])]:
        del sys.modules[module]  # half-imported
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(library)
    return importlib.import_module(name)
