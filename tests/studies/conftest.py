"""What the studies' tests share; here too so that pytest puts this folder on the import path of every study's tests."""
from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

import pytest
from keys_in_a_copy import copied

from lib.params import Params


@pytest.fixture
def copy(tmp_path):
    """The root of a copy of the library and its parameter files, free to be edited."""
    return copied(tmp_path)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A place of its own for the runs a test makes."""
    monkeypatch.setattr("lib.press.runs.BUILD", tmp_path)
    return tmp_path


@pytest.fixture
def reads() -> Callable[..., set[str]]:
    """reads(part, params, *rest) -> the fields of its group that one call of the part reads."""

    def recorded(part: Callable[..., Any], params: Params, *rest: Any) -> set[str]:
        group, seen = typing.get_type_hints(part)["params"], set()

        class Recorder(group):
            def __getattribute__(self, name: str) -> Any:
                if name in group.model_fields:
                    seen.add(name)
                return super().__getattribute__(name)

        part(Recorder.model_construct(**{name: getattr(params, name) for name in group.model_fields}), *rest)
        return seen

    return recorded
