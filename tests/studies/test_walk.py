"""Every study at the ends of its parameters, in the smallest profile: each field at its low end, all of them together,
and at the high end where a minute is enough. A run goes through, or is refused before a kernel starts, in one line that
names the field. Outside `make test`: make test ARGS="tests/studies/test_walk.py -m walk".
"""
from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from typing import Any

import annotated_types as ends
import pytest
import yaml

from lib.files import ROOT
from lib.params import load
from lib.press.pages import all_pages

STUDIES = [page.name for page in all_pages() if page.is_study]
APART = {"seed": "every seed is like any other", "device": "a name", "data": "a name", "profile": "a name"}
"""Fields without ends."""
MINUTE = 60
TOGETHER = {"topoloss_hypotheses": {"fixed_k": 2}, "transformer_saes": {
    "depth": 2, "context": 20, "published_latents": 5, "n_latents": 32, "steps": 12, "moments": 4, "null_draws": 10}}
"""Low ends that depend on those of other fields: one of k; a layer below the depth, latents enough to cluster."""


def params_of(study: str) -> type:
    return import_module(f"lib.studies.{study}.protocol").Params


def smoke(study: str) -> dict[str, Any]:
    return load(params_of(study), ROOT / "params" / study / "smoke.yaml").model_dump()


def low_end(field: Any, value: Any) -> Any:
    """The least a field accepts by its own bounds, or None where it has none: an open bound is come close to."""
    for bound in field.metadata:
        if isinstance(bound, ends.Ge):
            return bound.ge
        if isinstance(bound, ends.Gt):
            return bound.gt + 1 if isinstance(value, int) and not isinstance(value, bool) else bound.gt + value / 100
        if isinstance(bound, (ends.MinLen, ends.Len)):
            return list(value)[: bound.min_length]
    return [] if isinstance(value, (tuple, list)) else None


def high_end(field: Any) -> Any:
    """The most a field accepts by its own bounds, or None."""
    return next((bound.le for bound in field.metadata if isinstance(bound, ends.Le)), None)


def lows(study: str) -> dict[str, Any]:
    values = smoke(study)
    found = {name: low_end(field, values[name]) for name, field in params_of(study).model_fields.items()}
    return {name: value for name, value in found.items() if value is not None and name not in APART}


def highs(study: str) -> dict[str, Any]:
    found = {name: high_end(field) for name, field in params_of(study).model_fields.items()}
    return {name: value for name, value in found.items() if value is not None and name not in APART}


def ran(study: str, values: dict[str, Any], folder: Any, limit: float | None = None) -> subprocess.CompletedProcess:
    texts = {name: yaml.safe_dump(value, default_flow_style=True).splitlines()[0] for name, value in values.items()}
    given = [part for name, text in texts.items() for part in ("-p", f"{name}={text}")]  # 3.0e-05, which 3e-05 is not
    command = [sys.executable, "-m", "lib.press", "run", study, "--profile", "smoke", "--jobs", "1", *given]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "BOOK_BUILD": str(folder)}, capture_output=True,
                          text=True, timeout=limit)


def went_well(done: subprocess.CompletedProcess, names: list[str]) -> bool:
    """Whether it went through, or was refused at the door in words about one of the fields."""
    said = (done.stdout + done.stderr).strip()
    refused = done.returncode == 2 and "Traceback" not in said and any(name in said for name in names)
    assert "YAML reads" not in said, said  # refused for how it was written
    return done.returncode == 0 or refused


@pytest.mark.parametrize("study", STUDIES)
def test_ends_are_read_from_the_fields(study):
    """Every number of a study has a low end, so that none escapes the walk."""
    numbers = {name for name, value in smoke(study).items() if isinstance(value, (int, float, tuple, list))
               and not isinstance(value, bool)}
    assert numbers - APART.keys() - lows(study).keys() == set()


@pytest.mark.walk
@pytest.mark.parametrize("study", STUDIES)
def test_all_fields_at_their_low_ends(study, tmp_path):
    done = ran(study, lows(study) | TOGETHER.get(study, {}), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.walk
@pytest.mark.parametrize(("study", "name"), [(study, name) for study in STUDIES for name in lows(study)])
def test_each_field_at_its_low_end(study, name, tmp_path):
    done = ran(study, {name: lows(study)[name]}, tmp_path)
    assert went_well(done, [name]), done.stdout + done.stderr


@pytest.mark.walk
@pytest.mark.parametrize(("study", "name"), [(study, name) for study in STUDIES for name in highs(study)])
def test_each_field_at_its_high_end_where_a_minute_allows(study, name, tmp_path):
    try:
        done = ran(study, {name: highs(study)[name]}, tmp_path, MINUTE)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name}={highs(study)[name]} takes more than a minute")
    assert went_well(done, [name]), done.stdout + done.stderr
