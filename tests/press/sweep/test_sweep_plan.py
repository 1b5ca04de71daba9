"""Sweep files: those of the tree are sound, points are what is written by hand, and what is none is refused."""
import pytest
import yaml

from lib.files import ROOT
from lib.params import ParameterError
from lib.press.__main__ import main as press
from lib.press.pages import PageError, all_pages
from lib.press.sweep import plan

LABELS = {"n_hidden": "dimensions", "right_well": "a ratio", "seed": "root"}
FILE = {
    "base": "smoke", "figure": {"x": "n_hidden", "y": "right_well", "by": "seed", "says": "a figure", "labels": LABELS},
    "points": [{"grid": {"n_hidden": [3, 5], "seed": [0, 1]}}],
}


@pytest.fixture
def file(tmp_path):
    """Writes a sweep file of superposition_phases with some keys changed, and says where."""
    def write(**changes):
        path = tmp_path / "superposition_phases" / "sweep_mine.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({**FILE, **changes}))
        return path

    return write


@pytest.mark.parametrize("path", plan.files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_sweeps_of_the_tree_are_sound(path):
    sweep = plan.read(path)
    assert len(sweep.points) > 1 and f"SWEEP={sweep.name}" in path.read_text().splitlines()[1]
    assert sweep.page.profiles() == [name for name in sweep.page.profiles() if not name.startswith(plan.SWEEP)]


def test_every_study_has_one():
    assert {page.name for page in all_pages() if page.is_study} == {path.parent.name for path in plan.files()}


def test_blocks_are_products_of_grid_zip_and_list(file):
    """2 x 2 of the grid; 2 x 3 of zip and list; and one of the list that the grid has already."""
    blocks = [
        {"grid": {"n_hidden": [3, 5], "seed": [0, 1]}},
        {"zip": {"n_features": [30, 40], "n_hidden": [6, 7]}, "list": [{"seed": 0}, {"seed": 1}, {"seed": 2}]},
        {"list": [{"n_hidden": 5, "seed": 1}]},
    ]
    points = plan.read(file(points=blocks, fixed={"seeds": 3})).points
    assert [point.varied for point in points][:5] == [
        {"n_hidden": 3, "seed": 0}, {"n_hidden": 3, "seed": 1}, {"n_hidden": 5, "seed": 0}, {"n_hidden": 5, "seed": 1},
        {"n_features": 30, "n_hidden": 6, "seed": 0}]
    assert len(points) == 4 + 6 and {point.values["seeds"] for point in points} == {3}
    assert points[0].overrides == {"seeds": 3, "n_hidden": 3, "seed": 0} and points[0].text == "n_hidden=3 seed=0"


def test_a_point_is_its_study_with_all_its_parameters(file):
    """1 and 1.0 are one number where a float is meant; the base's own value is no other point."""
    one, same, base, other = (
        plan.read(file(points=[{"grid": {"n_hidden": [5], "seed": [0], **more}}])).points[0].id
        for more in ({"sparsities": [[0, 0.5]]}, {"sparsities": [[0.0, 0.5]]}, {}, {"sparsities": [[0, 0.6]]}))
    written = plan.read(file(points=[{"grid": {"n_hidden": [5], "seed": [0], "n_features": [20]}}])).points[0]
    assert one == same and base == written.id and len({one, base, other}) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"set": {"seed": 1}}, "sweep_mine.yaml: Plan has no option set; it has base, points, figure, fixed"),
        ({"base": "smok"}, "smok.yaml: no such parameter file; here are: full.yaml"),
        ({"points": []}, "points: .* at least 1 item"),
        ({"points": [{}]}, r"points\[0\]: a block needs grid, zip or list"),
        ({"points": [{"grid": {"n_hidden": 3}}]}, r"Block: grid\[n_hidden\]: input should be a valid list"),
        ({"points": [{"grid": {"n_hidden": []}}]}, "n_hidden: no values"),
        ({"points": [{"zip": {"n_hidden": [3, 4], "seed": [1]}}]}, "zip: n_hidden has 2 values, seed has 1 values"),
        ({"points": [{"grid": {"seed": [0]}, "zip": {"seed": [1]}}]}, "seed: given twice in one block"),
        ({"points": [{"grid": {"n_hiden": [3]}}]},
         r'points\[0\] with {"n_hiden": 3}: unknown parameter n_hiden; did you mean n_hidden?'),
        ({"points": [{"grid": {"n_hidden": [3, "four"]}}]}, r'with {"n_hidden": "four"}: n_hidden: .*got \'four\''),
        ({"fixed": {"seed": 3}}, "seed: is fixed's already; drop it"),
        ({"fixed": {"profile": "quick"}}, "profile: is the base's already; drop it"),
        ({"resources": {"gpus": 1.5}}, "gpus: 1.5 is neither a share of one nor whole"),
        ({"resources": {"cpus": 0}}, "resources: Resources: cpus: .*greater than or equal to 1"),
        ({"timeout_minutes": 0}, "timeout_minutes: .*greater than 0"),
        ({"figure": {**FILE["figure"], "x": "seeds"}}, "figure: x: seeds is not varied; did you mean seed?"),
        ({"figure": {**FILE["figure"], "by": "n_features"}}, "figure: by: n_features is not varied"),
        ({"figure": {**FILE["figure"], "y": "right_wel"}}, "computes no right_wel; did you mean right_well"),
        ({"figure": {**FILE["figure"], "y": "SP-9.value"}}, "y: the chapter computes no SP-9.value"),
        ({"figure": {**FILE["figure"], "labels": {**LABELS, "rate": "r"}}}, "labels: n_hidden, right_well, seed need "),
        ({"figure": {**FILE["figure"], "by": ""}}, "labels: n_hidden, right_well need one each, and no other name"),
        ({"figure": {"x": "seed", "y": "SP-2.value", "says": ""}}, "figure: Figure needs labels"),
    ],
)
def test_what_is_no_sweep_is_refused_in_a_line(file, changes, told):
    with pytest.raises(ParameterError, match=told) as error:
        plan.read(file(**changes))
    assert "\n" not in str(error.value)


def test_numbers_of_claims_can_be_drawn(file):
    labels = {"seed": "root", "SP-2.excess": "excess"}
    assert plan.read(file(figure={"x": "seed", "y": "SP-2.excess", "labels": labels, "says": ""})).figure.by == ""


def test_a_sweep_is_no_profile(capsys):
    assert press(["run", "topoloss_hypotheses", "--profile", "sweep_alpha"]) == 2
    assert capsys.readouterr().err == (
        "sweep_alpha: a sweep, no profile; make sweep STUDY=topoloss_hypotheses SWEEP=alpha\n")


def test_a_sweep_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(PageError, match="no sweep 'shapes'; did you mean shape.*it has: shape"):
        plan.find("superposition_phases", "shapes")
    with pytest.raises(PageError, match="a sweep is called params/<study>/sweep_<name>.yaml"):
        plan.read(ROOT / "params" / "superposition_phases" / "quick.yaml")
