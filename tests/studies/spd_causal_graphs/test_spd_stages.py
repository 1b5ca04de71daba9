"""What each stage depends on: an edit or a changed parameter repeats the stages that use it and no other."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from keys_in_a_copy import copied, edit, keys

from lib.files import ROOT
from lib.params import load
from lib.press.runs import planned
from lib.studies.spd_causal_graphs import measure, protocol, together, train, train_coders, train_spd, train_toy

SMOKE = ROOT / "params/spd_causal_graphs/smoke.yaml"
STAGES = {
    "network": (train.trained, 0),
    "decomposition": (train_spd.decomposed, 0, "noise"),
    "joint": (together.joined, 0),
    "recipe": (train_spd.by_recipe, 0),
    "whole": (together.whole, 0),
    "transcoders": (train_coders.transcoded, 0),
    "toy": (train_toy.decomposed_toy, "uniform"),
    "effects": (measure.analysis, 0),
    "comparison": (measure.transcoders, 0),
}
SPD = {"decomposition", "joint", "toy", "recipe", "whole"}
MEASURED = {"effects", "comparison"}
MEASURING = ("effects", "regression", "graph", "measure", "protocol", "figures")
ON_NETWORKS = {"network", "decomposition", "joint", "transcoders", "recipe", "whole"}


def keys_in(root: Path) -> dict[str, str]:
    """The key of each stage in a copy of the library."""
    modules = {function.__module__ for function, *_ in STAGES.values()} | {protocol.__name__}
    imports = "\n".join(["from pathlib import Path", "from lib.params import load", *(f"import {m}" for m in modules),
                         f"params = load({protocol.__name__}.Params, Path({str(SMOKE)!r}))"])
    calls = [f"{_full(function)}, params, *{rest}" for function, *rest in STAGES.values()]
    return dict(zip(STAGES, keys(root, imports, *calls), strict=True))


def _full(function: Callable) -> str:
    return f"{function.__module__}.{function.__name__}"


@pytest.fixture(scope="module")
def unedited(tmp_path_factory) -> dict[str, str]:
    return keys_in(copied(tmp_path_factory.mktemp("unedited")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "changed"),
    [
        (["spd/losses.py"], SPD | MEASURED),
        (["sparse_coders/losses.py"], {"transcoders"} | MEASURED),
        (["training/steps.py"], ON_NETWORKS | MEASURED),
        (["spd/metrics.py", "metrics/recovery.py", *(f"studies/spd_causal_graphs/{name}.py" for name in MEASURING)],
         MEASURED),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_edit_repeats_what_trains_with_it_and_nothing_else(files, changed, unedited, copy):
    for file in files:
        edit(copy, f"lib/{file}")
    edited = keys_in(copy)
    assert {stage for stage in STAGES if edited[stage] != unedited[stage]} == changed


@pytest.mark.slow
def test_prose_repeats_nothing(unedited, copy):
    for path in copy.glob("lib/**/*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"""', '"""Said otherwise. ', text.startswith('"""')) + "# and here\n")
    assert keys_in(copy) == unedited


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"profile": "quick", "seeds": 7}, set()),
        ({"most": 5, "orders": 3, "least_images": 12}, {"effects"}),
        ({"null_draws": 5}, MEASURED),
        ({"coder_steps": 60}, {"transcoders", "comparison"}),
        ({"toy_rate": 0.02}, {"toy"}),
        ({"importance": 0.1}, {"decomposition", "joint"} | MEASURED),
        ({"components": 20}, {"decomposition", "joint", "transcoders", "whole"} | MEASURED),
        ({"recipe_networks": 5}, set()),
        ({"recipe_steps": 70}, {"recipe"}),
        ({"hidden": 30}, ON_NETWORKS | MEASURED),
        ({"seed": 1}, set(STAGES)),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_changed_parameter_repeats_only_the_stages_that_use_it(change, changed):
    params = load(protocol.Params, SMOKE)
    before, after = ({stage: planned(function, own, *rest).path for stage, (function, *rest) in STAGES.items()}
                     for own in (params, params.replace(**change)))
    assert {stage for stage in STAGES if before[stage] != after[stage]} == changed
