"""A sweep file as checked points: `params/<study>/sweep_<name>.yaml`, described in `book/sweeps_guide.md`."""
from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from lib import params
from lib.files import BUILD, ROOT, digest, read_json
from lib.params import Count, Options, ParameterError, Positive, Weight
from lib.press import claims
from lib.press.pages import SWEEP, Page, PageError, Request, find_page, read_page, without_magics

LASTING = ("code", "library", "claims")
"""Facts that a point must share with now to stand. Its parameters are its identity; prose, versions and device are told
where they differ, for hours on a GPU are not repeated for them."""
NUMBERS = ("value", "low", "high", "excess")
"""Of a claim's record: the estimate of the part that decides with its 95 % interval, and what it is over its null."""
STATES = ("done", "stale", "failed", "missing")

Values = dict[str, list[Any]]


class Block(Options):
    """Points of a sweep; where a block has several of these, all their combinations."""

    grid: Values = Field({}, description="every combination of the values of each name")
    zip: Values = Field({}, description="first value of each name with the first of the others, and so on")
    list: tuple[dict[str, Any], ...] = Field((), description="a mapping per point")

    def combinations(self) -> Iterator[dict[str, Any]]:
        """The values each point sets."""
        parts = [[{name: value} for value in values] for name, values in self.grid.items()]
        if self.zip:
            rows = zip(*self.zip.values(), strict=True)
            parts.append([dict(zip(self.zip, row, strict=True)) for row in rows])
        parts += [list(self.list)] if self.list else []
        for chosen in product(*parts):
            yield {name: value for part in chosen for name, value in part.items()}

    def problem(self) -> str:
        """Why this is no block; empty where it is one."""
        names = [name for part in (self.grid, self.zip, *self.list[:1]) for name in part]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if not names:
            return "a block needs grid, zip or list"
        if empty := [name for part in (self.grid, self.zip) for name, values in part.items() if not values]:
            return f"{empty[0]}: no values"
        if len({len(values) for values in self.zip.values()}) > 1:
            return f"zip: {', '.join(f'{name} has {len(values)} values' for name, values in self.zip.items())}"
        return f"{twice[0]}: given twice in one block" if twice else ""


class Figure(Options):
    """What a sweep draws: a measure over a parameter."""

    x: str = Field(description="parameter along the axis; the values of one that is a list are categories")
    y: str = Field(description="number or Interval that the chapter quotes, or `<claim>.value` and the like")
    by: str = Field("", description="parameter with a line of its own per value")
    labels: dict[str, str] = Field(description="what the picture calls x, y and by, in words a stranger reads")
    says: str = Field(description="what it shows and how to read it, in a sentence")


class Resources(Options):
    """What a point needs."""

    cpus: Count = Field(1, description="processes side by side within the point")
    gpus: Weight = Field(0.0, description="share of a GPU, or a whole number of them")


class Plan(Options):
    """The keys of a sweep file."""

    base: str = Field(description="profile that every point starts from")
    points: Annotated[tuple[dict[str, Any], ...], Field(min_length=1, description="blocks of grid, zip or list")]
    figure: dict[str, Any] = Field(description="x, y, by, labels, says")
    fixed: dict[str, Any] = Field({}, description="values of all points that are not the base's")
    resources: dict[str, Any] = Field({}, description="cpus, gpus")
    retries: Annotated[int, Field(ge=0)] = Field(1, description="times a point is begun again whose process died")
    timeout_minutes: Positive = Field(60.0, description="a point that takes longer has failed")


class Point(NamedTuple):
    """One point of a sweep."""

    id: str
    """Digest of the study and all its parameters; the name of its folder."""
    varied: dict[str, Any]
    """What its block sets, as written."""
    overrides: dict[str, Any]
    """What it changes of the base."""
    values: dict[str, Any]
    """All its parameters, checked, in plain form."""

    @property
    def text(self) -> str:
        """Its varied values for a line on a terminal."""
        return " ".join(map(self.part, self.varied))

    def part(self, name: str) -> str:
        """One of them; empty where its block sets no such value."""
        return f"{name}={json.dumps(self.varied[name], separators=',:')}" if name in self.varied else ""


@dataclass(frozen=True)
class Sweep:
    """A sweep file that has been read and checked."""

    page: Page
    name: str
    plan: Plan
    figure: Figure
    resources: Resources
    points: tuple[Point, ...]
    build: Path = BUILD

    @property
    def home(self) -> Path:
        """Where the points of all sweeps of the study lie."""
        return self.build / "sweeps" / self.page.name

    @property
    def table(self) -> Path:
        return self.home / "tables" / f"{self.name}.parquet"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What a point depends on beside its parameters, here and now."""
        facts = Request(self.page, self.plan.base).facts
        return {name: facts[name] for name in LASTING}

    def states(self) -> dict[str, str]:
        """One of `STATES` for each point."""
        return {point.id: state(self.home, point.id, self.facts) for point in self.points}


def state(home: Path, id: str, facts: Mapping[str, Any]) -> str:
    """Whether a point stands: done, stale (made by other code), failed (by this code) or missing."""
    if done := mapping_in(home / "points" / id / "done.json"):
        return "done" if lasting(done) == facts else "stale"
    failed = mapping_in(home / "failed" / id / "error.json")
    return "failed" if failed and lasting(failed) == facts else "missing"


def lasting(made: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a point says it was made from, the facts that it must share with now."""
    return {name: made.get("facts", {}).get(name) for name in LASTING}


def mapping_in(path: Path) -> dict[str, Any] | None:
    """A mapping from a file; None where there is none or it is not whole."""
    try:
        data = read_json(path)
        return data if isinstance(data, dict) else None
    except (OSError, ValueError):
        return None


def files(study: str = "*") -> list[Path]:
    """The sweep files of a study, or all there are."""
    return sorted((ROOT / "params").glob(f"{study}/{SWEEP}*.yaml"))


def find(study: str, name: str) -> Path:
    """The file of a study's sweep.

    Raises:
        PageError: no such study or sweep; lists those there are.
    """
    page, there = find_page(study), {path.stem.removeprefix(SWEEP): path for path in files(study)}
    if name not in there:
        have = f"it has: {', '.join(there)}" if there else f"write params/{page.name}/{SWEEP}<name>.yaml"
        raise PageError(f"{study}: no sweep {name!r}; {params.meant(name, there)}{have}")
    return there[name]


def read(path: Path) -> Sweep:
    """A sweep file, every value of every point checked.

    Raises:
        ParameterError: names the file, the key or the point, and the remedy.
        PageError: the file is not called as sweeps are, or its study does not exist or cannot be imported.
    """
    path = path.resolve()
    if not path.stem.startswith(SWEEP) or path.suffix != ".yaml":
        raise PageError(f"{path}: a sweep is called params/<study>/{SWEEP}<name>.yaml")
    if not path.is_file():
        find(path.parent.name, path.stem.removeprefix(SWEEP))
    page, where = find_page(path.parent.name), str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    plan = _options(Plan, params.read_yaml(path), where)
    blocks = [_options(Block, block, f"{where}: points[{at}]") for at, block in enumerate(plan.points)]
    figure = _options(Figure, plan.figure, f"{where}: figure")
    resources = _options(Resources, plan.resources, f"{where}: resources")
    if resources.gpus > 1 and resources.gpus % 1:
        raise ParameterError(f"{where}: resources: gpus: {resources.gpus} is neither a share of one nor whole")
    points = _points(page, plan, blocks, where)
    _check_figure(page, figure, points, where)
    return Sweep(page, path.stem.removeprefix(SWEEP), plan, figure, resources, points)


def _options(kind: type[params.Options], given: Mapping[str, Any], where: str) -> Any:
    try:
        made = kind(**given)
    except ParameterError as error:
        raise ParameterError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None
    if problem := made.problem() if isinstance(made, Block) else "":
        raise ParameterError(f"{where}: {problem}")
    return made


def _points(page: Page, plan: Plan, blocks: list[Block], where: str) -> tuple[Point, ...]:
    base, model = Request(page, plan.base).raw_values, page.params_class()
    found: dict[str, Point] = {}
    for at, block in enumerate(blocks):
        for varied in block.combinations():
            here = f"{where}: points[{at}] with {json.dumps(varied)}"
            for name, place in [*((name, "fixed") for name in varied if name in plan.fixed),
                                *((name, "the base") for name in {**plan.fixed, **varied} if name == "profile")]:
                raise ParameterError(f"{here}: {name}: is {place}'s already; drop it")
            overrides = {**plan.fixed, **varied}
            values = params.check(model, {**base, **overrides}, here).model_dump(mode="json")
            id = digest(page.name, values)[:16]
            found.setdefault(id, Point(id, varied, overrides, values))
    return tuple(found.values())


def _check_figure(page: Page, figure: Figure, points: tuple[Point, ...], where: str) -> None:
    varied = sorted({name for point in points for name in point.varied})
    for key, name in (("x", figure.x), ("by", figure.by)):
        if name not in varied and (name or key == "x"):
            raise ParameterError(f"{where}: figure: {key}: {name} is not varied; {params.meant(name, varied)}"
                                 f"varied are: {', '.join(varied)}")
    known = measures(page)
    if figure.y not in known:
        raise ParameterError(f"{where}: figure: y: the chapter computes no {figure.y}; {params.meant(figure.y, known)}"
                             "name what it assigns, or a number of one of its claims, as in SP-1.value")
    if set(figure.labels) != (drawn := {figure.x, figure.y, figure.by} - {""}):
        raise ParameterError(f"{where}: figure: labels: {', '.join(sorted(drawn))} need one each, and no other name")


def measures(page: Page) -> set[str]:
    """Names a point may have a number under: what the chapter assigns, and the numbers of its claims' records."""
    notebook = read_page(page.source)
    code = without_magics([cell.source for cell in notebook.cells if cell.cell_type == "code"])
    names = {node.id for statement in ast.parse(code).body if not isinstance(statement, (ast.FunctionDef, ast.ClassDef))
             for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {f"{name}_{end}" for name in names for end in ("low", "high")}
    return names | {f"{claim}.{number}" for claim in claims.of_study(page.name) for number in NUMBERS}
