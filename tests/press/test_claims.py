"""Claims as checked objects, and the ledger whose records judge them. The rules themselves: test_verdicts.py."""
from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from book_of_claims import PHASES, TOPOLOSS, claim, identity, measured, part

from lib import files
from lib.press import claims, kept, ledger
from lib.press.verdicts import Measured

AT_LEAST = {"SP": 5, "AF": 7, "SV": 4, "IP": 8, "TL": 11, "PD": 11}
CHAPTERS = sorted((files.ROOT / "book/studies").glob("*.md"))


def rejects(message):
    return pytest.raises(claims.ClaimError, match=message)


def test_claims_come_back_as_they_were_written_in_their_order(book):
    found = claims.load()
    assert list(found) == ["SP-1", "SP-2", "SV-4", "TL-6"]
    assert found["SP-1"].parts[0].printed.ends == (1.5, 1.5) and found["SP-1"].parts[0].printed.effect == 0.5
    assert found["SP-2"].prints == {"place": (0.82, 0.87), "height": "high"} and found["SP-2"].combine == "all"
    assert list(claims.of_study(TOPOLOSS)) == ["TL-6"]


def test_a_key_given_twice_is_refused_and_one_that_replaces_a_merged_one_is_not(book):
    book.write(claim("SP-1"))
    path = book.root / "book/claims.yml"
    text = path.read_text()
    path.write_text(text.replace("    margin: 0.1\n", "    margin: 0.1\n    margin: 0.2\n"))
    with rejects("not readable as YAML: key 'margin' is given twice"):
        claims.load()
    one, two = "  - &one\n    name", "  - {<<: *one, name: other, margin: 0.3}\n  - {<<: *one, name: third}\n"
    path.write_text(text.replace("  - name", one, 1).replace("  combine", f"{two}  combine") if "  combine" in text
                    else text.replace("  - name", one, 1) + two)
    assert [part.margin for part in claims.load()["SP-1"].parts] == [0.1, 0.3, 0.1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"margin": None}, "loss over S = 0.8: effect needs a margin and why it is that"),
        ({"why": " "}, "needs a margin and why it is that"),
        ({"margin": 0}, "margin: Input should be greater than 0"),
        ({"margin": float("nan")}, "margin: Input should be a finite number"),
        ({"nulls": []}, "effect needs a null"),
        ({"nulls": [" "]}, "nulls.0: String should match"),
        ({"direction": None}, "effect needs a direction, more or less"),
        ({"direction": "up"}, "direction: Input should be 'more' or 'less'"),
        ({"kind": "size"}, "kind: Input should be 'effect', 'range', 'absence' or 'identity'"),
        ({"kind": "range"}, "a range, and nothing else, says its range"),
        ({"range": [0, 1]}, "a range, and nothing else, says its range"),
        ({"kind": "range", "range": [1, 1]}, r"range \[1, 1\] is empty"),
        ({"kind": "identity"}, "an identity has no null, direction, range, margin or printed figure"),
        ({"printed": {"value": 0.1}}, "margin 0.1 is as large as the printed effect 0.1: nothing could be absent"),
        ({"printed": {"value": 1.05, "against": 1.0}}, "margin 0.1 is as large as the printed effect 0.05"),
        ({"printed": {"low": -3.0, "high": -0.02}}, "as large as the printed effect 0.02"),
        ({"printed": {"low": 0.5}}, "printed needs a value, or low and high together"),
        ({"printed": {"at_least": True}}, "printed needs a value, or low and high together"),
        ({"printed": {"low": 2, "high": 1}}, "low 2 is above high 1"),
        ({"printed": {"low": -2.0, "high": 2.0}}, "as large as the printed effect 0"),
        ({"printed": {"value": -1.5}}, "the printed figure lies on the other side of its null than is claimed"),
        ({"direction": "less", "printed": {"value": 1.5}}, "the printed figure lies on the other side"),
        ({"kind": "range", "range": [1, 2], "margin": 1.0}, "margin 1 is as wide as the range"),
        ({"nulls": ["one", "one"]}, "needs a null, and no null twice"),
        ({"margin": "0.1"}, "margin: Input should be a valid number"),
        ({"margin": True}, "margin: Input should be a valid number"),
        ({"printed": {"value": "1.5"}}, "printed.value: Input should be a valid number"),
        ({"printed": {"value": 1.5, "at_least": "yes"}}, "printed.at_least: Input should be a valid boolean"),
        ({"decision": "by eye"}, "decision: Extra inputs are not permitted"),
    ],
)
def test_a_part_that_cannot_be_decided_is_refused(book, changes, message):
    book.write(claim("SP-1", part(**changes)))
    with rejects(f"claims.yml: SP-1: parts.0.*{message}"):
        claims.load()


def test_an_identity_has_no_margin_and_an_absence_needs_no_direction(book):
    book.write(claim("SP-1", {**identity(), "margin": 0.1}))
    with rejects("an identity has no null, direction, range, margin or printed figure"):
        claims.load()
    book.write(claim("SP-1", part(kind="absence", direction=None)))
    assert claims.load()["SP-1"].parts[0].direction is None


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (claim("SP-1", published="1.5"), "claims.yml: SP-1: published: Extra inputs are not permitted"),
        (claim("SP-1", study="phases"), "SP-1: study: Input should be 'superposition_phases'"),
        (claim("XX-1"), "XX-1: id: String should match pattern"),
        (claim("SP-0"), "SP-0: id: String should match pattern"),
        (claim("SP-1", origin="rumour"), "SP-1: origin: Input should be 'claim', 'hypothesis' or 'question'"),
        (claim("SP-1", combine="most"), "SP-1: combine: Input should be 'all', 'each' or 'any'"),
        (claim("SP-1", part(), part()), "SP-1: two parts are called loss over S = 0.8"),
        (claim("SP-1", part()) | {"parts": []}, "SP-1: parts: Tuple should have at least 1 item"),
        (claim("SP-1", history=[{"change": "A word."}]), "SP-1: history.0.date: Field required"),
        ({"study": PHASES}, "claims.yml: entry 2: id: Field required"),
        ("SP-1", "claims.yml: entry 2: Input should be an object"),
        (claim("SP-3"), "claims.yml: SP-3: the id stands twice"),
    ],
)
def test_a_wrong_claim_is_refused_naming_file_and_id(book, entry, message):
    book.write(claim("SP-3"), entry)
    with rejects(message):
        claims.load()


def test_every_mistake_of_a_claim_is_told_at_once(book):
    book.write(claim("SP-1", part(margin=None), origin="rumour"))
    with rejects("(?s)SP-1: origin.*\n.*SP-1: parts.0: .*margin"):
        claims.load()


def test_a_file_that_is_no_list_of_claims_is_refused(book):
    book.write(whole={"SP-1": {}})
    with rejects("claims.yml: expected a list of claims, got dict"):
        claims.load()
    files.write_text(book.root / "book/claims.yml", "- id: [")
    with rejects("claims.yml: not readable as YAML: while parsing"):
        claims.load()
    (book.root / "book/claims.yml").unlink()
    with rejects("claims.yml: not readable as YAML"):
        claims.load()


def test_the_rule_follows_what_decides_and_no_prose(book):
    def rule(*parts, **changes):
        book.write(claim("SP-1", *parts, **changes))
        return claims.load()["SP-1"].rule

    first = rule(part())
    assert rule(part(why="Other words.", estimate="Other words."), statement="Other words.") == first
    different = [rule(part(margin=0.2)), rule(part(nulls=["one", "two"])), rule(part(), combine="any"),
                 rule(part(), part("other")), rule(part(), artefact="the optimiser"), rule(part(direction="less")),
                 rule(part(printed={"value": 3.0}))]
    assert len({first, *different}) == 1 + len(different)


def test_a_judgement_comes_back_as_it_was_given(book):
    given = book.ledger().judge("SP-1", measured(1.5), published=measured(1.2), scope="twenty features")
    assert ledger.results("quick") == {"SP-1": given} and ledger.results("long") == {}
    assert (given.word, given.published.word) == ("reproduced", "other size")
    assert (given.part.n, given.part.printed) == (5, "inside")
    assert given.part.excess.value == pytest.approx(0.5) and given.part.estimate.value == pytest.approx(1.5)
    assert type(given.part.estimate.value) is float and given.evidence == "sound" and not given.stale


def test_records_stand_in_the_order_of_the_claims_and_a_new_judgement_replaces_an_old_one(book):
    own = book.ledger()
    own.judge("SP-2", [measured(1.5)] * 2)
    own.judge("SP-1", measured(1.5))
    own.judge("SP-2", [measured(1.5), measured(0.5)])
    words = {id: record.word for id, record in ledger.results("quick").items()}
    assert list(words.items()) == [("SP-1", "reproduced"), ("SP-2", "contradicted")]
    assert ledger.results("quick")["SP-2"].part.name == "loss over S = 0.9"
    book.ledger().judge("SP-2", [measured(1.5)] * 2)
    assert list(ledger.results("quick")) == ["SP-2"], "a ledger starts empty"


def test_label_and_path_come_from_the_environment(book, monkeypatch):
    values = SimpleNamespace(profile="quick")
    assert ledger.Ledger(PHASES, values).path == ledger.results_path(PHASES, "interactive")
    monkeypatch.setenv("BOOK_PROFILE", "quick+seeds=3")
    assert ledger.Ledger(PHASES, values).path == book.root / f"_build/results/quick+seeds=3/{PHASES}.json"
    monkeypatch.setenv("BOOK_RESULTS", str(book.root / "elsewhere.json"))
    ledger.Ledger(PHASES, values).judge("SP-1", measured(1.5))
    assert json.loads((book.root / "elsewhere.json").read_text())["label"] == "quick+seeds=3"


@pytest.mark.parametrize("profile", ["smoke", "mine"])
def test_a_run_that_settles_nothing_says_so_whatever_it_measures(book, profile):
    own = book.ledger(profile=profile)
    assert not own.settled and book.ledger(profile="long").settled
    record = own.judge("SP-1", measured(1.5))
    assert (record.word, record.remark) == ("not tested here", f"the profile {profile} settles nothing")
    assert record.part.word == "reproduced", "the number is kept"
    for values in ([1.5], [1.5, np.nan]):
        assert own.judge("SP-1", Measured(values, [1.0])).parts == ()
    assert own.judge("SP-1").word == "not tested here"


@pytest.mark.parametrize("values", [[1.5], [1.5, np.nan], [1.5, np.inf]])
def test_too_few_seeds_are_refused_where_the_run_settles_something(book, values):
    with rejects("SP-1, loss over S = 0.8: "):
        book.ledger().judge("SP-1", Measured(values, [1.0]))
    assert not ledger.results_path(PHASES, "quick").exists()
    assert book.ledger().judge("SP-1", Measured(values, [1.0]), untested="one seed").reason == "one seed"


def test_a_judgement_that_is_not_of_the_claim_is_refused(book):
    own = book.ledger()
    for id, parts, message in (
        ("TL-6", measured(1.5), "TL-6: no claim of superposition_phases; its claims: SP-1, SP-2"),
        ("SP-2", measured(1.5), "SP-2: 2 parts are declared, 1 were measured"),
        ("SP-1", (), 'SP-1: needs what its parts came to, or untested="why not"'),
        ("SP-1", Measured([1.5, 1.6], [1.0, 0.0]), "1 nulls are declared, 2 were measured"),
    ):
        with rejects(message):
            own.judge(id, parts)
    with rejects(r"SP-1: names no other cause \(artefact\)"):
        own.judge("SP-1", measured(1.5), published=measured(1.5), without_cause=measured(1.0))
    with rejects("SP-1: no claim of phases"):
        ledger.Ledger("phases", SimpleNamespace(profile="quick")).judge("SP-1", measured(1.5))


def test_an_identity_takes_truth_values(book):
    own = book.ledger(TOPOLOSS)
    assert own.judge("TL-6", Measured(np.array([True, True]))).part.estimate is None
    assert own.judge("TL-6", Measured(np.array([True, False]))).word == "contradicted"
    with rejects("an identity takes truth values"):
        own.judge("TL-6", Measured([1.0, 1.0]))


def test_a_record_is_stale_once_its_rule_changes(book):
    record = book.ledger().judge("SP-1", measured(1.5))
    book.write(claim("SP-1", part(printed={"value": 1.5, "against": 1.0}, why="In other words.")))
    assert not record.stale
    book.write(claim("SP-1", part(margin=0.2)))
    assert ledger.results("quick")["SP-1"].stale
    book.write(claim("SP-2"))
    assert record.stale


def test_the_remark_says_what_the_word_alone_does_not(book):
    own = book.ledger()
    assert own.judge("SP-1", measured(1.2)).remark == "a smaller effect than printed"
    other_sign = own.judge("SP-1", measured(1.5), published=measured(0.5))
    assert (other_sign.word, other_sign.remark) == ("in part", "the published recipe shows the other sign")
    one_of_two = own.judge("SP-2", [measured(1.5), measured(0.5)])
    assert one_of_two.remark == "1 of 2 parts reproduced; contradicted: loss over S = 0.9"
    unknown = own.judge("SP-1", Measured([0.9, 1.5], [1.0])).remark
    assert re.fullmatch(r"could have shown [\d.]+; \d+ seeds would decide", unknown)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"study": 1', "phases.json: not a file of records .* delete it and run superposition_phases again"),
        ("[]", "not a file of records"),
        ('{"records": [{"claim_id": "SP-1", "word": "maybe", "rule": ""}]}', r"not a file of records \(Input should"),
        ('{"records": [{"claim_id": "SP-1", "verdict": "artefact"}]}', "not a file of records"),
        ('{"records": [{"claim_id": "TL-6", "word": "artefact", "rule": ""}]}', "TL-6: no claim of superposition_pha"),
    ],
)
def test_a_damaged_or_outdated_file_of_records_is_refused(book, text, message):
    files.write_text(ledger.results_path(PHASES, "smoke"), text)
    with rejects(message):
        ledger.results("smoke")


def test_kept_records_are_read_from_the_tree(book):
    given = book.keep("fresh_seeds", "SP-1", measured(1.5))
    assert kept.kept("fresh_seeds") == {"SP-1": given} and kept.kept("long") == ledger.results("quick") == {}


def test_the_ledgers_table_shows_the_part_that_decides(book):
    own = book.ledger()
    assert own.table().empty
    own.judge("SP-2", [measured(1.5), measured(0.5)], published=[None, measured(1.5)])
    row = own.table().loc["SP-2"]
    assert (row.verdict, row["decided by"], row.n) == ("contradicted", "loss over S = 0.9", 5)
    assert row.ours.startswith("0.5 [0.4") and row["published recipe"].startswith("comes out: 1.5 [1.4")


def test_the_books_claims_are_complete():
    found = claims.load()
    numbers = {letters: [int(id.split("-")[1]) for id in found if id.startswith(f"{letters}-")] for letters in AT_LEAST}
    for letters, least in AT_LEAST.items():
        assert sorted(numbers[letters]) == list(range(1, max(least, *numbers[letters]) + 1)), f"{letters}: a gap"
    assert {claim.study for claim in found.values()} == set(claims.STUDIES)
    assert len({claim.statement for claim in found.values()}) == len(found)


def test_every_source_is_in_the_bibliography():
    text = (files.ROOT / "book" / "references.bib").read_text()
    keys = re.findall(r"^@\w+\{([^,\s]+),", text, re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert {claim.source.split(",")[0] for claim in claims.load().values()} <= set(keys)


def test_the_front_page_names_and_links_every_project():
    intro = (files.ROOT / "book" / "intro.md").read_text()
    assert [p.name for p in claims.PROJECTS.values() if f"[{p.name}]({p.url})" not in intro] == []
    assert [letters for letters, p in claims.PROJECTS.items() if f"{letters} ({p.letters}" not in intro] == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_landed_chapter_judges_each_of_its_claims_and_says_where(chapter):
    text = chapter.read_text()
    code = "".join(re.findall(r"```\{code-cell\}.*?```", text, re.DOTALL))
    ids = list(claims.of_study(chapter.stem))
    assert ids, f"{chapter.stem} has no claims in book/claims.yml"
    assert [id for id in ids if f'"{id}"' not in code] == [], "claims that no code cell of the chapter names"
    labels = re.findall(r"^\(claim-(\w+-\d+)\)=$", text, re.MULTILINE)
    assert sorted(labels) == sorted(id.lower() for id in ids), "one label each, above the section that settles it"
    shown = re.findall(r"\{verdict\}`([^`]*)`", text)
    assert set(ids) <= set(shown), "claims whose verdict the chapter does not show"
