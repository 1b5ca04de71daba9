"""A model's activations captured and replaced by module name, through hooks.

    with capture(model, "blocks.*.mlp") as found:
        model(x)                                     # found["blocks.0.mlp"], ...

A pattern is a dotted module name whose parts may be globs: `*` stands for one part, `**` for any number of them.
"""
from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor, nn

Where = Literal["output", "input"]
Edit = Callable[[Tensor, str], Tensor] | Tensor


def match_modules(model: nn.Module, *patterns: str) -> dict[str, nn.Module]:
    """Modules whose dotted names match any of the patterns, in the model's order."""
    modules = {name: module for name, module in unwrapped(model).named_modules(remove_duplicate=False) if name}
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in modules if _matches(name.split("."), pattern.split("."))}
        if not matching:
            inner = re.sub(r"^((module|_orig_mod)\.)+", "", pattern)
            if model is not unwrapped(model) and any(_matches(name.split("."), inner.split(".")) for name in modules):
                raise ValueError(f"no module matches {pattern!r}; names are those inside the wrapper: write {inner!r}")
            near = get_close_matches(pattern, modules, n=5, cutoff=0.3)
            names = [*near, *(name for name in modules if name not in near)]
            more = f" and {len(names) - 30} more" if len(names) > 30 else ""
            raise ValueError(f"no module matches {pattern!r}; there are {', '.join(names[:30])}{more}")
        found |= matching
    return {name: module for name, module in modules.items() if name in found}


def one_module(model: nn.Module, pattern: str) -> str:
    """The name of the one module that matches the pattern; ValueError where several do."""
    names = list(match_modules(model, pattern))
    if len(names) > 1:
        raise ValueError(f"{pattern!r} must name one module, it matches {', '.join(names[:5])}")
    return names[0]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what trains it on several devices or compiles it."""
    while (inner := model._modules.get("_orig_mod")) is not None or isinstance(
            model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = inner if inner is not None else model.module
    return model


@contextmanager
def capture(
    model: nn.Module, *patterns: str, where: Where = "output", copy: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Collect what matching modules return (or receive), detached; hooks go when the block ends, however it ends.

    Args:
        where: "output", or "input" for the first argument. Of a tuple the first element is taken.
        copy: keep copies, in which a later in-place operation of the model, such as ReLU(inplace=True), does not show.
    Yields:
        name -> tensor of the latest call, filled during forward passes.
    """
    found: dict[str, Tensor] = {}

    def keep(tensor: Tensor, name: str) -> Tensor:
        found[name] = tensor.detach().clone() if copy else tensor.detach()
        return tensor

    with ExitStack() as stack:
        _uncompiled(stack)
        for name, module in match_modules(model, *patterns).items():
            _hook(stack, name, module, keep, where)
        yield found


@contextmanager
def patch(model: nn.Module, edits: Mapping[str, Edit], where: Where = "output") -> Iterator[None]:
    """Replace what matching modules return (or receive) while the block runs.

    Args:
        edits: pattern -> a tensor, or a function of (tensor, module name) that returns one of the same shape. Edits of
            one module apply in the order given; nested blocks apply from the outer to the inner.
    """
    with ExitStack() as stack:
        _uncompiled(stack)
        for pattern, edit in edits.items():
            for name, module in match_modules(model, pattern).items():
                _hook(stack, name, module, edit, where)
        yield


def _matches(name: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_matches(name[i:], pattern[1:]) for i in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _matches(name[1:], pattern[1:])


def _uncompiled(stack: ExitStack) -> None:
    """Let compiled models run uncompiled for as long as any such stack lives: compiled code ignores a later hook."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        return
    with _lock:
        if not _open:
            _eager.enter_context(torch.compiler.set_stance("force_eager"))
        _open.add(stack)
    stack.callback(_close, stack)


def _close(stack: ExitStack) -> None:
    with _lock:
        _open.discard(stack)
        if not _open:
            _eager.close()


_open: set[ExitStack] = set()
"""Blocks for which compiling is off, in `_eager`; they may end in any order."""
_eager, _lock = ExitStack(), Lock()


def _hook(stack: ExitStack, name: str, module: nn.Module, edit: Edit, where: Where) -> None:
    """Register `edit` on a module for as long as the stack lives."""
    if where == "output":
        handle = module.register_forward_hook(lambda _, __, output: _edited(output, edit, name))
    elif where == "input":
        handle = module.register_forward_pre_hook(partial(_edited_call, edit=edit, name=name), with_kwargs=True)
    else:
        raise ValueError(f"where must be 'output' or 'input', got {where!r}")
    stack.callback(handle.remove)


def _edited_call(
    module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], edit: Edit, name: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call with the first one replaced, whether it was given by position or by name."""
    if inputs:
        return _edited(inputs, edit, name), named
    first = next(iter(inspect.signature(module.forward).parameters), "")
    if first not in named:
        raise TypeError(f"module {name} is called by keyword, and without its first argument {first}")
    return inputs, named | {first: _edited(named[first], edit, name)}


def _edited(value: Any, edit: Edit, name: str) -> Any:
    """`value` with its tensor, or the first element of a tuple, replaced."""
    if isinstance(value, tuple) and value:
        return (_edited(value[0], edit, name), *value[1:])
    if not isinstance(value, Tensor):
        raise TypeError(f"module {name} deals in {type(value).__name__}, not a tensor or a tuple starting with one")
    new = edit if isinstance(edit, Tensor) else edit(value, name)
    if not isinstance(new, Tensor) or new.shape != value.shape:
        got = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
        raise ValueError(f"the replacement for module {name} must be a tensor {tuple(value.shape)}, got {got}")
    return new
