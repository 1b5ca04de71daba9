"""What the runs found: a chapter's `Ledger` and the records it writes.

A chapter judges each claim next to its result; the pages of the book read the records, which lie in
`_build/results/<label>/<study>.json` (those kept in the tree: `lib.press.kept`).
"""
from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import ValidationError, model_validator

from lib import files, params
from lib.press import claims, verdicts
from lib.press.claims import SETTLING, Claim, ClaimError, Strict
from lib.press.verdicts import NOT_RUN, UNTESTED, WORDS, Finding, Measured, TooFew, Verdict, conclude

VERDICTS = (*reversed(WORDS), verdicts.ARTEFACT, UNTESTED)
"""The seven words; `book/claims.md` says what each means."""


class Estimate(Strict):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


class PartRecord(Strict):
    """What one part of a claim came to."""

    name: str
    unit: str = ""
    word: Literal[WORDS]
    estimate: Estimate | None
    """None of an identity."""
    excess: Estimate | None
    """Over the null that decides, positive as claimed."""
    n: int | None
    """Seeds; None of an identity and of a statistic of all seeds together."""
    detectable: float | None
    """Smallest effect these seeds would show in four of five tries."""
    deciding_n: int | None
    """Seeds that would show an effect of the margin."""
    printed: Literal["", "inside", "smaller", "larger", "below", "above"]
    """Where the estimate lies against the printed figure."""


class Recipe(Strict):
    """What the source's own recipe gave, and the part that decides that."""

    word: Literal[verdicts.RECIPE]
    part: str = ""
    estimate: Estimate | None = None


class Record(Strict):
    """What one run found about one claim."""

    claim_id: str
    word: Literal[VERDICTS]
    rule: str
    """Digest of the claim's deciding fields at the time."""
    deciding: int = 0
    """Index of the part whose number stands for the claim."""
    parts: tuple[PartRecord, ...] = ()
    published: Recipe = Recipe(word=NOT_RUN)
    scope: str = ""
    evidence: str = "sound"
    reason: str = ""
    """Why it is not tested here."""
    outdated: bool = False
    """Whether the parameters it was made with are no longer its profile's; known of kept records alone."""

    @model_validator(mode="after")
    def _has_its_part(self) -> Self:
        if not 0 <= self.deciding < max(1, len(self.parts)):
            raise ValueError(f"part {self.deciding} of {len(self.parts)} does not exist")
        return self

    def __repr__(self) -> str:
        return f"{self.claim_id}: {self.word}"

    @property
    def part(self) -> PartRecord | None:
        """The part whose number stands for the claim; None where nothing was measured."""
        return self.parts[self.deciding] if self.parts else None

    @property
    def stale(self) -> bool:
        """Whether the claim's deciding fields, or the parameters, have changed since."""
        claim = claims.load().get(self.claim_id)
        return self.outdated or claim is None or claim.rule != self.rule

    @property
    def remark(self) -> str:
        """What the word alone does not say, computed from the numbers."""
        if self.word == UNTESTED:
            return self.reason
        said = []
        if len(self.parts) > 1:
            named = {word: [part.name for part in self.parts if part.word == word] for word in reversed(WORDS)}
            most = max(named, key=lambda word: len(named[word]))
            said.append(f"{len(named[most])} of {len(self.parts)} parts {most}")
            said += [f"{word}: {', '.join(names)}" for word, names in named.items() if names and word != most]
        part = self.part
        if part.word == "absent" and part.excess.low > 0:
            said.append("there, too small to matter")
        if part.printed in ("smaller", "larger") and part.word != "contradicted":
            said.append(f"a {part.printed} effect than printed")
        elif part.printed in ("below", "above"):
            said.append(f"{part.printed} the printed figure")
        if self.word == "inconclusive" and part.detectable is not None:
            said += [f"could have shown {number(part.detectable)}", _seeds(part)]
        if self.published.word == verdicts.OTHER_SIGN:
            said.append("the published recipe shows the other sign")
        return "; ".join(said)


def _seeds(part: PartRecord) -> str:
    """Which number of seeds would decide a part that these left open."""
    if part.deciding_n is None:
        return "no number of seeds would decide"
    if part.deciding_n <= part.n:
        return f"too near an edge of its rule for {part.n} seeds"
    return f"{part.deciding_n:,} seeds would decide"


class Ledger:
    """The verdicts of one run of one study; each `judge` call writes the file whole.

    A ledger starts empty, so a verdict of an earlier run never survives into this one.

    Args:
        study: slug of the chapter.
        values: the chapter's parameters; unless their profile is one of `SETTLING`, every claim is "not tested here".
        path: file to write; the environment's `BOOK_RESULTS`, else `_build/results/<BOOK_PROFILE>/<study>.json`.
    """

    def __init__(self, study: str, values: params.Params, path: Path | None = None) -> None:
        self.study, self.profile = study, values.profile
        self.label = os.environ.get("BOOK_PROFILE") or "interactive"
        self.path = Path(path or os.environ.get("BOOK_RESULTS") or results_path(study, self.label))
        self.claims = claims.of_study(study)
        self.records: dict[str, Record] = {}

    @property
    def settled(self) -> bool:
        """Whether this run judges claims. Values changed by hand, the root seed among them, leave it."""
        return self.profile in SETTLING

    def judge(
        self,
        claim_id: str,
        parts: Measured | Sequence[Measured] = (),
        *,
        published: Measured | Sequence[Measured | None] = (),
        without_cause: Measured | Sequence[Measured | None] = (),
        scope: str = "",
        cannot_tell: str = "",
        untested: str = "",
    ) -> Record:
        """Judge one claim, replacing an earlier judgement of this run, and write the file.

        Args:
            claim_id: one of this study's.
            parts: what each part of the claim came to, in the order of `book/claims.yml`.
            published: the same by the source's own recipe; None for a part that recipe does not have.
            without_cause: the published recipe with the claim's other cause (`artefact`) taken away.
            scope: what it was tested on, where that is not what the claim was made of.
            cannot_tell: why the published number says nothing about the claim, where it does not.
            untested: why this run cannot test it: scale, data or seeds that it lacks.
        Raises:
            ClaimError: not this study's claim; parts that are not the claim's; too few seeds or a value that is not
                finite, in a run that settles something.
        """
        if claim_id not in self.claims:
            raise ClaimError(f"{claim_id}: no claim of {self.study}; its claims: {', '.join(self.claims)}")
        claim = self.claims[claim_id]
        if not untested and not self.settled:
            untested = f"the profile {self.profile} settles nothing"
        measured = [[p] if isinstance(p, Measured) else list(p) for p in (parts, published, without_cause)]
        found: dict[str, Any] = {}
        if measured[0]:
            try:
                found = _found(*conclude(claim, *measured))
            except TooFew:
                if not untested:
                    raise
        elif not untested:
            raise ClaimError(f"{claim_id}: needs what its parts came to, or untested=\"why not\"")
        found |= {"word": UNTESTED, "deciding": 0} if untested else {}
        evidence = f"cannot tell: {cannot_tell}" if cannot_tell else "sound"
        record = Record(claim_id=claim_id, rule=claim.rule, scope=scope, evidence=evidence, reason=untested, **found)
        self.records[claim_id] = record
        records = [r.model_dump(mode="json") for r in self.records.values()]
        files.write_json(self.path, {"study": self.study, "label": self.label, "records": records})
        return record

    def table(self) -> pd.DataFrame:
        """The judgements of this run for a reader, one row per claim, with the part that decides."""
        rows = {id: _row(claim, self.records[id]) for id, claim in self.claims.items() if id in self.records}
        columns = ["verdict", "decided by", "ours", "over its null", "n", "published recipe", "remark"]
        return _Table(pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("claim"))


class _Table(pd.DataFrame):
    """A table whose texts are shown whole."""

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return pd.DataFrame(self)._repr_html_()


def _row(claim: Claim, record: Record) -> dict[str, Any]:
    part, recipe = record.part, record.published
    numbers = {"decided by": claim.parts[0].name, "ours": "", "over its null": "", "n": ""}
    if part:
        numbers = {"decided by": part.name, "ours": part.estimate or part.word, "over its null": part.excess or "",
                   "n": part.n or ""}
    remark = "; ".join(filter(None, [record.remark, record.scope, record.evidence.removeprefix("sound")]))
    told = recipe.word if recipe.estimate is None else f"{recipe.word}: {recipe.estimate}"
    told += f" ({recipe.part})" * (part is not None and recipe.part not in ("", part.name))
    numbers |= {name: str(numbers[name]) for name in ("ours", "over its null")}
    return {"verdict": record.word, **numbers, "published recipe": told, "remark": remark}


def number(value: float) -> str:
    """Three significant digits; no exponent for anything a reader would not write with one."""
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e7 else f"{value:.3g}"


def _found(word: str, verdict: Verdict, recipe: Verdict | None) -> dict[str, Any]:
    decided = verdict.deciding
    published = Recipe(word=NOT_RUN)
    if recipe is not None:
        shown = recipe.deciding
        published = Recipe(word=recipe.as_recipe, part=shown.part.name, estimate=_estimate(shown.estimate))
    return {"word": word, "parts": [_part(finding) for finding in verdict.findings],
            "deciding": verdict.findings.index(decided), "published": published}


def _part(finding: Finding) -> PartRecord:
    identity = finding.part.kind == "identity"
    return PartRecord(
        name=finding.part.name, unit=finding.part.unit, word=finding.word, estimate=_estimate(finding.estimate),
        excess=_estimate(finding.excess), n=None if identity else finding.measured.n, detectable=finding.detectable,
        deciding_n=finding.deciding_n, printed=finding.printed)


def _estimate(interval: Any) -> Estimate | None:
    return None if interval is None else Estimate(**dict(zip(("value", "low", "high"), interval, strict=True)))


def results_path(study: str, label: str) -> Path:
    """Where the verdicts of `study` under `label` are written."""
    return files.BUILD / "results" / label / f"{study}.json"


def results(label: str) -> dict[str, Record]:
    """Every record of the runs under `label` by claim id, in the order of `book/claims.yml`.

    Raises:
        ClaimError: a file is not one of records, or holds another study's claim.
    """
    return in_order(record for study in claims.STUDIES for record in read(results_path(study, label), study))


def read(path: Path, study: str) -> list[Record]:
    """The records in a file of `study`; none where there is no file."""
    if not path.is_file():
        return []
    known = claims.of_study(study)
    try:
        records = [Record.model_validate(r) for r in files.read_json(path)["records"]]
    except (ValueError, KeyError, TypeError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise ClaimError(f"{path}: not a file of records ({what}); delete it and run {study} again") from None
    if strange := [r.claim_id for r in records if r.claim_id not in known]:
        raise ClaimError(f"{path}: {', '.join(strange)}: no claim of {study} in book/claims.yml; run it again")
    return records


def in_order(records: Iterable[Record]) -> dict[str, Record]:
    """Records by claim id, in the order of `book/claims.yml`."""
    found = {record.claim_id: record for record in records}
    return {id: found[id] for id in claims.load() if id in found}
