"""Records kept in the tree: `book/kept/<label>/<study>.json`, a run's verdicts with what they were computed from.

A reader sees them beside those of their own machine: on seeds that no rule had seen when it was written, on
another model, and at profiles that take hours.
"""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib import files, params
from lib.files import digest, read_json, write_json
from lib.press import claims, ledger
from lib.press.claims import SETTLING, ClaimError
from lib.press.ledger import Record
from lib.press.pages import DEFAULT_PROFILE, Page, PageError, Request, made_as

FRESH = "fresh_seeds"
"""Label of the records on fresh seeds."""


class _Run(BaseModel):
    """What a run was: its profile with the values changed, their digest, and facts that a reader may want."""

    model_config = ConfigDict(extra="allow")

    profile: str
    overrides: dict[str, Any]
    values: str
    seconds: float = 0.0


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid")

    study: str
    label: str
    run: _Run
    records: list[Record] = Field(min_length=1)


def keep(page: Page, run: str, label: str) -> Path:
    """Copy the records of the execution under `run` to `book/kept/<label>`; returns their path within the tree.

    Raises:
        PageError: there is no such execution, it no longer stands, it judged nothing, or it is not what the label says:
            one of a profile's name keeps that profile, `fresh_seeds` one that judges with another root seed alone.
    """
    request = made_as(page, run)
    _check_label(request, label)
    changed = request.changed()
    if changed is None:
        raise PageError(f"{page.name} [{run}]: no execution; run: {_command(page, request)}")
    if changed:
        raise PageError(f"{page.name} [{run}]: {', '.join(changed)} changed since; run: {_command(page, request)}")
    book = request.stored()["metadata"]["book"]
    if not (book.get("results") or {}).get("records"):
        raise PageError(f"{page.name} [{run}]: has no verdicts to keep")
    facts = book["facts"]
    made = {name: book[name] for name in ("profile", "overrides", "finished", "seconds", "processor", "broken")}
    made |= {"values": facts["values"], "environment": facts["environment"]}
    made["code"] = digest(facts["code"], facts["library"])  # shown to readers; that it changes makes nothing stale
    path = kept_path(page.name, label)
    write_json(path, {"study": page.name, "label": label, "run": made, "records": book["results"]["records"]})
    return path.relative_to(files.ROOT)


def fresh(page: Page) -> Request:
    """The request that confirms `page` on fresh seeds, at the profile of the kept records or else the default one.

    Its root seed is the next one where a rule has changed since the kept records, so that no rule is judged by seeds
    it may have been written after.
    """
    found, root, profile = _read(page.name, FRESH), 1, DEFAULT_PROFILE
    if found is not None:
        profile, root = found.run.profile, found.run.overrides["seed"]
        known = {claim.id: claim.rule for claim in claims.of_study(page.name).values()}
        root += {record.claim_id: record.rule for record in found.records} != known
    return Request(page, profile, {"seed": root})


def kept(label: str) -> dict[str, Record]:
    """Every record kept under `label` by claim id, `stale` where its rule or its parameters have changed since."""
    records = []
    for study in claims.STUDIES:
        if found := _read(study, label):
            outdated = _other_values(Page(study), found.run)
            records += [record.model_copy(update={"outdated": outdated}) for record in found.records]
    return ledger.in_order(records)


def seconds(request: Request) -> float:
    """What a kept run of the same page and profile took, in seconds; 0 where there is none."""
    runs = [found.run for label in (request.profile, FRESH) if (found := _read(request.page.name, label))]
    return next((run.seconds for run in runs if run.profile == request.profile), 0.0)


def kept_path(study: str, label: str) -> Path:
    """Where records of `study` are kept under `label`."""
    return files.ROOT / "book" / "kept" / label / f"{study}.json"


def _read(study: str, label: str) -> _Kept | None:
    path = kept_path(study, label)
    if not path.is_file():
        return None
    try:
        found = _Kept.model_validate(read_json(path))
        if label == FRESH and not isinstance(found.run.overrides.get("seed"), int):
            raise ValueError("run.overrides has no root seed")
    except ValueError as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error), "loc": ()}
        what = f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
        raise ClaimError(f"{path}: not kept records ({what}); restore it: git checkout -- {path}") from None
    return found


def _check_label(request: Request, label: str) -> None:
    """Refuse a label that says of a run what it is not."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", label):
        raise PageError(f"{label!r}: a label is a word of small letters, digits and _")
    seed, name = request.overrides.get("seed"), f"{request.page.name} [{request.label}]"
    if label == FRESH and (request.profile not in SETTLING or list(request.overrides) != ["seed"] or not seed):
        raise PageError(f"{name}: {FRESH} keeps a profile that judges, with another root seed alone; run: make confirm")
    if label in SETTLING and (request.profile != label or request.overrides):
        raise PageError(f"{name}: {label} keeps runs of that profile as it is; choose another label")


def _other_values(page: Page, run: _Run) -> bool:
    """Whether the parameters of a kept run are no longer those of its profile's file."""
    try:
        values = params.read_yaml(page.params_file(run.profile))
    except params.ParameterError:
        return True
    return digest({**values, **run.overrides}) != run.values


def _command(page: Page, request: Request) -> str:
    changes = "".join(f" -p {name}={json.dumps(value)}" for name, value in request.overrides.items())
    return f"python -m lib.press run {page.name} --profile {request.profile}{changes}"
