"""One value per model, and what an arm changes: by hand, and where arms, seeds or sweeps are missing."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lib.metrics.statistics import t_interval
from lib.press.ledger import Record
from lib.rng import numpy_generator
from lib.studies.topoloss_hypotheses import comparisons
from lib.studies.topoloss_hypotheses.comparisons import PERMUTED, PLAIN, TOPO, Models

BASE = {PLAIN: 10.0, TOPO: 8.0, PERMUTED: 9.0}


def runs(arms=(PLAIN, TOPO, PERMUTED), seeds=3, highest=64):
    """l0 at an fvu of .1 is BASE[arm] + seed, on sweeps of l0 = (BASE + seed) 10^(-log10 fvu - 1)."""
    keys = [(arm, seed) for arm in arms for seed in range(seeds)]
    scalars = pd.DataFrame([(*key, 0.5 + 0.1 * (key[0] == TOPO), 20.0) for key in keys],
                           columns=["arm", "seed", "accuracy", "d95"])
    classes = pd.DataFrame([(arm, seed, c, BASE[arm] + seed + c) for arm, seed in keys for c in (0, 1)],
                           columns=["arm", "seed", "class", "log_matched"])
    others = {*comparisons.OF_CLASSES, "p_closer"} - {"log_matched", "log_published", "closer"}
    classes = classes.assign(**dict.fromkeys(sorted(others), 1.0), log_disc=[0.5, np.nan] * len(keys))
    coders = pd.DataFrame([(arm, seed, c, k, (BASE[arm] + seed) * k / 8, 0.8 / k) for arm, seed in keys
                           for c in (0, 1) for k in (2, 8, highest)],
                          columns=["arm", "seed", "coder_seed", "k", "l0", "fvu"])
    return {"scalars": scalars, "classes": classes, "coders": coders.assign(
        peak=0.3, peak_null=0.1, dead=0.0, ce=np.where(coders.k == 8, 1.0, np.nan))}


def test_models_have_means_over_classes_and_sweeps_read_at_equal_variance():
    models = Models(runs(), 8)
    assert models.per_seed("l0", TOPO).tolist() == pytest.approx([8, 9, 10])
    assert models.per_seed("log_matched", PLAIN).tolist() == [10.5, 11.5, 12.5] and models.mean("points", TOPO) == 60
    assert models.mean("log_disc") == 0.5 and models.mean("fve") == pytest.approx(0.9)  # without classes of no disc
    assert np.isnan(Models(runs(highest=9), 8).mean("l0_95"))  # no coder of that sweep leaves as little


def test_changes_are_shares_of_counts_and_differences_of_logs_with_nulls_of_the_same_seeds():
    models = Models(runs(), 8)
    assert models.change("l0").tolist() == pytest.approx([-2 / 10, -2 / 11, -2 / 12])
    assert models.change("log_matched").tolist() == [-2, -2, -2] and models.interval("points").estimate == 10
    measured = models.against("l0", PERMUTED)
    assert measured.nulls[0] == 0 and measured.nulls[1].tolist() == pytest.approx([-1 / 10, -1 / 11, -1 / 12])
    assert comparisons.untested(measured) == ""
    assert models.contrasts({"l0": "l0"}, (TOPO, "α = 7")).iloc[0].tolist() == [
        comparisons.told(t_interval([-2 / 10, -2 / 11, -2 / 12])), ""]


def test_what_a_run_lacks_is_said():
    alone = Models(runs((TOPO,), 1), 8)
    assert comparisons.untested(alone.against("l0"), needs="both weights") == "needs both weights"
    assert np.isnan(alone.interval("l0").estimate) and np.isnan(alone.mean("l0")) and not len(alone.family({"a": "l0"}))
    assert comparisons.untested(Models(runs(seeds=1), 8).against("l0")) == "needs two seeds"
    assert "needs" in comparisons.untested(Models(runs((PLAIN, TOPO)), 8).against("l0", PERMUTED))
    assert "reach this share" in comparisons.untested(Models(runs(highest=9), 8).against("l0_95"))


def test_a_change_is_absent_only_where_its_90_per_cent_interval_is_inside_the_margin():
    told = [comparisons.moves(changes) for changes in ([-3, -2, -1, -2], [1, 2, 3, 2], [-1, 1], [1, np.nan], [1])]
    assert told == ["falls", "rises", "is not settled", "is not compared here", "is not compared here"]
    changes = [-1.0, 0.0, 1.0]  # mean 0, half width t_.95(2) / sqrt(3) = 2.920 / 1.732 = 1.686
    assert [comparisons.moves(changes, m) for m in (1.68, 1.69)] == ["is not settled", "shows no change that matters"]


def test_what_claims_need_is_told_and_other_reasons_are_not():
    reasons = {"TL-7": "needs topo_weight 0.38", "TL-8": "a linear map is more accurate", "TL-11": ""}
    records = {id: Record(claim_id=id, word="not tested here", rule="", reason=why) for id, why in reasons.items()}
    assert comparisons.lacking(records, *reasons) == "TL-7 needs topo_weight 0.38"
    assert comparisons.lacking(records, "TL-8", "TL-11") == "This run has the weights and depths they need"


def test_a_family_is_corrected_and_a_mixed_model_needs_two_seeds():
    table = runs()
    rng = numpy_generator(0, "test", "comparisons")
    table["classes"]["log_matched"] += rng.normal(size=len(table["classes"]))
    found = Models(table, 8).family({"d95": "d95", "matched": "log_matched", "accuracy": "accuracy"})
    assert list(found.index) == ["matched"] and found.holm.tolist() == found.p_value.tolist()  # others have no spread
    assert comparisons.mixed_model(table["classes"], "log_matched")
    assert not comparisons.mixed_model(table["classes"].query("seed == 0"), "log_matched")
