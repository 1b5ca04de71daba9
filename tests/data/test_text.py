"""Speeches as they are registered, tokens that give the text back, windows by hand."""
import re

import numpy as np
import pytest

from lib import files
from lib.data import text
from lib.data.registry import DatasetUnavailable, dataset
from lib.data.resolve import as_file

LINES = ["the union of the states", "the state of the union", "unions and states, and states"] * 5


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BUILD", tmp_path)
    return tmp_path


def test_every_speech_is_there_with_its_year_president_and_party():
    found = text.speeches()
    assert len(found) == 249 and (found[0].year, found[-1].year) == (1790, 2026)
    assert [s.year for s in found] == sorted(s.year for s in found)
    lincoln = [s for s in found if s.president == "Abraham Lincoln"]
    assert [s.year for s in lincoln] == [1861, 1862, 1863, 1864] and {s.party for s in lincoln} == {"Republican"}
    assert lincoln[1].text.startswith("Fellow-Citizens") and "last best hope of earth" in lincoln[1].text
    assert not any(re.search(r"\[[^][]*\]|\[laughter", s.text) for s in found)
    assert any("1817-03-04" in s.text for s in found)  # a date an editor put in stays, without its brackets


def test_what_an_editor_says_of_the_room_goes_and_what_he_put_in_stays():
    assert text.spoken("We won. [Laughter] So on [1817-03-04] they [the States] met [see APP Note].") == (
        "We won. So on 1817-03-04 they the States met.")


def test_years_are_held_out_whole():
    train, held = text.split(text.speeches())
    assert len(train) == 225 and len(held) == 24 and not {s.year for s in train} & {s.year for s in held}
    assert {s.name for s in held} >= {"1956-Eisenhower-1", "1956-Eisenhower-2"}
    with pytest.raises(ValueError, match="leaves one part empty"):
        text.split(text.speeches()[:3])


def test_a_tokenizer_gives_the_text_back_and_is_kept_by_content(build):
    made = text.byte_pairs(LINES, 270)
    assert made.get_vocab_size() == 270 and made.token_to_id(text.BOS) == 0
    strange = "the état of ∑ unions\n\n£9"
    assert made.decode(made.encode(strange).ids) == strange
    assert len(made.encode("the union").ids) < len("the union") / 2
    [kept] = (build / "data" / "tokenizers").iterdir()
    kept.write_text(text.byte_pairs(LINES, 257).to_str())
    assert text.byte_pairs(LINES, 270).get_vocab_size() == 257  # read, not learned again
    kept.unlink()
    assert text.byte_pairs(LINES, 270).to_str() == made.to_str()  # learned again, the same
    text.byte_pairs(LINES[:2], 270)
    assert len(list((build / "data" / "tokenizers").iterdir())) == 3
    with pytest.raises(ValueError, match="less than the 256 bytes"):
        text.byte_pairs(LINES, 256)


def test_windows_by_hand():
    made = text.byte_pairs(LINES, 257)  # one token a byte
    a, b, c, d, e = made.encode("abcde").ids
    found = text.windows(made, ["abcde", "x", "edc"], 3)
    assert found.ids.tolist() == [[0, a, b], [0, c, d], [0, e, d]] and found.text.tolist() == [0, 0, 2]
    assert text.windows(made, ["abcde"], 5, bos=None).ids.tolist() == [[a, b, c, d, e]]
    assert found.ids.dtype == np.int64
    with pytest.raises(ValueError, match="no text has the 9 tokens"):
        text.windows(made, ["abcde"], 10)


def test_a_model_that_is_one_file_comes_from_its_package_or_not_at_all(monkeypatch, build):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    model = dataset("smollm2")
    with pytest.raises(DatasetUnavailable, match="make data DATA=smollm2"):
        as_file(model)
    assert not model.comes_installed and dataset("sotu").comes_installed


def test_a_file_beside_the_cache_is_written_once_and_again_where_it_was_changed(monkeypatch, build):
    from dataclasses import replace
    from hashlib import sha256

    from lib.data import resolve
    from lib.data.registry import Array

    content, asked = np.frombuffer(b"GGUF and so on", np.uint8), []
    data = replace(dataset("smollm2"), arrays={"gguf": Array("uint8", (14,), sha256(content).hexdigest())})
    monkeypatch.setattr(resolve, "resolve", lambda *_: asked.append(1) or {"gguf": content})
    place = resolve.as_file(data)
    assert place.name == "smollm2.gguf" and place.read_bytes() == content.tobytes()
    resolve.as_file(data)
    place.write_bytes(b"other")
    assert resolve.as_file(data).read_bytes() == content.tobytes() and len(asked) == 2
