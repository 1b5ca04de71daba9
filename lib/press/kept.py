"""Records kept in the tree: `book/kept/<label>/<study>.json`, a run's verdicts with what they were computed from.

A reader sees them beside those of their own machine: on seeds that no rule had seen when it was written, and at
profiles that take hours.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lib import files, params
from lib.files import digest, write_json
from lib.press import claims, ledger
from lib.press.ledger import Record
from lib.press.pages import DEFAULT_PROFILE, Page, PageError, Request, made_as

FRESH = "fresh_seeds"
"""Label of the records on fresh seeds."""


def keep(page: Page, run: str, label: str) -> Path:
    """Copy the records of the execution under `run` to `book/kept/<label>`; returns their path within the tree.

    Raises:
        PageError: there is no such execution, it no longer stands, or it judged nothing.
    """
    request = made_as(page, run)
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
    """The request that confirms `page` on fresh seeds.

    Its root seed is the next one where a rule has changed since the kept records, so that no rule is judged by seeds
    it may have been written after.
    """
    path = kept_path(page.name, FRESH)
    root = 1
    if path.is_file():
        root = int(json.loads(path.read_text(encoding="utf-8"))["run"]["overrides"]["seed"])
        judged = {record.claim_id: record.rule for record in ledger.read(path, page.name)}
        root += any(judged.get(id) != claim.rule for id, claim in claims.of_study(page.name).items())
    return Request(page, DEFAULT_PROFILE, {"seed": root})


def kept(label: str) -> dict[str, Record]:
    """Every record kept under `label` by claim id, `stale` where its rule or its parameters have changed since."""
    found = []
    for study in claims.STUDIES:
        path = kept_path(study, label)
        if records := ledger.read(path, study):
            outdated = _other_values(Page(study), json.loads(path.read_text(encoding="utf-8"))["run"])
            found += [record.model_copy(update={"outdated": outdated}) for record in records]
    return ledger.in_order(found)


def kept_path(study: str, label: str) -> Path:
    """Where records of `study` are kept under `label`."""
    return files.ROOT / "book" / "kept" / label / f"{study}.json"


def _other_values(page: Page, run: dict[str, Any]) -> bool:
    """Whether the parameters of a kept run are no longer those of its profile's file."""
    try:
        values = params.read_yaml(page.params_file(run["profile"]))
    except params.ParameterError:
        return True
    return digest({**values, **run["overrides"]}) != run["values"]


def _command(page: Page, request: Request) -> str:
    changes = "".join(f" -p {name}={json.dumps(value)}" for name, value in request.overrides.items())
    return f"python -m lib.press run {page.name} --profile {request.profile}{changes}"
