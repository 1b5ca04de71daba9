"""Language models in training: one that can be learned is, a killed training ends as if it had never stopped."""
import numpy as np
import pytest
import torch

from lib.models.causal_lm import causal_lm, cross_entropy
from lib.training import Recipe
from lib.training.language import train_language

TOKENS = (np.arange(12)[None] + np.arange(40)[:, None]) % 7  # the next token is one more
QUIET = {"device": "cpu", "progress": False}


def small():
    return causal_lm(7, 16, 1, 2, 12)


def test_it_learns_to_count():
    model = small()
    history = train_language(model, TOKENS, Recipe(steps=60, batch=20, lr=2e-2), 0, **QUIET)
    assert history.steps == 60 and list(history.table.step) == [0, 50, 59]
    assert history.table.loss.iloc[0] > 1.5 > 0.2 > float(cross_entropy(model, torch.as_tensor(TOKENS)).mean())


class Killed(Exception):
    pass


def test_a_killed_training_goes_on_bit_for_bit_and_another_is_refused(tmp_path):
    recipe, keep = Recipe(steps=9, batch=10, lr=1e-2), {"checkpoint": tmp_path / "lm.pt", "checkpoint_every": 2} | QUIET
    whole, cut, again = small(), small(), small()
    train_language(whole, TOKENS, recipe, 0, **QUIET)
    calls = []

    def kill(*_):
        calls.append(1)
        if len(calls) == 6:
            raise Killed

    handle = cut.norm.register_forward_pre_hook(kill)
    with pytest.raises(Killed):
        train_language(cut, TOKENS, recipe, 0, **keep)
    handle.remove()
    train_language(again, TOKENS, recipe, 0, **keep)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    for changed, named in ((recipe.replace(lr=2e-2), "lr"), (recipe.replace(batch=5), "batch")):
        with pytest.raises(ValueError, match=f"it differs in .*{named}"):
            train_language(small(), TOKENS, changed, 0, **keep)
    with pytest.raises(ValueError, match="it differs in data"):
        train_language(small(), (TOKENS + 1) % 7, recipe, 0, **keep)


def test_what_are_no_tokens_is_told():
    with pytest.raises(ValueError, match="whole numbers"):
        train_language(small(), TOKENS / 2, Recipe(steps=1, batch=4), 0, **QUIET)
    with pytest.raises(ValueError, match="not augmented"):
        train_language(small(), TOKENS, Recipe(steps=1, batch=4, augment=("flip",)), 0, **QUIET)
    with pytest.raises(ValueError, match="lower batch"):
        train_language(small(), TOKENS, Recipe(steps=1, batch=400), 0, **QUIET)
