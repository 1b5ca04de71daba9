"""All claims in one picture: what was found of each over its null, in units of its margin, beside what was printed.

HTML and CSS alone: a list of links that reads as one without the stylesheet, and loses its marks on a phone.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import asinh

from lib.press import claims
from lib.press.claims import Part
from lib.press.ledger import PartRecord, number
from lib.press.site.claims_table import Row, badge, figure, rows

EDGE = 30.0
"""Margins at either end of the scale, which is asinh: straight near 0, logarithmic further out."""
TICKS = (-10, -1, 0, 1, 10)


def picture(label: str) -> str:
    """Every claim a row: its statement, its marks, its word; hover or focus tells the numbers, a click leads to it."""
    return drawn({claims.PROJECTS[letters].letters: group for letters, group in rows(label).items()})


def drawn(groups: Mapping[str, Sequence[Row]], up: str = "") -> str:
    """Rows under the names of their groups; `up` leads from the page to the site's root."""
    scale = "".join(f'<span style="left:{place(tick):.1f}%">{number(tick)}</span>' for tick in TICKS)
    lines = [f'<div class="claims-picture" style="--one: {place(1) - 50:.1f}%">',
             '<div class="scale" aria-hidden="true"><span>the opposite</span><span class="marks">', scale,
             "</span><span>as claimed</span></div>"]
    for name, group in groups.items():
        lines += [f'<p class="project">{escape(name)}</p>'] * bool(name)
        lines += ["<ul>", *(_row(row, up) for row in group), "</ul>"]
    return "\n".join([*lines, "</div>"]) + "\n"


def place(margins: float) -> float:
    """Where so many margins over the null lie on the scale, in per cent of its width."""
    return 50 + 50 * asinh(max(-EDGE, min(EDGE, margins))) / asinh(EDGE)


def _row(row: Row, up: str) -> str:
    claim, (where, record) = row.claim, row.shown
    found = record.part if record else None
    part = next((p for p in claim.parts if found and p.name == found.name), claim.parts[0])
    drawn = found is not None and found.excess is not None and part.margin is not None
    marks = _marks(part, found, where) if drawn else ""
    told = _told(part, found, where) if found and found.estimate else record.reason if record else ""
    word = f"{badge(record.word)} <small>{where}</small>" if where else badge(row.word)
    return (f'<li><a href="{up}claims/{claim.id}.html"><b>{claim.id}</b>'
            f'<span class="says">{escape(claim.statement)}</span>'
            f'<span class="marks" aria-hidden="true">{marks}</span><span class="word">{word}</span>'
            + f'<span class="told">{escape(told)}</span>' * bool(told) + "</a></li>")


def _marks(part: Part, found: PartRecord, where: str) -> str:
    low, middle, high = (place(v / part.margin) for v in (found.excess.low, found.excess.value, found.excess.high))
    past = " past" * (abs(found.excess.value) > EDGE * part.margin)
    marks = [f'<i class="interval" style="left:{low:.1f}%;width:{max(high - low, 0.4):.1f}%"></i>',
             f'<i class="found{past}{" kept" * bool(where)}" style="left:{middle:.1f}%"></i>']
    if part.printed is not None:
        ends = [place(excess / part.margin) for excess in _printed(part, found)]
        marks.append(f'<i class="printed" style="left:{min(ends):.1f}%;width:{max(ends) - min(ends):.1f}%"></i>')
    return "".join(marks)


def _printed(part: Part, found: PartRecord) -> list[float]:
    """How far the ends of the printed figure lie over the printed null, a range's over the null found, as claimed."""
    sign = -1 if part.direction == "less" else 1
    null = found.estimate.value - sign * found.excess.value if part.kind == "range" else part.printed.against
    return [sign * (end - null) for end in part.printed.ends]


def _told(part: Part, found: PartRecord, where: str) -> str:
    n = f", n = {found.n}" if found.n else ""
    said = [f"{where}: " * bool(where) + f"{part.name}: {found.estimate} {found.unit}{n}"]
    if part.margin is not None:
        said.append(f"over its null {found.excess}, margin {number(part.margin)}")
    if part.printed is not None:
        said.append(f"printed {figure(part)}")
    return "; ".join(said)
