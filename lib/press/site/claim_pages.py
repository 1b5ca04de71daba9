"""A page for each claim: what every run says of it, its rule with its history, its data, how to cite it."""
from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from html import escape

from lib.press import claims
from lib.press.ledger import PartRecord, Record, number
from lib.press.site import claims_picture
from lib.press.site.claims_table import KEPT, Row, badge, figure, rows, text
from lib.press.verdicts import UNTESTED

FIELDS = ("run", "claim", "verdict", "part", "word", "n", "unit", "value", "low", "high", "over_null", "over_null_low",
          "over_null_high", "margin", "printed_low", "printed_high")


def pages(label: str, chapters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every file of the claims' pages under the site's source, and its text: Markdown, and data under `_static`.

    Args: as `claims_table.table`.
    """
    for group in rows(label, chapters).values():
        for row in group:
            yield f"claims/{row.claim.id}.md", page(row)
            yield f"_static/claims/{row.claim.id}.json", _json(row)
            yield f"_static/claims/{row.claim.id}.csv", _csv(row)


def page(row: Row) -> str:
    """One claim's page as Markdown."""
    claim, project = row.claim, claims.PROJECTS[row.claim.id.partition("-")[0]]
    data = f"../_static/claims/{claim.id}"
    blocks = [
        "---\norphan: true\nhtml_theme.sidebar_secondary.remove: true\n---",
        f"# {claim.id}: what became of it", f"**{text(claim.statement)}**", *row.notes(),
        f"From [{text(project.name)}]({project.url}); " + f"argued at {row.name()[0]}; " * (row.chapter is not None)
        + "{doc}`all claims </claims>`.",
        claims_picture.drawn({"": [row]}, up="../"),
        "## What each run found", _found(row), *_undecided(row),
        "## The rule, and when it changed", *row.rule(),
        "## Its data, and how to cite it",
        f"{{.d-print-none}}\nEvery number of this page: [JSON]({data}.json), [CSV]({data}.csv).",
        f"> The superposition book, claim {claim.id}, rule {claim.rule[:8]}: "
        + "; ".join(f"{name} {record.word}" for name, record in _runs(row)) + ".",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _runs(row: Row) -> list[tuple[str, Record]]:
    """The runs that say something of a claim, by the name a reader knows them by: here first."""
    here = [] if row.here is None else [(row.label, row.here)]
    return here + [(KEPT[name], record) for name, record in row.kept.items()]


def _found(row: Row) -> str:
    runs = _runs(row)
    if not runs:
        return "No run yet."
    head = "".join(f"<th>{name}{', stale' * row.is_stale(record)}</th>" for name, record in runs)
    words = "".join(f"<td>{badge(record.word)}</td>" for _, record in runs)
    lines = [f"<tr><th>verdict</th><td></td>{words}</tr>"]
    for part in row.claim.parts:
        found = [next((p for p in record.parts if p.name == part.name), None) for _, record in runs]
        told = [_part(each, record.word != UNTESTED) for each, (_, record) in zip(found, runs, strict=True)]
        printed = escape(figure(part)) if part.printed else ""
        cells = "".join(f"<td>{cell}</td>" for cell in (printed, *told))
        lines.append(f"<tr><th>{escape(part.name)}</th>{cells}</tr>")
    return "\n".join(['<table class="claim-runs">', f"<thead><tr><td></td><th>printed</th>{head}</tr></thead>",
                      "<tbody>", *lines, "</tbody>", "</table>"])


def _part(found: PartRecord | None, judged: bool) -> str:
    if found is None:
        return "–"
    lines = [found.word] * judged
    if found.estimate is not None:
        n = f", n\u00a0=\u00a0{found.n}" if found.n else ""
        lines.append(escape(f"{found.estimate} {found.unit}") + n)
        lines.append(f'<span class="quiet">over its null {found.excess}</span>')
    return "<br>".join(lines) or "by algebra"


def _undecided(row: Row) -> list[str]:
    """What would change the word: the smallest effect that the seeds show, and the seeds that the margin needs."""
    record = row.shown[1]
    part = record.part if record else None
    rule = next((p for p in row.claim.parts if part and p.name == part.name), None)
    if rule is None or rule.margin is None or part.detectable is None:
        return []
    edges = {"effect": "0 and the margin on either side", "absence": "the margin on either side",
             "range": "the ends of the range and its null, each with the margin"}[rule.kind]
    needed = f"{part.deciding_n:,} seeds" if part.deciding_n else "no number of seeds"
    return [f"**What would change the word.** Of {text(part.name)}, {part.n} seeds show an effect of "
            f"{number(part.detectable)} {text(part.unit)} in four of five tries; one as small as the margin, "
            f"{number(rule.margin)}, needs {needed}. Its interval over the null runs from {number(part.excess.low)} to "
            f"{number(part.excess.high)}; the edges at which the word changes are {edges}."]


def _json(row: Row) -> str:
    runs = {name: record.model_dump(mode="json") for name, record in _runs(row)}
    return json.dumps({"claim": row.claim.model_dump(mode="json"), "runs": runs}, indent=1, ensure_ascii=False) + "\n"


def _csv(row: Row) -> str:
    written = io.StringIO()
    table = csv.DictWriter(written, FIELDS, lineterminator="\n")
    table.writeheader()
    known = {part.name: part for part in row.claim.parts}
    for run, record in _runs(row):
        for found in record.parts:
            part = known.get(found.name)
            line = {"run": run, "claim": row.claim.id, "verdict": record.word, "part": found.name, "word": found.word,
                    "n": found.n, "unit": found.unit, "margin": part and part.margin}
            if found.estimate is not None:
                line |= dict(found.estimate) | {f"over_null{end}": getattr(found.excess, name) for end, name in
                                                (("", "value"), ("_low", "low"), ("_high", "high"))}
            if part and part.printed:
                line |= dict(zip(("printed_low", "printed_high"), part.printed.ends, strict=True))
            table.writerow(line)
    return written.getvalue()
