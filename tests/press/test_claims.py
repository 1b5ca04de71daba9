"""Claims, records and the table built from them."""
from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib import files
from lib.press import claims

FOUND = dict(verdict="reproduced", estimate=0.4, interval=(0.1, 0.7), n=5, metric="difference")
PREFIXES = {"SP": range(1, 6), "AF": range(1, 8), "SV": range(1, 5), "IP": range(1, 9), "TL": range(1, 12),
            "PD": range(1, 12)}


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A checkout of two studies with three claims, one study landed, and an empty build folder."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setattr(files, "BUILD", tmp_path / "_build")
    monkeypatch.delenv("BOOK_PROFILE", raising=False)
    monkeypatch.delenv("BOOK_RESULTS", raising=False)
    (tmp_path / "book" / "studies").mkdir(parents=True)
    (tmp_path / "book" / "studies" / "superposition_phases.md").write_text("# A chapter")
    entries = [entry("SP-1"), entry("SP-2"), entry("TL-1", study="topoloss_hypotheses")]
    write_claims(tmp_path, entries)
    return tmp_path


def entry(id: str, **changes) -> dict:
    text = dict(source="key, somewhere", statement=f"{id} holds for a|b.", published="1.5", decision="Null: 0.")
    return {"id": id, "study": "superposition_phases", **text, **changes}


def write_claims(root: Path, entries: object) -> Path:
    path = root / "book" / "claims.yml"
    path.write_text(yaml.safe_dump(entries, sort_keys=False))
    return path


def rejects(message: str):
    return pytest.raises(claims.ClaimError, match=message)


def test_a_recorded_verdict_comes_back_as_it_was_given(book):
    ledger = claims.Ledger("superposition_phases", profile="smoke")
    given = ledger.record("SP-2", **FOUND, published_arm=1.4, note="two seeds")
    assert claims.results("smoke") == {"SP-2": given}
    assert given.interval == (0.1, 0.7) and given.published_arm == 1.4
    assert claims.results("quick") == {}


def test_numpy_numbers_become_plain_ones(book):
    found = {**FOUND, "estimate": np.float32(0.5), "interval": np.array([0.25, 1.0]), "n": np.int64(3)}
    record = claims.Ledger("superposition_phases", "smoke").record("SP-1", **found)
    assert (record.estimate, record.interval, record.n) == (0.5, (0.25, 1.0), 3)
    assert type(record.estimate) is float and type(record.n) is int


def test_recording_a_claim_again_replaces_it_and_a_new_ledger_starts_empty(book):
    ledger = claims.Ledger("superposition_phases", "smoke")
    ledger.record("SP-1", **FOUND)
    ledger.record("SP-1", **{**FOUND, "verdict": "artefact"})
    assert [r.verdict for r in claims.results("smoke").values()] == ["artefact"]
    claims.Ledger("superposition_phases", "smoke").record("SP-2", **FOUND)
    assert list(claims.results("smoke")) == ["SP-2"]


def test_profile_and_path_come_from_the_environment(book, monkeypatch):
    assert claims.Ledger("superposition_phases").profile == "interactive"
    monkeypatch.setenv("BOOK_PROFILE", "full")
    assert claims.Ledger("superposition_phases").path == book / "_build/results/full/superposition_phases.json"
    monkeypatch.setenv("BOOK_RESULTS", str(book / "elsewhere.json"))
    claims.Ledger("superposition_phases").record("SP-1", **FOUND)
    assert json.loads((book / "elsewhere.json").read_text())["profile"] == "full"


def test_only_needs_full_profile_may_come_without_numbers(book):
    ledger = claims.Ledger("superposition_phases", "smoke")
    assert ledger.record("SP-1", verdict="needs full profile", note="no data").estimate is None
    with rejects("SP-1: 'artefact' needs estimate, interval and n together"):
        ledger.record("SP-1", verdict="artefact")
    with rejects("needs estimate, interval and n together"):
        ledger.record("SP-1", verdict="needs full profile", estimate=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "confirmed"}, "SP-1: unknown verdict 'confirmed'"),
        ({"estimate": math.nan}, "SP-1: estimate must be a finite number, got nan"),
        ({"estimate": True}, "estimate must be a finite number"),
        ({"estimate": "0.4"}, "estimate must be a finite number"),
        ({"interval": (0.1, math.inf)}, "interval must be a finite number, got inf"),
        ({"interval": (0.7, 0.1)}, "interval must be ordered"),
        ({"interval": (0.1,)}, r"interval must be \(low, high\)"),
        ({"interval": 0.1}, r"interval must be \(low, high\)"),
        ({"n": 0}, "n must be a positive whole number, got 0"),
        ({"n": 2.5}, "n must be a positive whole number"),
        ({"n": True}, "n must be a positive whole number"),
        ({"metric": ""}, "metric must name what the estimate measures"),
        ({"published_arm": math.inf}, "published_arm must be a finite number"),
        ({"n": None}, "needs estimate, interval and n together"),
    ],
)
def test_a_wrong_record_is_refused_and_nothing_is_written(book, changes, message):
    ledger = claims.Ledger("superposition_phases", "smoke")
    with rejects(message):
        ledger.record("SP-1", **{**FOUND, **changes})
    assert not ledger.path.exists() and ledger.records == {}


def test_a_claim_of_another_study_and_an_unknown_study_are_refused(book):
    with rejects("TL-1: no claim of superposition_phases; its claims: SP-1, SP-2"):
        claims.Ledger("superposition_phases", "smoke").record("TL-1", **FOUND)
    with rejects("unknown study 'phases'"):
        claims.Ledger("phases")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("SP-1", verdict="artefact")], "claims.yml: SP-1: unknown field verdict; accepted: id, study"),
        ([entry("SP-1"), entry("SP-1")], "claims.yml: SP-1: the id stands twice"),
        ([entry("SP-1", study="phases")], "claims.yml: SP-1: unknown study 'phases'"),
        ([entry("SP-1", published=1.5)], "claims.yml: SP-1: published must be text, got 1.5"),
        ([entry("SP-1", decision=" ")], "claims.yml: SP-1: decision must be text"),
        ([{"id": "SP-1", "study": "superposition_phases"}], "SP-1: missing field: source, statement, published, dec"),
        ([{"study": "superposition_phases"}], "claims.yml: entry 1: missing field: id"),
        (["SP-1"], "claims.yml: 1: expected fields, got 'SP-1'"),
        ({"SP-1": {}}, "claims.yml: expected a list of claims, got dict"),
    ],
)
def test_a_wrong_claims_file_is_refused_naming_file_and_id(book, entries, message):
    write_claims(book, entries)
    with rejects(message):
        claims.load()


def test_claims_that_are_not_yaml_are_refused(book):
    (book / "book" / "claims.yml").write_text("- id: [")
    with rejects("claims.yml: not YAML: while parsing"):
        claims.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"study": 1', "not a results file; delete it and run superposition_phases again"),
        ("[]", "not a results file"),
        ('{"records": [{"claim_id": "SP-1", "verdict": "maybe"}]}', "phases.json: SP-1: unknown verdict 'maybe'"),
        ('{"records": [{"claim_id": "SP-1", "seeds": 3}]}', "phases.json: SP-1: unknown field seeds"),
        ('{"records": [{"claim_id": "SP-9", "verdict": "needs full profile"}]}', "SP-9: no claim of superposition_pha"),
        ('{"records": [{"claim_id": "TL-1", "verdict": "needs full profile"}]}', "TL-1: no claim of superposition_pha"),
    ],
)
def test_a_damaged_or_outdated_results_file_is_refused(book, text, message):
    files.write_text(claims.results_path("superposition_phases", "smoke"), text)
    with rejects(message):
        claims.results("smoke")


def test_a_landed_study_with_a_missing_claim_is_reported(book):
    assert claims.missing("superposition_phases", "smoke") == ["SP-1", "SP-2"]
    claims.Ledger("superposition_phases", "smoke").record("SP-2", **FOUND)
    assert claims.missing("superposition_phases", "smoke") == ["SP-1"]
    assert claims.missing("topoloss_hypotheses", "smoke") == []  # no chapter yet


def test_counts_and_summary_cover_every_claim(book):
    claims.Ledger("superposition_phases", "smoke").record("SP-2", **FOUND)
    counts = claims.counts("smoke")
    assert counts["reproduced"] == 1 and counts["no run yet"] == 2 and sum(counts.values()) == 3
    assert claims.summary("smoke").count("<span") == 2


def test_the_ledger_table_shows_ours_beside_the_published(book):
    ledger = claims.Ledger("superposition_phases", "smoke")
    assert ledger.table().empty
    ledger.record("SP-2", **FOUND, published_arm="1.4 ± 0.1")
    row = ledger.table().iloc[0]
    assert (row.name, row["verdict"], row["published arm"]) == ("SP-2", FOUND["verdict"], "1.4 ± 0.1")


def test_the_page_table_links_runs_and_says_where_there_is_none(book):
    found = {**FOUND, "estimate": 1273.9, "interval": (0.1, 2e4)}
    claims.Ledger("superposition_phases", "smoke").record("SP-2", **found)
    head, rule, first, second, third = claims.markdown_table("smoke").splitlines()
    assert "SP-1" in first and "{doc}" not in first and "verdict-no-run-yet" in first
    assert "{doc}`SP-2 </studies/superposition_phases>`" in second
    assert "1,274 [0.1, 20,000], n\u00a0=\u00a05 (difference)" in second
    assert 'class="verdict verdict-reproduced"' in second
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in (head, rule, first, second, third)]
    assert columns == [6] * 5, "an unescaped bar in a cell shifts the columns"
    assert "TL-1" not in claims.markdown_table("smoke", studies=["superposition_phases"])


def test_a_badge_exists_for_every_word_and_no_other():
    assert claims.badge("not reproduced") == '<span class="verdict verdict-not-reproduced">not reproduced</span>'
    assert all(word in claims.badge(word) for word in (*claims.VERDICTS, "no run yet"))
    with rejects("unknown verdict 'plausible'"):
        claims.badge("plausible")


def test_the_books_claims_are_complete():
    found = claims.load()
    assert set(found) == {f"{prefix}-{n}" for prefix, numbers in PREFIXES.items() for n in numbers}
    assert {claim.study for claim in found.values()} == set(claims.STUDIES)
    assert len({claim.statement for claim in found.values()}) == len(found)


@pytest.mark.parametrize("claim", claims.load().values(), ids=lambda claim: claim.id)
def test_each_decision_names_its_estimate_null_interval_and_opposite(claim):
    words = claim.decision.lower()
    assert all(word in words for word in ("estimate:", "null:", "interval", "reproduced if"))
    assert any(word in words for word in ("not reproduced", "artefact")), "no outcome would speak against the claim"


def test_every_source_is_in_the_bibliography():
    keys = re.findall(r"^@\w+\{([^,\s]+),", (files.ROOT / "book" / "references.bib").read_text(), re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert {claim.source.split(",")[0] for claim in claims.load().values()} <= set(keys)


@pytest.mark.parametrize("chapter", sorted((files.ROOT / "book/studies").glob("*.md")), ids=lambda path: path.stem)
def test_a_landed_chapter_records_each_of_its_claims(chapter):
    code = "".join(re.findall(r"```\{code-cell\}.*?```", chapter.read_text(), re.DOTALL))
    ids = [id for id, claim in claims.load().items() if claim.study == chapter.stem]
    assert ids, f"{chapter.stem} has no claims in book/claims.yml"
    assert [id for id in ids if f'"{id}"' not in code] == [], "claims that no code cell of the chapter names"
