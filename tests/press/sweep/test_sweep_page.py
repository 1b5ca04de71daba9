"""The page of sweeps: every sweep, its figure and its points; and the measures of an executed chapter."""
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.files import write_json
from lib.press import provenance
from lib.press.pages import PageError
from lib.press.site.source import FRAGMENTS, Site
from lib.press.sweep import gallery, plan, results
from lib.press.sweep.measures import QUOTED, measured

FIGURE = {"x": "n_hidden", "y": "right_well", "by": "n_features", "says": "A ratio over width.",
          "labels": {"n_hidden": "dimensions of it", "right_well": "a ratio of two losses", "n_features": "features"}}


def frame():
    """Two widths by two sizes, three of four made; the last varies another parameter."""
    here = {f"run.{name}": value for name, value in provenance.environment().items()}
    rows = [(3, 20, 0.5, "done"), (30, 20, 0.7, "done"), (3, 40, 0.9, "stale"), (30, 40, None, "missing")]
    made = [{"run.id": str(at), "run.state": state, "run.varied": f"n_hidden={m} n_features={n}", "n_features": n,
             "n_hidden": m, "profile": "quick", "SP-2.value": y, "right_well": y, **here}
            for at, (m, n, y, state) in enumerate(rows)]
    other = {**made[0], "run.varied": "trained_steps=5", "right_well": 9.0}
    return pd.DataFrame([*made, other]).assign(trained_steps=5)


def test_a_figure_has_a_dot_per_point_that_varies_x_and_a_line_per_value_of_by():
    fig = gallery.drawn(frame().dropna(subset=["right_well"]), FIGURE)
    [ax] = fig.axes
    lines = [line for line in ax.lines if line.get_linestyle() == "-" and len(line.get_xdata())]
    assert [line.get_ydata().tolist() for line in lines] == [[0.5, 0.7], [0.9]]
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "dimensions of it" and ax.get_ylabel() == "a ratio of two losses"
    assert [text.get_text() for text in ax.texts] == ["features = 40", "features = 20"]


def test_names_of_lines_that_end_together_do_not_lie_on_each_other():
    fig = gallery.drawn(frame().dropna(subset=["right_well"]).assign(right_well=[0.5, 0.9, 0.9, 0.5]), FIGURE)
    fig.draw_without_rendering()
    one, other = (text.get_window_extent() for text in fig.axes[0].texts)
    assert not one.overlaps(other) and one.y0 > other.y0


def test_a_list_along_x_is_categories():
    rows = frame().dropna(subset=["right_well"]).assign(n_hidden=["[1]", "[2]", "[1]", "[1]"])
    fig = gallery.drawn(rows, {**FIGURE, "by": ""})
    [ax] = fig.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["[1]", "[2]"]
    means = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == 2]
    assert np.allclose(means, [[0.7, 0.7]])  # the mean of .5 and .9 is .7


def test_the_explorer_has_an_axis_per_varied_parameter_and_number():
    data = json.loads(json.dumps(gallery.explorer(frame().iloc[:3], FIGURE)))["data"][0]
    assert {axis["label"]: axis["values"] for axis in data["dimensions"]} == {
        "dimensions of it": [3, 30, 3], "features": [20, 20, 40], "a ratio of two<br>losses": [0.5, 0.7, 0.9],
        "SP-2.value": [0.5, 0.7, 0.9]}
    assert data["line"]["color"] == [0.5, 0.7, 0.9]


def test_the_page_shows_what_was_run_and_how_to_run_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "BUILD", tmp_path)
    monkeypatch.setattr(results, "kept_path", lambda *_: tmp_path / "none.csv")
    told = gallery.page(tmp_path / "sweeps")
    assert told.count("Not run here. Command: make sweep STUDY=") == len(plan.files()) and "Kept" not in told
    place = tmp_path / "sweeps/superposition_phases/tables/shape.parquet"
    place.parent.mkdir(parents=True)
    made = frame().assign(**{"run.torch": "2.11.0"})
    made.loc[2, "right_well"] = None
    made.to_parquet(place)
    told = gallery.page(tmp_path / "pictures")
    assert told.count("Not run here.") == len(plan.files()) - 1
    assert "3 done, 1 stale, 0 failed, 1 missing of 5 points (4 with torch 2.11.0)" in told
    assert "pictures/superposition_phases-shape.png" in told and 'table("superposition_phases", "shape")' in told
    assert " No such number at 1 of the points." in told
    assert "NaN" not in told, "no JSON"
    assert (tmp_path / "pictures/superposition_phases-shape.png").read_bytes()[:4] == b"\x89PNG"
    assert results.table("superposition_phases", "shape").equals(pd.read_parquet(place))
    with pytest.raises(PageError, match="alpha has no table yet; make sweep STUDY=topoloss_hypotheses SWEEP=alpha"):
        results.table("topoloss_hypotheses", "alpha")


def test_a_sweeps_picture_and_numbers_lie_where_its_page_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "BUILD", tmp_path)
    site, place = Site(tmp_path / "book", "quick", tmp_path), results.table_path("superposition_phases", "shape")
    place.parent.mkdir(parents=True)
    frame().to_parquet(place)
    FRAGMENTS["sweeps.md"](site, site.source / "_generated/sweeps.md")
    told = (site.source / "_generated/sweeps.md").read_text()
    found = dict(re.findall(r"\{figure\} /(\S+)\n:name: (\S+)", told))
    assert "fig-sweep-superposition-phases-shape" in found.values()
    for picture, name in found.items():
        assert (site.source / picture).is_file() and (site.beside / f"figures/{name}.csv").is_file()


def test_a_table_kept_in_the_tree_is_shown_where_none_was_run_and_says_what_is_stale(tmp_path, monkeypatch):
    path, study = tmp_path / "kept.csv", "superposition_phases"
    monkeypatch.setattr(plan, "BUILD", tmp_path / "none")
    monkeypatch.setattr(results, "kept_path", lambda of, _: path if of == study else tmp_path / "no")
    sweep = replace(plan.read(plan.find(study, "shape")), build=tmp_path)
    with pytest.raises(PageError, match=f"9 of 9 points do not stand; make sweep STUDY={study} SWEEP=shape"):
        results.keep(sweep)
    for at, of in enumerate(sweep.points):
        measures = {"right_well": (at + 3) ** 0.7 * 1e-7, "word": "None", "never": None, "once": 0.1 if at else None}
        made = {"measures": measures, "finished": f"2026-07-2{at}T", "seconds": 60.0, "host": "vm9",
                "processor": "one" if at < 5 else "another", "facts": {**sweep.facts, "environment": {"torch": "2"}}}
        write_json(sweep.home / "points" / of.id / "done.json", made)
    assert results.keep(sweep) == path and "vm9" not in path.read_text()
    there, made = results.kept(study, "shape"), results.collect(sweep).drop(columns="run.host")
    empty = [name for name in made if made[name].isna().all()]
    assert "never" in empty and {"once", "right_well"}.isdisjoint(empty)
    assert list(there) == list(made) and there[empty].isna().all(axis=None)
    pd.testing.assert_frame_equal(there.drop(columns=empty), made.drop(columns=empty), check_exact=True)
    told = gallery.page(tmp_path / "pictures")
    assert told.count("Not run here.") == len(plan.files()) and told.count("Kept") == 1
    assert "book, executed 2026-07-20 to 2026-07-28, 9 minutes in all on one, another: 9 done, 0 stale, 0" in told
    assert 'kept("superposition_phases", "shape")' in told and "pictures/superposition_phases-shape.png" in told
    here = tmp_path / "none/sweeps/superposition_phases/tables/shape.parquet"
    here.parent.mkdir(parents=True)
    for column, both in (("right_well", False), ("another", True)):  # points with the figure's number here, and without
        frame().rename(columns={"right_well": column}).to_parquet(here)
        told = gallery.page(tmp_path / "pictures")
        assert "Run here: 3 done, 1 stale" in told and ("Kept with the book" in told) is both
        assert "No point has" not in told and told.count("Not run here.") == len(plan.files()) - 1
    here.unlink()
    path.write_text(path.read_text().replace(sweep.points[0].id, "of other values"))
    assert "8 done, 1 stale" in gallery.page(tmp_path / "pictures")
    path.write_text("run.id,run.state\n")
    with pytest.raises(PageError, match="kept.csv: no table of a sweep .*; restore it: git checkout -- "):
        results.kept(study, "shape")


def test_measures_are_what_is_quoted_and_what_claims_came_to():
    """Not the parameters, no pictures, no number that is none."""
    def glued(name, text):
        return {"metadata": {"scrapbook": {"name": name}}, "data": {QUOTED: text}}

    outputs = [glued("ratio", "0.1"), glued("word", "'high'"), glued("seeds", "4"), glued("none", "nan"),
               {"data": {"text/plain": "7"}}]
    part = {"estimate": {"value": 1.5, "low": 1.0, "high": 2.0}, "excess": {"value": 0.5, "low": 0, "high": 1}}
    records = [{"claim_id": "SP-1", "word": "holds", "deciding": 1, "parts": [{"estimate": None}, part]},
               {"claim_id": "SP-2", "word": "not tested here", "deciding": 0, "parts": []}]
    found = measured({"cells": [{"outputs": outputs}, {}]}, {"records": records}, {"seeds": 4})
    assert found == {
        "ratio": 0.1, "word": "high", "SP-1.word": "holds", "SP-1.value": 1.5, "SP-1.low": 1.0, "SP-1.high": 2.0,
        "SP-1.excess": 0.5, "SP-2.word": "not tested here", "SP-2.value": None, "SP-2.low": None, "SP-2.high": None,
        "SP-2.excess": None}
    assert measured({"cells": []}, None, {}) == {}


def test_a_column_of_texts_and_numbers_is_stored_as_texts():
    column = results._one_kind(pd.Series([1.5, "none", None], dtype=object))
    assert column.tolist()[:2] == ["1.5", "none"] and column.isna().tolist() == [False, False, True]
    assert results._one_kind(pd.Series([1.5, None])).dtype == float
