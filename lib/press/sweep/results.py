"""The table of a sweep: a row per point, `_build/sweeps/<study>/tables/<name>.parquet`.

One that a reader will not wait for may be kept with the book, as records are (`lib.press.kept`): every column of it,
versions and dates too, in `book/kept/sweeps/<study>-<name>.csv`.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from lib.files import ROOT, write_atomically
from lib.press import provenance
from lib.press.pages import PageError
from lib.press.sweep import plan

RUN = "run."
"""How the columns begin that say how a point was made: they differ from execution to execution, `RUN_SAME` apart."""
VERSIONS = tuple(f"{RUN}{name}" for name in ("device", "python", *provenance.PINNED))
RUN_SAME = ("run.id", "run.state", "run.varied")


def table(study: str, name: str) -> pd.DataFrame:
    """The table of a sweep as it was last run or collected.

    Columns: parameters and measures under their names (a parameter that is a list is its JSON text), the records of
    claims as `<claim>.word`, `.value`, `.low`, `.high` and `.excess`, and `run.`: id, state (done, stale, failed or
    missing), varied, broken, error, seconds, finished, attempts, host, processor, device and versions.

    Raises:
        PageError: no such sweep, or nothing of it has been run; says how to.
    """
    plan.find(study, name)
    path = table_path(study, name)
    if not path.is_file():
        raise PageError(f"{study}: the sweep {name} has no table yet; make sweep STUDY={study} SWEEP={name}")
    return pd.read_parquet(path)


def table_path(study: str, name: str) -> Path:
    """Where the table of a sweep lies that was run here."""
    return plan.BUILD / "sweeps" / study / "tables" / f"{name}.parquet"


def collect(sweep: plan.Sweep) -> pd.DataFrame:
    """Make the table of a sweep anew from its points, write it and return it."""
    states = sweep.states()
    frame = pd.DataFrame([_row(sweep, point, states[point.id]) for point in sweep.points])
    own = [name for name in frame if name.startswith(RUN)]
    known = [name for name in sweep.points[0].values]
    found = sorted(set(frame) - {*own, *known})
    frame = frame[[*RUN_SAME, *known, *found, *sorted(set(own) - {*RUN_SAME})]].apply(_one_kind)
    write_atomically(sweep.table, lambda path: frame.to_parquet(path, index=False))
    return frame


def keep(sweep: plan.Sweep) -> Path:
    """Copy the table of a sweep to the tree; returns where it lies.

    Raises:
        PageError: not every point of it stands.
    """
    frame = collect(sweep)
    if not (there := frame["run.state"] == "done").all():
        raise PageError(f"{sweep.page.name} {sweep.name}: {(~there).sum()} of {len(frame)} points do not stand; "
                        f"make sweep STUDY={sweep.page.name} SWEEP={sweep.name}")
    path = kept_path(sweep.page.name, sweep.name)
    shown = frame.drop(columns="run.host")  # nobody else's machine has that name
    write_atomically(path, lambda place: shown.to_csv(place, index=False, lineterminator="\n"))
    return path


def kept(study: str, name: str) -> pd.DataFrame | None:
    """The table of a sweep that is kept in the tree, as `table`; None where none is.

    A point is stale where the sweep has it no longer, because its parameters have changed since; that code has is no
    reason, as with records.
    """
    path, file = kept_path(study, name), plan.find(study, name)
    if not path.is_file():
        return None
    now = [point.id for point in plan.read(file).points]
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(VERSIONS, str))
        stands = frame[list(RUN_SAME)]["run.id"].isin(now)
    except (ValueError, KeyError) as error:
        raise PageError(f"{path}: no table of a sweep ({error}); restore it: git checkout -- {path}") from None
    return frame.assign(**{"run.state": stands.map({True: "done", False: "stale"})})


def kept_path(study: str, name: str) -> Path:
    """Where the table of a sweep is kept."""
    return ROOT / "book" / "kept" / "sweeps" / f"{study}-{name}.csv"


def _row(sweep: plan.Sweep, point: plan.Point, state: str) -> dict[str, Any]:
    row = {"run.id": point.id, "run.state": state, "run.varied": point.text}
    row |= {name: _cell(value) for name, value in point.values.items()}
    made = plan.mapping_in(_place(sweep, point.id, state)) or {}
    row |= made.get("measures", {})
    for name in ("seconds", "finished", "attempts", "host", "processor", "error"):
        row[f"{RUN}{name}"] = made.get(name)
    row[f"{RUN}broken"] = "; ".join(made.get("broken") or []) or None
    environment = made.get("facts", {}).get("environment", {})
    return row | {name: environment.get(name.removeprefix(RUN)) for name in VERSIONS}


def _place(sweep: plan.Sweep, id: str, state: str) -> Path:
    return sweep.home / ("failed" if state == "failed" else "points") / id / (
        "error.json" if state == "failed" else "done.json")


def _one_kind(column: pd.Series) -> pd.Series:
    """A column as it can be stored: texts, where some of its values are texts and others numbers."""
    kinds = {type(value) for value in column.dropna()}
    return column.map(str, na_action="ignore") if str in kinds and len(kinds) > 1 else column


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value
