"""lib.press.prose: what a chapter quotes is glued as plain Python values."""
import importlib

import numpy as np
import pytest
import torch
from papermill.translators import PythonTranslator as PapermillTranslator

from lib import params
from lib.files import ROOT
from lib.metrics.statistics import Interval
from lib.press import prose


@pytest.fixture
def glued(monkeypatch):
    found = {}
    monkeypatch.setattr(prose, "glue", lambda name, value, display: found.update({name: value}))
    return found


def test_numbers_become_python_numbers(glued):
    prose.tell(a=np.float32(0.5), b=np.int64(3), c=torch.tensor(2.0), d="word", e=1)
    assert glued == {"a": 0.5, "b": 3, "c": 2.0, "d": "word", "e": 1}
    assert {type(v) for v in glued.values()} == {float, int, str}


def test_an_interval_is_told_with_its_ends(glued):
    prose.tell(gain=Interval(1.0, 0.5, 1.5))
    assert glued == {"gain": 1.0, "gain_low": 0.5, "gain_high": 1.5}


@pytest.mark.parametrize("bad", [None, [1.0], {"a": 1}])
def test_what_prose_cannot_quote_is_refused(glued, bad):
    with pytest.raises(TypeError, match="gain: prose can quote"):
        prose.tell(gain=bad)


def test_quoted_is_what_prose_can_say_of_a_notebooks_names(glued):
    prose.quote({"n": 3, "share": np.float32(0.5), "word": "a", "gain": Interval(1.0, 0.5, 1.5), "fine": True,
                 "_private": 1, "np": np, "table": np.ones(3), "seeds": [1, 2]})
    assert glued == {"n": 3, "share": 0.5, "word": "a", "gain": 1.0, "gain_low": 0.5, "gain_high": 1.5, "fine": True}


def test_a_chapter_begins_with_its_parameters_a_stream_and_a_ledger(monkeypatch):
    monkeypatch.delenv("BOOK_RESULTS", raising=False)
    study = importlib.import_module("lib.studies.superposition_phases.protocol")
    values = params.read_yaml(ROOT / "params/superposition_phases/quick.yaml")
    found, rng, ledger = prose.begin(study, values | {"unrelated": 1})
    assert found.seeds == values["seeds"] and ledger.settled and set(ledger.claims) == {"SP-1", "SP-2", "SP-3", "SP-4"}
    same = prose.begin(study, values)[1].random(), prose.begin(study, values | {"seed": 1})[1].random()
    assert same[0] == rng.random() != same[1]
    with pytest.raises(params.ParameterError, match="seeds"):
        prose.begin(study, values | {"seeds": "many"})


def test_a_name_that_papermill_took_and_no_field_has_is_refused():
    study = importlib.import_module("lib.studies.superposition_phases.protocol")
    values = params.read_yaml(ROOT / "params/superposition_phases/quick.yaml")
    cell = PapermillTranslator().codify({"seeds": 3, "sedes": 3})  # as papermill -p sedes 3 writes it
    with pytest.raises(params.ParameterError, match="unknown parameter sedes; did you mean seeds?"):
        prose.begin(study, values | {"sedes": 3, "In": ["", "profile = 'quick'", cell]})
    assert prose.begin(study, values | {"sedes": 3, "In": ["sedes = 3"]})[0].seeds == values["seeds"]
