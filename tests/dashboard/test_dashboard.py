"""What the dashboard of a tiny model must show, said by hand; and that no text of it can act as HTML."""
from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
import torch
from tiny_language import NEVER, TEXTS, made

from lib.dashboard.page import dashboard, embedded, page
from lib.dashboard.records import Shown, lens, records
from lib.sparse_coders import SparseCoder

SHOWN = Shown(length=17, words=3, bins=4, before=2, after=1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return made(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def data(parts):
    return records(*parts, TEXTS, "blocks.0", None, SHOWN)


def of(path):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)[1])


def test_latents_show_what_they_read(parts, data):
    coder, model = parts
    words, latents = data["tokens"], {own["id"]: own for own in data["latents"]}
    assert sorted(latents) == [0, 1, 2, 4] and data["about"]["silent"] == 1 and data["about"]["latents"] == 5
    windows = [model.tokenizer.encode(text).ids for text in TEXTS]
    windows = [own[i : i + 16] for own in windows for i in range(0, len(own) // 16 * 16, 16)]  # and the first token
    seen = [words[i] for own in windows for i in own]
    assert data["about"]["tokens"] == len(seen) and latents[0]["rate"] == seen.count(" war") / len(seen)
    for latent, word in ((0, " war"), (1, " peace"), (2, " the")):
        for context in latents[latent]["contexts"]:
            assert [a > 0 for a in context["acts"]] == [words[i] == word for i in context["ids"]]
            assert words[context["ids"][context["at"]]] == word and len(context["ids"]) <= 4 and context["at"] <= 2
            assert context["acts"][context["at"]] == pytest.approx(0.2, abs=1e-4)
        hits = sum(word in (words[i] for i in own) for own in windows)
        assert len(latents[latent]["contexts"]) == min(hits, SHOWN.contexts)  # one from each window
    both = latents[4]["histogram"]
    assert both["low"] == 0 and both["high"] == pytest.approx(0.2, abs=1e-5)
    assert both["counts"][3] == seen.count(" war") and sum(both["counts"][1:3]) == seen.count(" peace")
    assert words[latents[4]["contexts"][0]["ids"][latents[4]["contexts"][0]["at"]]] == " war"


def test_a_token_leads_to_the_latents_that_tell_it(data):
    words = data["tokens"]
    told = {words[int(token)]: own for token, own in data["carriers"].items()}
    counts = dict(zip(("war", "peace"), (next(o["rate"] for o in data["latents"] if o["id"] == i) for i in (0, 1)),
                      strict=True))
    share = counts["war"] / (counts["war"] + counts["peace"])
    assert told.keys() == {" war", " peace", " the"} and told[" the"] == [[2, 1, 1]]
    assert told[" war"] == [[0, 1, 1], [4, pytest.approx(share), 1]]
    assert told[" peace"] == [[1, 1, 1], [4, pytest.approx(1 - share), 1]]


def test_neighbours_and_lens_by_hand(parts, data):
    coder, model = parts
    own = data["latents"][0]
    cosine = (coder.W_dec[[1, 2, 4]] @ coder.W_dec[0]).detach()
    assert own["near"][0] == [4, pytest.approx(float(cosine[2]))] and {row[0] for row in own["near"]} == {1, 2, 4}
    with torch.no_grad():
        logits = (coder.W_dec[0] - coder.W_dec[0].mean()) @ model.embed.token.weight.T
        assert [row[0] for row in own["raises"]] == logits.topk(3).indices.tolist()
        assert [row[1] for row in own["lowers"]] == pytest.approx(logits.topk(3, largest=False).values.tolist())
        doubled = lens(model, 2 * coder.W_dec[:1], 3)[0][0][0]
    assert data["tokens"][own["raises"][0][0]] == " war" and doubled[1] == pytest.approx(2 * own["raises"][0][1])


def test_the_page_holds_the_data_and_nothing_in_it_is_html(parts, tmp_path):
    options = SHOWN.model_dump()
    path = dashboard(*parts, TEXTS, "blocks.0", tmp_path / "own.html", title="<i>{data}</i>", latents=[2, 0], **options)
    text, found = path.read_text(), of(path)
    assert found == json.loads(json.dumps(records(*parts, TEXTS, "blocks.0", [0, 2], SHOWN)))
    assert [own["id"] for own in found["latents"]] == [0, 2]
    assert "<title>&lt;i&gt;{data}&lt;/i&gt;</title>" in text and text.count("</script>") == 2
    assert any("<" in word for word in found["tokens"]) and not re.search("https?://(?!www.w3.org)", text)
    hostile = page({"tokens": ["</script><b>&\u2028"]}, "t")
    assert hostile.count("</script>") == 2 and "\u2028" not in hostile and "\\u003c/script\\u003e" in hostile
    shown = embedded(path, 300).data
    assert html.unescape(re.search('srcdoc="(.*?)"', shown, re.S)[1]) == text and "height:300px" in shown


@pytest.mark.parametrize(("change", "problem"), [
    ({"site": "blocks.9"}, "blocks.9"),
    ({"texts": ["short"]}, "no text has the 31 tokens of one window"),
    ({"top": 3}, "dashboard|Shown"),
    ({"coder": SparseCoder(16, 4, "relu")}, "16"),
])
def test_what_does_not_fit_is_refused(parts, tmp_path, change, problem):
    given = {"coder": parts[0], "model": parts[1], "texts": TEXTS, "site": "blocks.0", "path": tmp_path / "x.html"}
    with pytest.raises(ValueError, match=problem):
        dashboard(**given | change)
    assert not (tmp_path / "x.html").exists()


def test_what_belongs_together_is_asked_for_and_then_shown(parts, monkeypatch):
    coder, model = parts
    with pytest.raises(ValueError, match="the coder writes 7 dimensions, the model's stream has 32"):
        lens(model, np.ones((1, 7)), 3)
    with pytest.raises(ValueError, match="no latent asked for fires"):
        records(coder, model, TEXTS, "blocks.0", [NEVER], SHOWN)
    monkeypatch.setattr(model, "tokenizer", None)
    with pytest.raises(ValueError, match="no tokenizer to read texts with; set model.tokenizer"):
        records(coder, model, TEXTS, "blocks.0", [0], SHOWN)
    monkeypatch.undo()
    assert records(coder, model, TEXTS, "blocks.0", [NEVER, 0], SHOWN)["latents"][0]["id"] == 0
