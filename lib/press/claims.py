"""The claims the book tests, and the verdicts its chapters reach.

`book/claims.yml` states every claim with its decision rule; a chapter records what it found in a `Ledger`;
the pages of the book read both. Verdicts live in `_build/results/<profile>/<study>.json`.
"""
from __future__ import annotations

import json
import math
import operator
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib import files

STUDIES = (
    "superposition_phases",
    "sparse_coders_recovery",
    "incidental_polysemanticity",
    "topoloss_hypotheses",
    "spd_causal_graphs",
    "shapes_and_colours",
    "transformer_saes",
)
"""Slugs of the seven studies, in the order of the book."""

VERDICTS = ("reproduced", "direction only", "not reproduced", "artefact", "needs full profile")
"""The five verdict words; `book/claims.md` says what each means."""

NO_RUN = "no run yet"


class ClaimError(ValueError):
    """A claim, a record or one of their files is not what it must be."""


@dataclass(frozen=True)
class Claim:
    """One published claim and the rule that decides it.

    `source` is a citation key, a comma, and the place in that source; `published` is the printed figure as text.
    """

    id: str
    study: str
    source: str
    statement: str
    published: str
    decision: str

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(getattr(self, field.name), str) or not getattr(self, field.name).strip():
                raise ClaimError(f"{self.id}: {field.name} must be text, got {getattr(self, field.name)!r}")
        if self.study not in STUDIES:
            raise ClaimError(f"{self.id}: unknown study {self.study!r}, expected one of {', '.join(STUDIES)}")


@dataclass(frozen=True)
class Record:
    """What one run found about one claim: an estimate with its interval over `n` replicates, and a verdict.

    `metric` names the estimate; `published_arm` is what the source's own recipe gave in the same run.
    A record of `needs full profile` may leave the numbers out.
    """

    claim_id: str
    verdict: str
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    metric: str = ""
    published_arm: float | str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ClaimError(f"{self.claim_id}: unknown verdict {self.verdict!r}; the words: {', '.join(VERDICTS)}")
        given = [value is not None for value in (self.estimate, self.interval, self.n)]
        if not all(given) and (any(given) or self.verdict != "needs full profile"):
            raise ClaimError(f"{self.claim_id}: {self.verdict!r} needs estimate, interval and n together")
        if all(given):
            self._set(estimate=self._finite("estimate", self.estimate), interval=self._interval(), n=self._count())
            if not self.metric:
                raise ClaimError(f"{self.claim_id}: metric must name what the estimate measures")
        if self.published_arm is not None and not isinstance(self.published_arm, str):
            self._set(published_arm=self._finite("published_arm", self.published_arm))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _finite(self, name: str, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, (bool, str)) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ClaimError(f"{self.claim_id}: {name} must be a finite number, got {value!r}")
        return number

    def _interval(self) -> tuple[float, float]:
        try:
            low, high = self.interval
        except (TypeError, ValueError):
            raise ClaimError(f"{self.claim_id}: interval must be (low, high), got {self.interval!r}") from None
        low, high = self._finite("interval", low), self._finite("interval", high)
        if low > high:
            raise ClaimError(f"{self.claim_id}: interval must be ordered, got ({low}, {high})")
        return low, high

    def _count(self) -> int:
        try:
            n = 0 if isinstance(self.n, bool) else operator.index(self.n)
        except TypeError:
            n = 0
        if n < 1:
            raise ClaimError(f"{self.claim_id}: n must be a positive whole number, got {self.n!r}")
        return n


def load(path: Path | None = None) -> dict[str, Claim]:
    """Every claim by id, in the order of the file (`book/claims.yml` unless `path` is given).

    Raises:
        ClaimError: unreadable YAML, an unknown or missing field, a duplicate id, an unknown study.
    """
    path = path or files.ROOT / "book" / "claims.yml"
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        raise ClaimError(f"{path}: expected a list of claims, got {type(entries).__name__}")
    claims: dict[str, Claim] = {}
    for place, entry in enumerate(entries, start=1):
        claim = _build(Claim, entry, path, entry.get("id", f"entry {place}") if isinstance(entry, dict) else place)
        if claim.id in claims:
            raise ClaimError(f"{path}: {claim.id}: the id stands twice")
        claims[claim.id] = claim
    return claims


def _build(kind: type, entry: Any, path: Path, name: object) -> Any:
    """`kind(**entry)` with every complaint naming the file and the id."""
    accepted = [field.name for field in fields(kind)]
    if not isinstance(entry, dict):
        raise ClaimError(f"{path}: {name}: expected fields, got {entry!r}")
    if unknown := [str(key) for key in entry if key not in accepted]:
        raise ClaimError(f"{path}: {name}: unknown field {', '.join(unknown)}; accepted: {', '.join(accepted)}")
    try:
        return kind(**entry)
    except ClaimError as error:
        raise ClaimError(f"{path}: {error}") from None
    except TypeError:
        absent = ", ".join(key for key in accepted if key not in entry)
        raise ClaimError(f"{path}: {name}: missing field: {absent}") from None


class Ledger:
    """The verdicts of one run of one study; each `record` call writes the file whole.

    A ledger starts empty, so a verdict of an earlier run never survives into this one.

    Args:
        study: slug of the chapter.
        profile: name of the parameter profile; the environment's `BOOK_PROFILE`, else `interactive`.
        path: file to write; the environment's `BOOK_RESULTS`, else `_build/results/<profile>/<study>.json`.
    Raises:
        ClaimError: unknown study.
    """

    def __init__(self, study: str, profile: str | None = None, path: Path | None = None) -> None:
        if study not in STUDIES:
            raise ClaimError(f"unknown study {study!r}, expected one of {', '.join(STUDIES)}")
        self.study = study
        self.profile = profile or os.environ.get("BOOK_PROFILE") or "interactive"
        self.path = Path(path or os.environ.get("BOOK_RESULTS") or results_path(study, self.profile))
        self.claims = {id: claim for id, claim in load().items() if claim.study == study}
        self.records: dict[str, Record] = {}

    def record(
        self,
        claim_id: str,
        *,
        verdict: str,
        estimate: float | None = None,
        interval: tuple[float, float] | None = None,
        n: int | None = None,
        metric: str = "",
        published_arm: float | str | None = None,
        note: str = "",
    ) -> Record:
        """Record the verdict on one claim, replacing an earlier one of this run, and write the file.

        Raises:
            ClaimError: the claim is not this study's, the verdict word is unknown, a number is missing or not finite,
                the interval is not ordered, `n` is not a positive whole number.
        """
        if claim_id not in self.claims:
            raise ClaimError(f"{claim_id}: no claim of {self.study}; its claims: {', '.join(self.claims)}")
        record = Record(claim_id, verdict, estimate, interval, n, metric, published_arm, note)
        self.records[claim_id] = record
        records = [asdict(r) for r in self.records.values()]
        files.write_json(self.path, {"study": self.study, "profile": self.profile, "records": records})
        return record

    def table(self) -> pd.DataFrame:
        """The records of this run for a reader, one row per claim: four significant digits, intervals as text."""
        rows = {
            r.claim_id: {
                "verdict": r.verdict, "what": r.metric, "ours": _digits(r.estimate), "n": r.n,
                "95 % interval": f"{_digits(r.interval[0])} to {_digits(r.interval[1])}" if r.interval else "",
                "published arm": _digits(r.published_arm),
            }
            for r in self.records.values()
        }
        columns = ["verdict", "what", "ours", "95 % interval", "n", "published arm"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("claim").astype({"n": "Int64"})


def _digits(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def results_path(study: str, profile: str) -> Path:
    """Where the verdicts of `study` at `profile` are kept."""
    return files.BUILD / "results" / profile / f"{study}.json"


def results(profile: str) -> dict[str, Record]:
    """Every record of a profile by claim id, in the order of `book/claims.yml`.

    Raises:
        ClaimError: a results file is not one, or holds an unknown claim, field or verdict.
    """
    claims = load()
    found: dict[str, Record] = {}
    for path in (results_path(study, profile) for study in STUDIES):
        for entry in _read_records(path):
            record = _build(Record, entry, path, entry.get("claim_id", "a record") if isinstance(entry, dict) else "?")
            if record.claim_id not in claims or claims[record.claim_id].study != path.stem:
                raise ClaimError(f"{path}: {record.claim_id}: no claim of {path.stem} in book/claims.yml; run it again")
            found[record.claim_id] = record
    return {id: found[id] for id in claims if id in found}


def _read_records(path: Path) -> list[Any]:
    if not path.is_file():
        return []
    try:
        return json.loads(path.read_text(encoding="utf-8"))["records"]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ClaimError(f"{path}: not a results file; delete it and run {path.stem} again") from None


def missing(study: str, profile: str) -> list[str]:
    """Ids of `study`'s claims without a record at `profile`; none while the study has no chapter yet."""
    if not (files.ROOT / "book" / "studies" / f"{study}.md").is_file():
        return []
    recorded = results(profile)
    return [id for id, claim in load().items() if claim.study == study and id not in recorded]


def counts(profile: str) -> dict[str, int]:
    """Number of claims per verdict word, then per `no run yet`; sums to the number of claims."""
    found = Counter(record.verdict for record in results(profile).values())
    found[NO_RUN] = len(load()) - found.total()
    return {word: found[word] for word in (*VERDICTS, NO_RUN)}


def badge(verdict: str) -> str:
    """A verdict word as a coloured HTML label; the stylesheet knows the classes `verdict verdict-<slug>`."""
    if verdict not in (*VERDICTS, NO_RUN):
        raise ClaimError(f"unknown verdict {verdict!r}, expected one of {', '.join(VERDICTS)}")
    return f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{verdict}</span>'


def summary(profile: str) -> str:
    """The counts as one MyST line for the front page: each verdict word that occurs, with its number of claims."""
    return " · ".join(f"{badge(word)} {count}" for word, count in counts(profile).items() if count) + "\n"


def markdown_table(profile: str, studies: Iterable[str] | None = None) -> str:
    """The table of claims as MyST: statement with its rule and source folded away, published figure, ours, verdict.

    Args:
        profile: whose records to show.
        studies: slugs to keep, all by default.
    """
    kept = set(STUDIES if studies is None else studies)
    recorded = results(profile)
    rows = [_row(claim, recorded.get(id)) for id, claim in load().items() if claim.study in kept]
    return "\n".join(["| Claim | Statement | Published | Ours | Verdict |", "|---|---|---|---|---|", *rows]) + "\n"


def _row(claim: Claim, record: Record | None) -> str:
    name = f"{{doc}}`{claim.id} </studies/{claim.study}>`" if record else claim.id
    key, _, place = claim.source.partition(", ")
    rule = f"{_text(claim.decision)} Source: {{cite:t}}`{key}`, {_text(place)}."
    folded = f'<details class="rule"><summary>decision rule, source</summary>{rule}</details>'
    cells = [name, f"{_text(claim.statement)} {folded}", _text(claim.published), _ours(record)]
    return f"| {' | '.join(cells)} | {badge(record.verdict if record else NO_RUN)} |"


def _ours(record: Record | None) -> str:
    if record is None:
        return "–"
    if record.estimate is None:
        return _text(record.note)
    low, high = (_number(bound) for bound in record.interval)
    return f"{_number(record.estimate)} [{low}, {high}], n\u00a0=\u00a0{record.n} ({_text(record.metric)})"


def _number(value: float) -> str:
    """Three significant digits; no exponent for anything a reader would not write with one."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _text(text: str) -> str:
    """`text` as the content of one table cell, with Markdown's special characters made plain."""
    return "".join(f"\\{c}" if c in "\\|<>*_`$[]{}~^" else c for c in " ".join(text.split()))
