"""The claims as a reader meets them: the table of claims, the front page's summary, the pill beside a claim.

All of it is Markdown with HTML in it, so that references and citations are resolved like those of any page.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lib.press import claims, kept, ledger
from lib.press.claims import Claim, Part
from lib.press.ledger import Record, number
from lib.press.pages import DEFAULT_PROFILE, Page
from lib.press.verdicts import UNTESTED

NO_RUN = "no run yet"
GROUPS = {
    "survived": ("the effect is there, in the claimed size or another", ("reproduced", "in part")),
    "fell": ("nothing is there, the opposite is, or something else makes the number",
             ("artefact", "absent", "contradicted")),
    "open": ("what was run cannot say, or the longer profile says something else", ("inconclusive", UNTESTED, NO_RUN)),
}
ANSWERS = {"reproduced": "yes", "in part": "in part", "artefact": "no", "absent": "no", "contradicted": "no"}
"""What a verdict answers to a question; the other words answer nothing."""
KEPT = {"fresh_seeds": "fresh seeds", "other_model": "another model", "long": "long", "full": "full"}
"""Labels of kept records, and their names in the table."""
COMBINE = {"all": "Every part must hold.", "each": "Each part is a place where it should hold.",
           "any": "One part that holds is enough."}
COLUMNS = ("Claim", "Verdict", "Statement", "Printed", "Found here", "Published recipe")


def badge(word: str) -> str:
    """A verdict word as a coloured label; the stylesheet knows the classes `verdict verdict-<slug>`."""
    return f'<span class="{_classes(word)}">{word}</span>'


def pill(claim_id: str, word: str, page: str) -> str:
    """A verdict word on `page` that leads to its claim's page."""
    href = f"{'../' * page.count('/')}claims/{claim_id}.html"
    return f'<a class="{_classes(word)}" href="{href}" title="{claim_id}: its rule, history and data">{word}</a>'


def _classes(word: str) -> str:
    if word not in (*ledger.VERDICTS, NO_RUN):
        raise claims.ClaimError(f"unknown verdict {word!r}, expected one of {', '.join(ledger.VERDICTS)}")
    return f"verdict verdict-{word.replace(' ', '-')}"


def records(label: str) -> dict[str, Record]:
    """What the runs under `label` found, by claim id; of a study without that profile, what stands in for them."""
    standing = {study: Page(study).standing(label) for study in claims.STUDIES}
    found = {name: ledger.results(name) for name in set(standing.values())}
    return {id: found[standing[claim.study]][id] for id, claim in claims.load().items()
            if id in found[standing[claim.study]]}


def words(label: str) -> dict[str, str]:
    """The word of every claim under `label`, by id."""
    found = records(label)
    return {id: found[id].word if id in found else NO_RUN for id in claims.load()}


def moved(label: str) -> dict[str, str]:
    """What the kept `long` says otherwise than the runs under `label`, the default profile, by claim: word or sign."""
    here, long = records(label), _standing("long") if label == DEFAULT_PROFILE else {}
    changes = {id: _change(here[id], record) for id, record in long.items() if id in here}
    signed = {"word": "", "sign": ", of the other sign"}
    return {id: long[id].word + signed[change] for id, change in changes.items() if change}


def _change(here: Record, other: Record) -> str:
    """What another run that judged the claim says otherwise: "word", "sign", or nothing.

    A sign is changed where the same part stands for the claim and its two intervals lie on opposite sides of 0.
    """
    if UNTESTED in (here.word, other.word):
        return ""
    if here.word != other.word:
        return "word"
    ours, theirs = (record.part.estimate for record in (here, other))
    if here.deciding != other.deciding or ours is None or theirs is None:
        return ""
    return "sign" if ours.low > 0 > theirs.high or theirs.low > 0 > ours.high else ""


def _standing(label: str) -> dict[str, Record]:
    """Records kept under a label whose rules and parameters are as they were."""
    return {id: record for id, record in kept.kept(label).items() if not record.stale}


def summary(label: str) -> str:
    """What became of the claims, for the front page: survived, fell, open; questions apart; what chance would do."""
    known, told = claims.load(), words(label)
    other = {id: f"{told[id]} here, {word} at *long*" for id, word in moved(label).items()}
    asked = {id: other.get(id, ANSWERS.get(word, word)) for id, word in told.items() if known[id].origin == "question"}
    stated = {id: other.get(id, word) for id, word in told.items() if id not in asked}
    lines = [_group(name, *GROUPS[name], stated) for name in GROUPS]
    if asked:
        answers = ", ".join(f"{_link(id)} {answer}" for id, answer in asked.items())
        lines.append(f"- **{_count(len(asked), 'question')}** that the sources ask and leave open: {answers}")
    judged = sum(word not in (UNTESTED, NO_RUN) for word in told.values())
    if judged:
        shown = sum(word in GROUPS["survived"][1] for word in told.values())
        lines.append(f"\nOf {judged} that were judged, {shown} read *reproduced* or *in part*. Were none true, chance "
                     f"alone would make at most {0.05 * judged:.1f} read so on average (5\u00a0% of those judged, "
                     "where seeds scatter evenly).")
        lines += [line for name in ("fresh_seeds", "other_model") if name != label for line in _again(told, name)]
    amended = sum(claim.amended > 0 for claim in known.values())
    of = f"{amended} of {_count(len(known), 'claim')}"
    lines.append(f"\nThe rules of {of} were changed after they were first written.")
    if not (kept.kept("full") or ledger.results("full")):
        lines.append("No study has been run at *full*, the profile for a GPU.")
    return "\n".join(lines) + "\n"


def _again(told: Mapping[str, str], label: str) -> list[str]:
    """How many words of a run stand in what is kept under a label, and which do not."""
    there = {id: record.word for id, record in _standing(label).items()}
    both = [id for id, word in told.items() if id in there and UNTESTED not in (word, there[id]) and word != NO_RUN]
    other = [f"{_link(id)} {there[id]}" for id in both if there[id] != told[id]]
    if not both:
        return []
    named = f"; the others read: {', '.join(other)}" if other else ""
    return [f"\nOn {KEPT[label]} {len(both) - len(other)} of {len(both)} keep their word{named}."]


def _group(name: str, said: str, group: tuple[str, ...], told: Mapping[str, str]) -> str:
    """A line of the summary; what is no verdict word belongs to the open ones, and follows its claim."""
    strange = {id: word for id, word in told.items() if name == "open" and word not in (*ledger.VERDICTS, NO_RUN)}
    own = {word: [_link(id) for id, w in told.items() if w == word] for word in group}
    each = [f"<br>{badge(word)} {len(links)}: {' '.join(links)}" for word, links in own.items() if links]
    each += [f"<br>{_link(id)} {word}" for id, word in strange.items()]
    return f"- **{sum(map(len, own.values())) + len(strange)} {name}**: {said}" + "".join(each)


def _link(claim_id: str) -> str:
    return f'<a href="claims/{claim_id}.html">{claim_id}</a>'


def table(label: str, chapters: Mapping[str, str]) -> str:
    """The table of claims, one for each project.

    Args:
        label: whose records to show.
        chapters: the text of each study's chapter that the site has.
    """
    known, others = claims.load(), _others(label)
    amended = sum(claim.amended > 0 for claim in known.values())
    beside = ", ".join(f"{KEPT[name]} {len(found) or 'none'}" for name, found in others.items())
    blocks = [f"{_count(len(known), 'claim')}. The rules of {amended} were changed after they were first written; "
              f"behind *rule, history and data* stands when, and why. Claims kept from other runs: {beside}."]
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    for letters, group in rows(label, chapters).items():
        project = claims.PROJECTS[letters]
        blocks += [f"### {letters}: {project.letters}", f"From [{text(project.name)}]({project.url}).",
                   f'<table class="claims">\n<thead><tr>{head}</tr></thead>\n<tbody>', *(row.html() for row in group),
                   "</tbody></table>"]
    return "\n\n".join(blocks) + "\n"


def rows(label: str, chapters: Mapping[str, str] | None = None) -> dict[str, list[Row]]:
    """The claims by the letters of their project, with what was found here and what is kept of other runs."""
    here, others, found = records(label), _others(label), {}
    for id, claim in claims.load().items():
        own = {name: records[id] for name, records in others.items() if id in records}
        row = Row(claim, here.get(id), own, label, (chapters or {}).get(claim.study))
        found.setdefault(id.partition("-")[0], []).append(row)
    return {letters: found[letters] for letters in claims.PROJECTS if letters in found}


def _others(label: str) -> dict[str, dict[str, Record]]:
    return {name: kept.kept(name) for name in KEPT if name != label}


@dataclass(frozen=True)
class Row:
    """One claim in the table; a method for each cell gives its lines."""

    claim: Claim
    here: Record | None
    kept: Mapping[str, Record]
    label: str
    chapter: str | None

    def html(self) -> str:
        cells = (self.name(), self.verdict(), self.statement(), self.printed(), self.found(), self.recipe())
        return "\n".join([f'<tr id="{self.claim.id}">', *(
            f'<td data-label="{column}">\n\n' + "\n\n".join(filter(None, lines)) + "\n\n</td>"
            for column, lines in zip(COLUMNS, cells, strict=True)), "</tr>"])

    @property
    def word(self) -> str:
        return self.here.word if self.here else NO_RUN

    @property
    def shown(self) -> tuple[str, Record | None]:
        """Where the row's numbers come from, empty for here, and their record: a kept one that decides what here
        does not."""
        others = [(KEPT[name], record) for name, record in self.kept.items()
                  if record.part and record.word != UNTESTED and not self.is_stale(record)]
        return others[-1] if others and self.word in (UNTESTED, NO_RUN) else ("", self.here)

    def name(self) -> list[str]:
        id, label = self.claim.id, f"claim-{self.claim.id.lower()}"
        if self.chapter is None:
            return [f"**{id}**"]
        section = f"({label})=" in self.chapter
        return [f"**{{ref}}`{id} <{label}>`**" if section else f"**{{doc}}`{id} </studies/{self.claim.study}>`**"]

    def verdict(self) -> list[str]:
        standing, lines = Page(self.claim.study).standing(self.label), [badge(self.word)]
        if standing != self.label:
            lines.append(_quiet(f"{standing}; it has no profile {self.label}"))
        if self.here and self.is_stale(self.here):
            lines.append(_quiet("stale: its rule has changed since this run"))
        for name, record in self.kept.items():
            decides = record is self.shown[1]
            change = _change(self.here, record) if self.here else ""
            other = "word" if self.word not in (NO_RUN, record.word) else change
            differs = f", another {other} than here" * (not decides and other != "")
            moves = name == "long" and self.label == DEFAULT_PROFILE and not self.is_stale(record)
            differs += ": open" * (moves and change != "")
            told = badge(record.word) if decides else f"{record.word}{differs}"
            lines.append(_quiet(f"{KEPT[name]}: {told}{', stale' * self.is_stale(record)}"))
        fresh = self.kept.get("fresh_seeds")
        confirmed = fresh is not None and fresh.word != UNTESTED and not self.is_stale(fresh)
        exploratory = self.word not in (NO_RUN, UNTESTED) and not confirmed
        return [*lines, _quiet("exploratory") if exploratory else ""]

    def is_stale(self, record: Record) -> bool:
        return record.outdated or record.rule != self.claim.rule  # `Record.stale`, the file of claims read but once

    def statement(self) -> list[str]:
        chip = f' <span class="amended">amended {self.claim.amended} ×</span>' if self.claim.amended else ""
        link = f"{{doc}}`rule, history and data </claims/{self.claim.id}>`{chip}"
        return [text(self.claim.statement), *map(_quiet, self.notes()), _quiet(link)]

    def notes(self) -> list[str]:
        """What there is to say beside the word: an answer, a reason, a scope, what the published number can tell."""
        place, record = self.shown
        answer = ANSWERS.get(record.word) if record else None
        notes = {"question": f"A question; the answer: {answer}." if answer else "A question, not answered yet.",
                 "hypothesis": "A hypothesis of its source."}.get(self.claim.origin, "")
        notes = [notes, _sentence(self.here.reason) if self.here else ""]
        if record and record.word != UNTESTED:
            notes.append(_sentence(f"{place}: {record.remark}" if place and record.remark else record.remark))
        if record:
            notes.append(_sentence(f"scope: {record.scope}") if record.scope else "")
            notes.append("" if record.evidence == "sound" else _sentence(f"the published number {record.evidence}"))
        return [note for note in notes if note]

    def rule(self) -> list[str]:
        """The rule with its margins, the source and every change; a paragraph each."""
        claim, (key, _, place) = self.claim, self.claim.source.partition(", ")
        lines = [COMBINE[claim.combine] if len(claim.parts) > 1 else "", "\n".join(map(self._part, claim.parts)),
                 f"Another cause that would make the number: {_sentence(claim.artefact)}" if claim.artefact else "",
                 f"Source: {{cite:t}}`{key}`, {text(place)}.",
                 "Printed besides: " * bool(claim.prints)
                 + "; ".join(f"{text(name)}: {_value(value)}" for name, value in claim.prints.items()),
                 "\n".join(f"- {change.date}: {_sentence(change.change)}" for change in claim.history)]
        return [line for line in lines if line]

    def _part(self, part: Part) -> str:
        said = [f"- **{text(part.name)}** ({_kind(part)}): {_sentence(part.estimate, False)}"]
        said += [f"Its null: {_sentence('; '.join(part.nulls), False)}"] if part.nulls else []
        if part.margin:
            said.append(f"Margin {number(part.margin)} {text(part.unit)}: {_sentence(part.why, False)}")
        said += [f"Printed: {figure(part)}."] if part.printed else []
        return " ".join(said)

    def printed(self) -> list[str]:
        record = self.shown[1]
        decides = record.part.name if record and record.part else ""
        first = next((part for part in self.claim.parts if part.name == decides), self.claim.parts[0])
        several = len(self.claim.parts) > 1
        figures = [f"{figure(part)} {_quiet(text(part.name)) * several}"
                   for part in sorted(self.claim.parts, key=lambda part: part is not first) if part.printed]
        figures += [f"{_quiet(f'{text(name)}:')} {_value(value)}" for name, value in self.claim.prints.items()]
        more = [_quiet(f"and {len(figures) - 3} more")] if len(figures) > 3 else []
        return [*figures[:3], *more] or [_quiet("no number")]

    def found(self) -> list[str]:
        place, record = self.shown
        if record is None or record.part is None:
            return ["–"]
        part = record.part
        lines = [_quiet(place and f"{place}:"), _quiet(text(part.name)) if len(record.parts) > 1 else ""]
        if part.estimate is None:
            return [*lines, "holds" if part.word == "reproduced" else "does not hold", _quiet("by algebra")]
        margin = next((f"; margin {number(p.margin)}" for p in self.claim.parts if p.name == part.name), "")
        n = f", n\u00a0=\u00a0{part.n}" if part.n else ""
        return [*lines, f"{text(' '.join(filter(None, (str(part.estimate), part.unit))))}{n}",
                _quiet(f"over its null {text(str(part.excess))}{margin}")]

    def recipe(self) -> list[str]:
        record = self.shown[1]
        if record is None:
            return ["–"]
        found = record.published
        other = found.part and record.part and found.part != record.part.name
        return [found.word, _quiet(text(found.part)) if other else "",
                _quiet(text(str(found.estimate))) if found.estimate else ""]


def _kind(part: Part) -> str:
    than = f"{part.direction} than its null"
    if part.kind == "range":
        return f"a range, {number(part.range[0])} to {number(part.range[1])}, and {than}"
    if part.kind == "absence":
        return f"no {than}" if part.direction else "no other than its null"
    return "by algebra" if part.kind == "identity" else than


def figure(part: Part) -> str:
    """The printed figure of a part, with its unit; there must be one."""
    printed, unit = part.printed, f" {text(part.unit)}" if part.unit else ""
    span = "" if printed.low is None else f"{number(printed.low)} to {number(printed.high)}"
    value = span if printed.value is None else number(printed.value) + (f" ({span})" if span else "")
    return f"{'at least ' * printed.at_least}{value}{unit}"


def _value(value: float | tuple[float, ...] | str) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return text(value) if isinstance(value, str) else ", ".join(map(number, values))


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'s' * (n != 1)}"


def _sentence(said: str, capital: bool = True) -> str:
    told = f"{said[:1].upper()}{said[1:]}" if capital else said
    return text(told) + "." * (said != "" and not said.endswith((".", "?", "!")))


def _quiet(said: str) -> str:
    return f'<span class="quiet">{said}</span>' if said else ""


def text(said: str) -> str:
    """`said` on one line, with Markdown's special characters made plain."""
    return "".join(f"\\{c}" if c in "\\|<>*_`$[]{}~^&" else c for c in " ".join(said.split()))
