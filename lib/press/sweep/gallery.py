"""The page of sweeps: of each one its figure and its points to explore, run here or kept with the book."""
from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib import params
from lib.figures import style
from lib.figures.drawn import table
from lib.files import write_atomically, write_text
from lib.press import provenance
from lib.press.pages import SWEEP
from lib.press.plotly_mime import figure_html
from lib.press.sweep import plan, results

SHOWN = ("done", "stale")


def page(folder: Path) -> str:
    """Markdown with every sweep of the tree; figures and their numbers are written to `folder`, which lies beside it.

    Raises:
        ParameterError: a sweep file cannot be read.
    """
    parts = []
    for path in plan.files():
        study, name = path.parent.name, path.stem.removeprefix(SWEEP)
        told = [line.removeprefix("# ") for line in path.read_text(encoding="utf-8").splitlines()[:3]]
        parts += [f"## {study}: {name}", "", f"{told[0]}\n{told[2]}", ""]
        figure = params.read_yaml(path)["figure"]
        tables = _tables(study, name, figure["y"])
        parts += [f"Not run here. {told[1]}", ""] * ("table" not in tables)
        for source, frame in tables.items():
            parts += [f"{_told(frame, source)} In a notebook: "
                      f'`from lib.press.sweep.results import {source}; {source}("{study}", "{name}")`.', ""]
        for frame in list(tables.values())[-1:]:
            parts += _shown(frame, figure, folder / f"{study}-{name}.png")
    return "\n".join(parts)


def _tables(study: str, name: str, y: str) -> dict[str, pd.DataFrame]:
    """The table of what was run here, where it was, and the kept one where no point has y here; the last is shown."""
    place = results.table_path(study, name)
    tables = {"table": pd.read_parquet(place)} if place.is_file() else {}
    if not any(len(_with(y, frame)) for frame in tables.values()) and (kept := results.kept(study, name)) is not None:
        tables["kept"] = kept
    return tables


def _with(y: str, frame: pd.DataFrame) -> pd.DataFrame:
    made = frame[frame["run.state"].isin(SHOWN)]
    return made.dropna(subset=[y]) if y in made else made[:0]


def _told(frame: pd.DataFrame, source: str) -> str:
    counts = frame["run.state"].value_counts()
    told = ", ".join(f"{counts.get(state, 0)} {state}" for state in plan.STATES)
    told = f"{told} of {len(frame)} points{_elsewhere(frame)}."
    if source == "table":
        return f"Run here: {told}"
    days = " to ".join(sorted({frame["run.finished"].min()[:10], frame["run.finished"].max()[:10]}))
    minutes, where = frame["run.seconds"].sum() / 60, ", ".join(frame["run.processor"].dropna().unique())
    return f"Kept with the book, executed {days}, {minutes:.0f} minutes in all on {where}: {told}"


def _shown(frame: pd.DataFrame, figure: Mapping[str, Any], place: Path) -> list[str]:
    there = _with(figure["y"], frame)
    if there.empty:
        return [f"No point has {figure['y']} yet.", ""]
    fig, label = drawn(there, figure), f"fig-sweep-{place.stem}".replace("_", "-")
    write_atomically(place, lambda path: fig.savefig(path, format="png", dpi=style.PIXELS_PER_INCH))
    write_text(place.with_name(f"{label}.csv"), table(fig))
    says, lacking = figure["says"].strip(), int(frame["run.state"].isin(SHOWN).sum()) - len(there)
    lack = f" No such number at {lacking} of the points." if lacking else ""
    return [f"```{{figure}} /_generated/{place.parent.name}/{place.name}", f":name: {label}", ":width: 760px",
            f":alt: {says}", "", f"{says}{lack}", "```", "",
            "```{raw} html", figure_html(explorer(there, figure)), "```", ""]


def _elsewhere(frame: pd.DataFrame) -> str:
    """Which points were made with other versions, or on another device, than are here."""
    made, here = frame[frame["run.state"].isin(SHOWN)], provenance.environment()
    other = [f"{(made[f'run.{name}'] != value).sum()} with {name} {', '.join(map(str, made[f'run.{name}'].unique()))}"
             for name, value in here.items() if len(made) and (made[f"run.{name}"] != value).any()]
    return f" ({'; '.join(other)})" if other else ""


def drawn(frame: pd.DataFrame, figure: Mapping[str, Any]) -> Figure:
    """A dot per point whose block varies x, and a line through their means for each value of `by`."""
    x, y, by, labels = figure["x"], figure["y"], figure.get("by", ""), figure["labels"]
    rows = frame.loc[frame["run.varied"].str.contains(rf"(?:^| ){x}="), list(dict.fromkeys([x, y, by or x]))]
    fig, ax = style.figure(aspect=0.5)
    places = _places(rows[x])
    groups, ends = list(rows.assign(_place=places).groupby(by)) if by else [("", rows.assign(_place=places))], []
    for at, (value, group) in enumerate(groups):
        colour = style.LINES[at % len(style.LINES)]
        means = group.groupby("_place")[y].mean()
        style.dots(ax, group["_place"], group[y], color=colour, alpha=0.6)
        ax.plot(means.index, means, color=colour, linewidth=1.5)
        ends += [(means.iloc[-1], means.index[-1], f"{labels.get(by)} = {value}", colour)] * bool(by)
    if not pd.api.types.is_numeric_dtype(rows[x]):
        ax.set_xticks(range(rows[x].nunique()), sorted(rows[x].unique()))
    elif (rows[x] > 0).all() and rows[x].max() >= 10 * rows[x].min():
        ax.set_xscale("log")
    ax.set(xlabel=labels[x], ylabel=labels[y])
    low, top = ax.get_ylim()
    gap, height = (top - low) / 15, np.inf
    for end, place, text, colour in sorted(ends, reverse=True):
        height = min(end, height - gap)  # names of lines that end together, one below the other
        style.direct_label(ax, place, height, text, color=colour)
    return fig


def _places(column: pd.Series) -> np.ndarray:
    return column.to_numpy() if pd.api.types.is_numeric_dtype(column) else pd.Categorical(column).codes


def explorer(frame: pd.DataFrame, figure: Mapping[str, Any]) -> dict[str, Any]:
    """A plotly figure of parallel axes: what varies, the measure, and the numbers of the claims. A line is a point."""
    y, labels, claims = figure["y"], figure["labels"], [name for name in frame if name.endswith(".value")]
    varied = dict.fromkeys(re.findall(r"(?:^| )(\w+)=", "\n".join(frame["run.varied"]), re.MULTILINE))
    shown = [name for name in dict.fromkeys([*varied, y, *claims]) if frame[name].notna().any()]
    axes = [_axis(frame[name], "<br>".join(textwrap.wrap(labels.get(name, name), 16))) for name in shown]
    line = {"color": frame[y].tolist(), "colorscale": "Viridis", "showscale": True}
    alt = html.escape(f"Points of the sweep on parallel axes, coloured by {labels[y]}")
    return {"data": [{"type": "parcoords", "dimensions": axes, "line": line, "labelside": "bottom"}],
            "layout": {"height": 360, "meta": {"alt": alt}, "margin": {"l": 60, "r": 40, "t": 30, "b": 80}}}


def _axis(column: pd.Series, label: str) -> dict[str, Any]:
    if pd.api.types.is_numeric_dtype(column):
        return {"label": label, "values": [None if pd.isna(value) else float(value) for value in column]}
    kinds = pd.Categorical(column)
    return {"label": label, "values": kinds.codes.tolist(), "tickvals": list(range(len(kinds.categories))),
            "ticktext": list(kinds.categories)}
