"""Every study at the ends of its parameters, in the smallest profile: all fields at their low ends at once, which `make
test` runs too; all of them larger at once; and each alone at its low end, at its other choices, and at its high end if
a minute is enough. A run goes through, or is refused before a kernel starts, in one line that names the field. All:
make test ARGS="tests/studies/test_walk.py -m walk".
"""
from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from typing import Any

import annotated_types as ends
import pytest
import yaml

from lib.files import ROOT
from lib.params import check, load
from lib.press.pages import all_pages

STUDIES = [page.name for page in all_pages() if page.is_study]
APART = {"seed": "every seed is like any other", "device": "where, not what", "profile": "a name",
         "data": "may have to be fetched", "dataset": "may have to be fetched"}
"""Fields without ends."""
MINUTE = 60
TOGETHER = {"topoloss_hypotheses": {"generated_images": 2, "select_images": 46, "test_images": 50, "scored_images": 50,
                                    "fixed_k": 2, "location_draws": 10},
            "transformer_saes": {"every": 40, "depth": 2, "context": 20, "published_latents": 5, "n_latents": 16,
                                 "steps": 2, "batch": 2, "null_draws": 10}}
"""Low ends that depend on those of other fields: a batch of images, some of every class, one of k; a layer below the
depth, latents enough to cluster. Every speech would be the most text."""
LARGER = {"topoloss_hypotheses": {"image_size": 24, "patch": 8, "depth": 5, "width": 48, "expansion": 5, "fixed_k": 8,
                                  "seeds": 2, "other_seeds": 2, "coder_seeds": 2, "resnet": False,
                                  "augment": ["random_resized_crop", "flip", "colour_jitter"]},
          "spd_causal_graphs": {"data": "mnist_5k", "seeds": 3, "recipe_networks": 3, "toy_seeds": 3},
          "superposition_phases": {"n_features": 30, "n_hidden": 8, "seeds": 8},
          "sparse_coders_recovery": {"planted_features": 180, "planted_roots": 2},
          "transformer_saes": {"depth": 4, "seeds": 2, "tuned_seeds": 2, "few_seeds": 2, "every": 40, "other_rules": [
              "gated", "prolu", "p_anneal", "matryoshka", "abs_topk"]}}
"""Values all at once that are not three times those of smoke: choices, and what another field or a minute bounds."""
LONG = ("steps", "epochs", "passes", "samples", "images", "batch")
"""How fields end that are as in smoke there: larger they only take longer."""


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


def larger(study: str) -> dict[str, Any]:
    """Three times every count, or up to its own bound, and every switch the other way."""
    found, fields = {}, params_of(study).model_fields
    for name, value in smoke(study).items():
        if isinstance(value, bool):
            found[name] = not value
        elif isinstance(value, int) and name not in APART and not name.endswith(LONG):
            found[name] = min(3 * value, high_end(fields[name]) or 3 * value)
    return found | LARGER.get(study, {})


def choices(study: str) -> list[tuple[str, Any]]:
    """Field and value of everything that a field with few values can be beside what it is in smoke."""
    found = []
    for name, value in smoke(study).items():
        if isinstance(value, bool):
            found.append((name, not value))
        elif isinstance(value, str) and name not in APART:
            patterns = [bound.pattern for bound in params_of(study).model_fields[name].metadata]
            found += [(name, other) for pattern in patterns for other in re.findall(r"\w+", pattern) if other != value]
    return found


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


@pytest.fixture
def build(study, tmp_path_factory):
    """One place for all runs of a study, so that a field's own computes no more than it changes."""
    folder = tmp_path_factory.getbasetemp() / study
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize("study", STUDIES)
def test_larger_values_are_possible(study):
    """Those of a new field too: what a walk of hours would find out first is found here."""
    check(params_of(study), smoke(study) | larger(study), "larger")


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_all_fields_at_their_low_ends(study, build):
    done = ran(study, lows(study) | TOGETHER.get(study, {}), build)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.walk
@pytest.mark.parametrize("study", STUDIES)
def test_all_fields_larger(study, build):
    done = ran(study, larger(study), build)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.walk
@pytest.mark.parametrize(("study", "name"), [(study, name) for study in STUDIES for name in lows(study)])
def test_each_field_at_its_low_end(study, name, build):
    done = ran(study, {name: lows(study)[name]}, build)
    assert went_well(done, [name]), done.stdout + done.stderr


@pytest.mark.walk
@pytest.mark.parametrize(("study", "name", "value"), [(study, *other) for study in STUDIES for other in choices(study)])
def test_each_choice(study, name, value, build):
    done = ran(study, {name: value}, build)
    assert went_well(done, [name]), done.stdout + done.stderr


@pytest.mark.walk
@pytest.mark.parametrize(("study", "name"), [(study, name) for study in STUDIES for name in highs(study)])
def test_each_field_at_its_high_end_where_a_minute_allows(study, name, build):
    try:
        done = ran(study, {name: highs(study)[name]}, build, MINUTE)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{name}={highs(study)[name]} takes more than a minute")
    assert went_well(done, [name]), done.stdout + done.stderr
