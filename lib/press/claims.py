"""The claims the book tests: `book/claims.yml` as checked objects.

A claim is one or more parts. A part says what is estimated, against which nulls, and how large a difference would
matter (its margin); `lib.press.verdicts` turns measured values into a word.
"""
from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lib import files

STUDIES = (
    "superposition_phases",
    "sparse_coders_recovery",
    "incidental_polysemanticity",
    "topoloss_hypotheses",
    "spd_causal_graphs",
    "shapes_and_colours",
    "transformer_saes",
    "sanity_checks",
)
"""Slugs of the eight studies, in the order of the book."""

SETTLING = ("quick", "long", "full", "paper", "other_model")
"""Profiles whose runs judge claims. Smoke tries every line; a file of any other name is its reader's own."""

class Project(NamedTuple):
    """Where claims come from: what the letters before their numbers stand for, and who made them, where."""

    letters: str
    name: str
    url: str


_REPORT = ("Progress report on component relationships, January 2026", "https://github.com/goodfire-ai/spd")

PROJECTS = {
    "SP": Project("superposition", "Can sparse autoencoders disentangle superposed features?",
                  "https://github.com/Ilube-C/Can-SAEs-disentangle-superposed-features"),
    "AF": Project("autoencoders and frequency", "Exploring sparse autoencoders for mechanistic interpretability",
                  "https://github.com/ashioyajotham/exploring_saes"),
    "SV": Project("variants of sparse autoencoders", *_REPORT),
    "IP": Project("incidental polysemanticity", "Taming incidental polysemanticity in toy models",
                  "https://github.com/stanleyngugi/taming_polysemanticity"),
    "TL": Project("topographic loss", "Topographic training concentrates causal circuits without improving neuron "
                  "monosemanticity", "https://github.com/IvLabs/toposae"),
    "PD": Project("parameter decomposition", *_REPORT),
    "SC": Project("sanity checks", "Sanity checks for sparse autoencoders: do SAEs beat random baselines?",
                  "https://arxiv.org/abs/2602.14111"),
}
"""The source of a claim, by the letters before its number."""

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]


class ClaimError(ValueError):
    """A claim, a measured part, a record or one of their files is not what it must be."""


class Strict(BaseModel):
    """Plain fields, none unknown, none changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Printed(Strict):
    """A figure its source prints, in the unit of the part's estimate: a value, a range, or both."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    at_least: bool = False
    """Whether the claim is "at least so much"."""
    against: float = 0.0
    """The printed value of the null, from which the printed effect is counted."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is None):
            raise ValueError("printed needs a value, or low and high together")
        if self.low is not None and self.low > self.high:
            raise ValueError(f"printed: low {self.low:g} is above high {self.high:g}")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The printed range; of a single value, that value twice."""
        return (self.value, self.value) if self.low is None else (self.low, self.high)

    @property
    def effect(self) -> float:
        """Size of the printed effect, the least of a range."""
        low, high = self.ends
        return 0.0 if low <= self.against <= high else min(abs(end - self.against) for end in self.ends)


class Part(Strict):
    """One thing that must be so for a claim to hold."""

    name: Text
    """A few words, as in "loss over S = 0.80"."""
    kind: Literal["effect", "range", "absence", "identity"]
    direction: Literal["more", "less"] | None = None
    """The claimed side of the null. Of an absence: "no more", "no less" than the null; without, neither."""
    estimate: Text
    unit: str = ""
    nulls: tuple[Text, ...] = ()
    margin: float | None = Field(None, gt=0)
    why: str = ""
    """Why a difference of this size, and no smaller one, would matter."""
    range: tuple[float, float] | None = None
    printed: Printed | None = None

    @model_validator(mode="after")
    def _decidable(self) -> Self:
        if self.kind == "identity":
            if (self.nulls, self.margin, self.range, self.direction, self.printed) != ((), None, None, None, None):
                raise ValueError(f"{self.name}: an identity has no null, direction, range, margin or printed figure")
            return self
        if self.margin is None or not self.why.strip():
            raise ValueError(f"{self.name}: {self.kind} needs a margin and why it is that")
        if not self.nulls or len(set(self.nulls)) < len(self.nulls):
            raise ValueError(f"{self.name}: {self.kind} needs a null, and no null twice")
        if (self.kind == "range") != (self.range is not None):
            raise ValueError(f"{self.name}: a range, and nothing else, says its range")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"{self.name}: range [{self.range[0]:g}, {self.range[1]:g}] is empty")
        if self.range is not None and self.margin >= self.range[1] - self.range[0]:
            raise ValueError(f"{self.name}: margin {self.margin:g} is as wide as the range")
        if self.kind != "absence" and self.direction is None:
            raise ValueError(f"{self.name}: {self.kind} needs a direction, more or less")
        if self.kind == "effect" and self.printed is not None and self.margin >= self.printed.effect:
            raise ValueError(f"{self.name}: margin {self.margin:g} is as large as the printed effect "
                             f"{self.printed.effect:g}: nothing could be absent and the printed figure true")
        if self.kind == "effect" and self.printed is not None:
            if (self.printed.ends[0] < self.printed.against) != (self.direction == "less"):
                raise ValueError(f"{self.name}: the printed figure lies on the other side of its null than is claimed")
        return self


class Change(Strict):
    """A change of a deciding field of a claim."""

    date: datetime.date
    change: Text


class Claim(Strict):
    """One published claim and what would settle it."""

    id: str = Field(pattern=rf"^({'|'.join(PROJECTS)})-[1-9]\d*$")
    study: Literal[STUDIES]
    source: Text
    """Citation key, a comma, and the place in that source."""
    origin: Literal["claim", "hypothesis", "question"]
    statement: Text
    prints: dict[str, float | tuple[float, ...] | str] = {}
    """Figures of the source that no part is compared with."""
    parts: tuple[Part, ...] = Field(min_length=1)
    combine: Literal["all", "each", "any"] = "all"
    artefact: str = ""
    """The other cause that would make the published number, where there is one."""
    history: tuple[Change, ...] = ()

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [part.name for part in self.parts]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two parts are called {', '.join(twice)}")
        return self

    def deciding(self) -> dict[str, Any]:
        """What the verdict follows from, prose apart: a comma in a statement leaves it as it is."""
        fields = {"name", "kind", "direction", "unit", "margin", "range", "printed"}
        parts = [{**part.model_dump(include=fields), "nulls": len(part.nulls)} for part in self.parts]
        return {"id": self.id, "combine": self.combine, "artefact": bool(self.artefact.strip()), "parts": parts}

    @property
    def amended(self) -> int:
        """How often a deciding field was changed after the claim was first written."""
        return sum(not change.change.startswith("Added") for change in self.history)

    @property
    def rule(self) -> str:
        """Digest of the deciding fields."""
        return files.digest(self.deciding())


def load(path: Path | None = None) -> dict[str, Claim]:
    """Every claim by id, in the order of the file (`book/claims.yml` unless `path` is given).

    Raises:
        ClaimError: unreadable YAML, a field that is unknown, missing or not what it must be, a duplicate id; names the
            file, the claim and the field, one line each.
    """
    path = path or files.ROOT / "book" / "claims.yml"
    try:
        entries = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClaimError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        raise ClaimError(f"{path}: expected a list of claims, got {type(entries).__name__}")
    claims: dict[str, Claim] = {}
    for place, entry in enumerate(entries, start=1):
        name = entry.get("id", f"entry {place}") if isinstance(entry, dict) else f"entry {place}"
        try:
            # In JSON mode a list is taken for a tuple and a date as text, all else stays strict.
            claim = Claim.model_validate_json(json.dumps(entry, default=str), strict=True)
        except ValidationError as error:
            told = [_problem(e) for e in error.errors() if e["type"] != "too_short" or error.error_count() == 1]
            raise ClaimError("\n".join(f"{path}: {name}: {problem}" for problem in told)) from None
        if claim.id in claims:
            raise ClaimError(f"{path}: {claim.id}: the id stands twice")
        claims[claim.id] = claim
    return claims


def of_study(study: str) -> dict[str, Claim]:
    """The claims that `study` decides, by id."""
    return {id: claim for id, claim in load().items() if claim.study == study}


class _OnceLoader(yaml.SafeLoader):
    """SafeLoader that refuses a mapping with the same key twice; what a merge (`<<`) brings may be replaced."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [] if hasattr(node, "merged") else [key.value for key, _ in node.value]
        if twice := next((key for key, _ in node.value if keys.count(key.value) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"key {twice.value!r} is given twice", twice.start_mark)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        node.merged = True  # from here on its own keys stand beside those they replace
        super().flatten_mapping(node)


def _problem(error: Any) -> str:
    where = ".".join(str(place) for place in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
