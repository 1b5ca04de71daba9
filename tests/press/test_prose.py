"""lib.press.prose: what a chapter quotes is glued as plain Python values."""
import numpy as np
import pytest
import torch

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
