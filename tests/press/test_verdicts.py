"""Every rule by which a claim is judged, on values whose interval is known by hand."""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lib.metrics.statistics import Interval
from lib.press import verdicts
from lib.press.claims import Claim, ClaimError
from lib.press.ledger import number
from lib.press.verdicts import Measured, TooFew, conclude, verdict

RE, PA, IN, AB, CO = "reproduced", "in part", "inconclusive", "absent", "contradicted"
PATTERN = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2.5)  # five seeds, mean 0, sd 1
T975 = 2.7764451  # Student's, 4 degrees of freedom; .95: 2.1318468, so that the 90 % half-width is .768 of the 95 % one


def around(mean: float, half: float) -> np.ndarray:
    """Five values whose 95 % interval is mean ± half."""
    return mean + PATTERN * half * math.sqrt(5) / T975


def shown_below(alpha: float, mean: float = 2.0, against: float = 0.0) -> np.ndarray:
    """Five values whose interval of level 1 - alpha just reaches `against`: their mean differs from it at p = alpha."""
    return around(mean, (mean - against) * T975 / stats.t.ppf(1 - alpha / 2, 4))


def part(kind: str = "effect", name: str = "one", **fields) -> dict:
    if kind == "identity":
        return {"name": name, "kind": kind, "estimate": "e"}
    fields = {"nulls": ["nothing"], "margin": 1.0, "why": "by hand", **fields}
    if kind != "absence":
        fields.setdefault("direction", "more")
    return {"name": name, "kind": kind, "estimate": "e", **fields}


def claim(*parts: dict, combine: str = "all", artefact: str = "") -> Claim:
    named = [{**p, "name": f"part {i}"} for i, p in enumerate(parts)]
    return Claim.model_validate({
        "id": "SP-1", "study": "superposition_phases", "source": "x, y", "origin": "claim", "statement": "s",
        "parts": named, "combine": combine, "artefact": artefact})


def judged(one: dict, values, *nulls) -> verdicts.Finding:
    found = verdict(claim(one), [Measured(values, nulls or (0.0,))])
    assert found.word == found.findings[0].word == found.deciding.word  # a claim of one part says what its part says
    return found.findings[0]


# Every word of every kind, at margin 1 --------------------------------------------------------------------------------

PRINTED, AT_LEAST = {"value": 3.0}, {"value": 3.0, "at_least": True}
SPAN = {"low": 3.0, "high": 4.0}
EFFECTS = [  # mean, half-width of the 95 % interval, what is printed, word, where the printed figure lies
    (2.0, 1.0, None, RE, ""),
    (1.01, 0.9, None, RE, ""),  # as large as the margin
    (0.9, 0.5, None, PA, ""),  # above 0, but smaller; its 90 % interval leaves the margin
    (0.5, 0.4, None, AB, ""),  # above 0, but too small to matter
    (0.0, 1.2, None, AB, ""),  # the 90 % interval decides: ± .92
    (-0.5, 0.4, None, AB, ""),  # below 0, but too small to matter
    (0.0, 1.4, None, IN, ""),  # ± 1.07
    (2.0, 2.1, None, IN, ""),  # large, and not shown
    (-0.9, 0.5, None, CO, ""),
    (-2.0, 1.0, None, CO, ""),
    (3.5, 1.0, PRINTED, RE, "inside"),
    (1.8, 1.0, PRINTED, PA, "smaller"),
    (5.0, 1.0, PRINTED, PA, "larger"),
    (0.9, 0.5, PRINTED, PA, "smaller"),
    (0.0, 1.4, PRINTED, IN, "smaller"),  # too few seeds, and yet known to be smaller
    (2.0, 2.1, PRINTED, IN, "inside"),
    (0.0, 0.5, PRINTED, AB, "smaller"),
    (-2.0, 1.0, PRINTED, CO, "smaller"),
    (2.5, 1.0, AT_LEAST, RE, "inside"),  # reaches it
    (5.0, 1.0, AT_LEAST, RE, "inside"),  # exceeds it, as claimed
    (1.8, 1.0, AT_LEAST, PA, "smaller"),
    (2.5, 1.0, SPAN, RE, "inside"),
    (4.5, 1.0, SPAN, RE, "inside"),
    (1.5, 1.0, SPAN, PA, "smaller"),
    (5.5, 1.0, SPAN, PA, "larger"),
    (5.5, 1.0, {**SPAN, "at_least": True}, RE, "inside"),
    (1.5, 1.0, {**SPAN, "at_least": True}, PA, "smaller"),
]


@pytest.mark.parametrize("mean, half, printed, word, lies", EFFECTS)
def test_an_effect(mean, half, printed, word, lies):
    found = judged(part(printed=printed), around(mean, half))
    assert (found.word, found.printed) == (word, lies)
    assert found.excess == pytest.approx((mean, mean - half, mean + half), abs=1e-6)


def mirrored(printed: dict | None) -> dict | None:
    if printed is None or "value" in printed:
        return printed and {**printed, "value": -printed["value"]}
    return {**printed, "low": -printed["high"], "high": -printed["low"]}


@pytest.mark.parametrize("mean, half, printed, word, lies", EFFECTS)
def test_an_effect_towards_less_is_its_mirror_image(mean, half, printed, word, lies):
    found = judged(part(direction="less", printed=mirrored(printed)), -around(mean, half))
    assert (found.word, found.printed) == (word, lies)
    assert found.excess.estimate == pytest.approx(mean) and found.estimate.estimate == pytest.approx(-mean)


@pytest.mark.parametrize("size, word", [(1.0, RE), (0.99, AB), (0.0, AB), (-0.99, AB), (-1.0, CO)])
def test_seeds_that_agree_are_judged_like_any_and_the_margin_itself_matters(size, word):
    assert judged(part(), np.full(3, size)).word == word


def test_the_printed_figure_is_compared_with_the_estimate_and_the_null_with_the_excess():
    one = part(printed={"value": 13.0, "against": 10.0})
    assert judged(one, around(13, 1), 10.0).word == RE and judged(one, around(12, 0.9), 10.0).word == PA
    assert judged(one, around(13, 1), 13.0).word == AB  # what is printed, and no more than the null


@pytest.mark.parametrize("mean, half, null, word", [
    (5.0, 1.9, 0.0, RE),  # [3.1, 6.9] in [4 - 1, 6 + 1]
    (5.0, 2.1, 0.0, PA),  # off its null, and reaches out of the range
    (3.5, 0.6, 0.0, PA),  # below the range by more than the margin
    (8.0, 0.9, 0.0, PA),  # beyond it: off the null on the claimed side all the same
    (0.5, 2.0, 0.0, IN),
    (0.2, 0.9, 0.0, CO),  # no further from the null than the margin: the 90 % interval decides
    (0.5, 0.4, 0.0, CO),  # that too, although off it
    (-3.0, 1.0, 0.0, CO),  # on the null's side
    (5.0, 0.4, 6.5, CO),  # in the range, where the null is above
    (5.0, 0.4, 4.5, CO),  # in the range, where the null is in it
    (5.0, 1.9, 4.0, IN),  # in the range, and not told from the null
])
def test_a_range_of_4_to_6(mean, half, null, word):
    assert judged(part("range", range=(4.0, 6.0)), around(mean, half), null).word == word
    assert judged(part("range", range=(-6.0, -4.0), direction="less"), -around(mean, half), -null).word == word


@pytest.mark.parametrize("mean, half, two_sided, no_more", [
    (0.0, 1.2, RE, RE),  # the 90 % interval decides: ± .92
    (0.5, 0.4, RE, RE),  # something is there, and too small to matter
    (0.8, 0.5, IN, IN),
    (0.0, 1.4, IN, IN),
    (1.5, 0.4, CO, CO),
    (1.5, 0.6, IN, IN),  # the 95 % interval must leave the margin
    (-1.5, 0.4, CO, RE),  # less is no harm where "no more" is claimed
    (-1.0, 1.5, IN, RE),
    (1.0, 0.0, IN, IN),  # the margin itself
])
def test_an_absence(mean, half, two_sided, no_more):
    values = around(mean, half)
    assert judged(part("absence"), values).word == judged(part("absence"), -values).word == two_sided
    assert judged(part("absence", direction="more"), values).word == no_more
    assert judged(part("absence", direction="less"), -values).word == no_more


@pytest.mark.parametrize("values, word", [(True, RE), (np.array([True, True]), RE), ([True, False], CO), (False, CO)])
def test_an_identity_holds_or_does_not(values, word):
    found = judged(part("identity"), values)
    assert found.word == word
    assert (found.estimate, found.excess, found.spread, found.detectable, found.deciding_n) == (None,) * 5
    assert found.printed == ""


# Nulls ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("nulls, word, worst", [
    ((0.0, 1.0), RE, 1),  # over both: the nearer
    ((4.0, 0.0), AB, 0), ((0.0, 4.0), AB, 1),  # as much as one of them
    ((0.0, 7.0), CO, 1),
    ((0.0, around(0, 6)), IN, 1),  # the second null wavers with its seed
])
def test_of_two_nulls_the_worst_decides(nulls, word, worst):
    found = judged(part(nulls=["chance", "permuted"]), around(4, 0.5), *nulls)
    assert (found.word, found.worst) == (word, worst)
    assert found.excess.estimate == pytest.approx(4 - np.mean(nulls[worst]))


def test_of_two_nulls_of_an_absence_the_one_farther_off_decides():
    for direction, values in (("more", around(0, 0.1)), ("less", -around(0, 0.1)), (None, around(0, 0.1))):
        sign = -1 if direction == "less" else 1
        found = judged(part("absence", direction=direction, nulls=["a", "b"]), values, sign * 0.1, sign * -0.5)
        assert (found.word, found.worst) == (RE, 1)
    assert judged(part("absence", nulls=["a", "b"]), around(0, 0.1), 0.5, 0.1).worst == 0  # on either side


def test_a_null_of_the_same_seeds_is_taken_off_seed_by_seed():
    luck = np.array([10.0, -30, 20, 0, 5])
    assert judged(part(), luck + around(2, 1)).word == IN
    assert judged(part(), luck + around(2, 1), luck).excess == pytest.approx((2, 1, 3), abs=1e-6)


# What is no mean over seeds -------------------------------------------------------------------------------------------

def statistic(mean: float, half: float):
    """Level -> mean ± half at 95 %, as Student's would widen it."""
    return lambda level: Interval(mean, *(mean + s * half * stats.t.ppf((1 + level) / 2, 4) / T975 for s in (-1, 1)))


@pytest.mark.parametrize("mean, half, word", [(2, 1, RE), (0.9, 0.5, PA), (0, 1.2, AB), (0, 1.4, IN), (-2, 1, CO)])
def test_a_statistic_is_judged_as_values_with_its_interval(mean, half, word):
    for null in (5.0, statistic(mean, half)):  # a number, or the statistic of the excess over it
        found = judged(part(), statistic(mean + 5.0, half), null)
        assert found.word == word and found.excess == pytest.approx((mean, mean - half, mean + half), abs=1e-6)
        assert (found.spread, found.detectable, found.deciding_n, found.measured.n) == (None, None, None, None)
    assert judged(part(direction="less"), statistic(5.0 - mean, half), 5.0).word == word
    mixed = judged(part(), around(mean, half), statistic(mean, half))
    assert (mixed.word, mixed.spread) == (word, None)
    assert Measured(statistic(mean, half), seeds=7).n == 7


# Combining ------------------------------------------------------------------------------------------------------------

SAYS = {RE: around(5, 0.5), PA: around(0.95, 0.4), IN: around(0, 5), AB: around(0, 0.1), CO: around(-5, 0.5)}
PAIRS = {  # two parts -> all, each, any
    (RE, RE): (RE, RE, RE),
    (RE, PA): (PA, PA, RE), (PA, PA): (PA, PA, PA),
    (RE, IN): (IN, PA, RE), (PA, IN): (IN, PA, PA), (IN, IN): (IN, IN, IN),
    (RE, AB): (AB, PA, RE), (PA, AB): (AB, PA, PA), (IN, AB): (AB, IN, IN), (AB, AB): (AB, AB, AB),
    (RE, CO): (CO, PA, RE), (PA, CO): (CO, PA, PA), (IN, CO): (CO, CO, IN), (AB, CO): (CO, CO, AB),
    (CO, CO): (CO, CO, CO),
}


@pytest.mark.parametrize("pair", [*PAIRS, *(pair[::-1] for pair in PAIRS if pair[0] != pair[1])])
@pytest.mark.parametrize("combine", ["all", "each", "any"])
def test_two_parts(pair, combine):
    words = PAIRS.get(pair) or PAIRS[pair[::-1]]
    found = verdict(claim(part(), part(), combine=combine), [Measured(SAYS[word]) for word in pair])
    assert tuple(finding.word for finding in found.findings) == pair
    assert found.word == dict(zip(("all", "each", "any"), words, strict=True))[combine]
    best, worst = sorted(pair, key=[RE, PA, IN, AB, CO].index)
    weakest_shown = PA if PA in pair else RE
    decides = {"all": worst, "any": best, "each": weakest_shown if found.word == PA else found.word}[combine]
    assert found.deciding.word == decides


def test_a_word_of_two_parts_needs_every_pair():
    assert len(PAIRS) == 15 and set(PAIRS) == set(itertools.combinations_with_replacement([RE, PA, IN, AB, CO], 2))


OPEN, SHOWN, BARELY = around(0, 5), shown_below(0.024), shown_below(0.026)  # two parts: Holm's levels are .025 and .05
UNSHOWN = shown_below(0.051)


@pytest.mark.parametrize("combine, parts, word, found", [
    ("any", (SHOWN, OPEN), RE, [1, 0]),
    ("any", (BARELY, OPEN), IN, [1, 1]),
    ("any", (BARELY, SHOWN), RE, [1, 1]),  # the second step is at .05
    ("any", (UNSHOWN, SHOWN), RE, [0, 1]),
    ("any", (BARELY, BARELY), RE, [1, 1]),  # both, at .05
    ("any", (BARELY, SAYS[AB]), IN, [1, 0]),
    ("each", (SHOWN, OPEN), PA, [1, 0]),
    ("each", (BARELY, OPEN), IN, [1, 1]),
    ("each", (BARELY, SHOWN), RE, [1, 1]),
    ("each", (BARELY, shown_below(0.026, 0.95)), PA, [1, 1]),  # both, one of them small
    ("each", (UNSHOWN, SHOWN), PA, [0, 1]),
    ("each", (around(0.83, 0.2), OPEN), IN, [0, 1]),  # absent by its own level, there by Holm's: not there
    ("each", (-SHOWN, OPEN), CO, [1, 0]),
    ("each", (-BARELY, OPEN), IN, [1, 1]),
    ("each", (-BARELY, -BARELY), CO, [1, 1]),
    ("each", (-BARELY, SAYS[AB]), IN, [1, 0]),
    ("all", (-SHOWN, SAYS[RE]), CO, [1, 0]),
    ("all", (-BARELY, SAYS[RE]), IN, [1, 0]),  # refuted by its own level, not by Holm's
    ("all", (-BARELY, -SHOWN), CO, [1, 1]),
    ("all", (-BARELY, -BARELY), CO, [1, 1]),
    ("all", (BARELY, BARELY), RE, [1, 1]),  # a conjunction is shown where every part is
])
def test_holm_over_two_parts(combine, parts, word, found):
    combined = verdict(claim(part(), part(), combine=combine), [Measured(values) for values in parts])
    assert (combined.word, [*combined.found]) == (word, found)


def test_an_absence_refutes_a_conjunction_at_holms_level_too():
    for alpha, word in ((0.024, AB), (0.026, IN)):  # two one-sided tests: the margin just reached at level 1 - 2 alpha
        values = shown_below(2 * alpha, mean=0.0, against=1.0)
        combined = verdict(claim(part(), part()), [Measured(values), Measured(SAYS[RE])])
        assert combined.findings[0].word == combined.word == word


@pytest.mark.parametrize("n_shown, level, present", [(1, 0.009, 1), (1, 0.011, 0), (4, 0.011, 0), (5, 0.049, 5)])
def test_holm_over_five_parts(n_shown, level, present):
    parts = [shown_below(level)] * n_shown + [OPEN] * (5 - n_shown)
    combined = verdict(claim(*[part()] * 5, combine="any"), [Measured(values) for values in parts])
    assert combined.word == (RE if present else IN) and (not present or combined.found.sum() == present)


def test_of_any_range_the_best_is_met_at_holms_level():
    span = part("range", range=(2.0, 3.0), direction="more", margin=0.2)
    barely = [Measured(shown_below(0.026, 2.5, 1.8)), Measured(OPEN)]  # met at .05, not at .025
    assert verdict(claim(span, span, combine="any"), barely).word == PA
    surely = [Measured(shown_below(0.024, 2.5, 1.8)), Measured(OPEN)]
    assert verdict(claim(span, span, combine="any"), surely).word == RE


def test_holm_steps_down_as_far_as_it_goes():
    levels = [0.009, 0.012, 0.016, 0.026, 0.06]  # against .01, .0125, .0167, .025, .05: the fourth stops it
    combined = verdict(claim(*[part()] * 5, combine="any"), [Measured(shown_below(p)) for p in levels])
    assert [*combined.found] == [1, 1, 1, 0, 0]


def test_the_family_that_may_refute_is_every_null_and_an_identity_is_in_none():
    one, two = part(), part(nulls=["a", "b"])
    below = Measured(-BARELY)  # at p = .026: refuted alone, not as one of two
    above = -BARELY - SAYS[RE]  # a null that lies far below
    assert verdict(claim(one), [below]).word == CO
    assert verdict(claim(one, part("identity")), [below, Measured(True)]).word == CO
    assert verdict(claim(two), [Measured(-BARELY, (0.0, above))]).word == IN
    assert verdict(claim(two), [Measured(-SHOWN, (0.0, -SHOWN - SAYS[RE]))]).word == CO
    assert verdict(claim(two), [Measured(UNSHOWN + 5, (0.0, 1.0))]).word == RE  # presence needs every null: no family
    assert verdict(claim(one, part("identity"), combine="any"), [Measured(BARELY), Measured(False)]).word == RE
    assert verdict(claim(part("identity"), part("identity")), [Measured(True), Measured(True)]).word == RE


def test_a_recipe_on_its_null_shows_nothing_and_one_that_breaks_an_absence_another_size():
    span = part("range", range=(2.0, 3.0), direction="more", margin=0.5)
    on_null = verdict(claim(span), [Measured(around(0, 0.1))])
    assert (on_null.word, on_null.as_recipe) == (CO, "nothing seen")
    assert verdict(claim(span), [Measured(around(-3, 0.1))]).as_recipe == "nothing seen"  # a place has no sign
    places = claim(part(), part(), part(), combine="each")
    there, nowhere, opposed, little = (Measured(SAYS[word]) for word in (RE, AB, CO, PA))
    assert verdict(places, [there, there, nowhere]).as_recipe == "in some places"
    assert verdict(places, [there, there, little]).as_recipe == "other size"
    assert verdict(places, [there, there, opposed]).as_recipe == "other sign"
    assert verdict(claim(part("absence")), [Measured(around(5, 0.1))]).as_recipe == "other size"
    assert verdict(claim(part("identity")), [Measured(False)]).as_recipe == "nothing seen"


def test_a_statistic_is_computed_once_a_level_and_must_be_finite():
    asked = []

    def drawn(level: float) -> Interval:
        asked.append(level)
        return Interval(3.0, 2.5, 3.5)

    found = verdict(claim(part()), [Measured(drawn, seeds=7)])
    assert found.word == RE and found.deciding.excess and found.deciding.estimate
    assert len(asked) == len(set(asked)) and found.deciding.measured.n == 7
    with pytest.raises(verdicts.TooFew, match="a statistic is not finite"):
        verdict(claim(part()), [Measured(lambda level: Interval(0.0, math.nan, 1.0))])


@pytest.mark.parametrize("combine, means, decides", [
    ("all", (3.0, 2.0, 4.0), 1), ("each", (3.0, 2.0, 4.0), 1), ("any", (3.0, 2.0, 4.0), 2),
    ("each", (3.0, 0.0, 4.0), 0),  # in part: the weakest that is there
    ("all", (-3.0, -4.0, 2.0), 1), ("each", (-3.0, -4.0, 0.0), 1), ("any", (-3.0, -4.0, -2.0), 2),
    ("all", (0.2, 0.1, 2.0), 1), ("any", (0.2, 0.1, -3.0), 0),
])
def test_of_parts_of_one_word_the_weakest_decides_and_of_any_the_strongest(combine, means, decides):
    found = verdict(claim(*[part()] * 3, combine=combine), [Measured(around(mean, 0.1)) for mean in means])
    assert found.findings.index(found.deciding) == decides


def test_of_absences_the_one_nearest_to_fail_decides_and_an_identity_never_does_while_it_holds():
    found = verdict(claim(part("absence", direction="more"), part("absence", direction="more"), part("identity")),
                    [Measured(around(0.1, 0.1)), Measured(around(0.5, 0.1)), Measured(True)])
    assert found.word == RE and found.findings.index(found.deciding) == 1
    broken = verdict(claim(part(), part("identity")), [Measured(SAYS[RE]), Measured(False)])
    assert broken.word == CO and broken.deciding.part.kind == "identity"


def test_thousands_of_claims_are_judged_as_one_by_one():
    rng = np.random.default_rng(0)
    means = rng.uniform(-2, 3, (3, 50, 1)) * np.array([1, 1, 0.5])[:, None, None]
    values = means + 0.8 * rng.normal(size=(3, 50, 5))
    for combine in ("all", "each", "any"):
        three = claim(part(), part(nulls=["a", "b"]), part("absence"), combine=combine)
        together = verdict(three, [Measured(values[0]), Measured(values[1], (0.0, values[2])), Measured(values[2])])
        alone = [verdict(three, [Measured(a), Measured(b, (0.0, c)), Measured(c)])
                 for a, b, c in np.moveaxis(values, 1, 0)]
        assert [verdicts.WORDS[code] for code in together.code] == [one.word for one in alone]
        assert np.array_equal(together.found, np.stack([one.found for one in alone], axis=1))
        assert len(set(together.code)) >= 2


# The published recipe and the other cause -----------------------------------------------------------------------------

LARGE = part(printed={"value": 3.0})


@pytest.mark.parametrize("published, recipe", [
    (around(3, 0.5), "comes out"), (around(2, 0.5), "other size"), (around(0, 0.5), "nothing seen"),
    (around(2, 2.1), "nothing seen"), (around(-3, 0.5), "other sign")])
@pytest.mark.parametrize("ours", [RE, PA, IN, AB, CO])
def test_the_published_recipe_has_words_of_its_own_and_caps_a_claim_it_does_not_show(published, recipe, ours):
    values = around(3, 0.5) if ours == RE else SAYS[ours]
    word, found, read = conclude(claim(LARGE), [Measured(values)], [Measured(published)])
    assert (found.word, read.as_recipe) == (ours, recipe)
    assert word == (PA if (ours, recipe) == (RE, "other sign") else ours)


def test_a_recipe_that_was_not_run_or_lacks_a_part():
    two = claim(LARGE, part())
    ours = [Measured(around(3, 0.5)), Measured(SAYS[RE])]
    assert conclude(two, ours)[2] is None and conclude(two, ours, [None, None])[2] is None
    word, _, read = conclude(two, ours, [None, Measured(-SAYS[RE])])
    assert word == PA and [finding.part.name for finding in read.findings] == ["part 1"]
    with pytest.raises(ClaimError, match=r"SP-1: 2 parts are declared, 1 given \(None: not run\)"):
        conclude(two, ours, [Measured(SAYS[RE])])


@pytest.mark.parametrize("ours, published, without_cause, word", [
    (SAYS[AB], around(3, 0.5), SAYS[AB], "artefact"),
    (SAYS[CO], around(3, 0.5), SAYS[AB], "artefact"),
    (SAYS[AB], around(3, 0.5), SAYS[CO], "artefact"),
    (SAYS[AB], around(3, 0.5), around(0, 1.4), "artefact"),  # nothing seen, and known to be smaller than printed
    (SAYS[AB], around(3, 0.5), SAYS[IN], AB),  # nothing seen: the figure may still be there
    (SAYS[AB], around(3, 0.5), SAYS[PA], AB),  # it shrinks and stays
    (SAYS[AB], around(3, 0.5), around(3, 0.5), AB),  # the other cause makes no difference
    (SAYS[AB], around(3, 0.5), None, AB),  # nobody looked
    (SAYS[IN], around(3, 0.5), SAYS[AB], IN),  # the matched test refutes nothing
    (SAYS[PA], around(3, 0.5), SAYS[AB], PA),
    (SAYS[AB], around(2, 0.5), SAYS[AB], AB),  # the printed figure does not come out
    (SAYS[AB], None, SAYS[AB], AB),
])
def test_an_artefact_needs_the_figure_to_come_out_the_claim_to_fall_and_the_figure_to_go(
    ours, published, without_cause, word
):
    given = [[None if values is None else Measured(values + 0)] for values in (published, without_cause)]
    assert conclude(claim(LARGE, artefact="the step"), [Measured(ours)], *given)[0] == word


def test_nothing_can_be_taken_away_that_the_claim_does_not_name():
    with pytest.raises(ClaimError, match=r"SP-1: names no other cause \(artefact\), so none can be taken away"):
        conclude(claim(LARGE), [Measured(SAYS[AB])], [Measured(SAYS[RE])], [Measured(SAYS[AB] + 0)])


@pytest.mark.parametrize("printed, word", [({"value": 3.0}, "artefact"), (None, AB)])
def test_an_artefact_is_of_a_printed_figure(printed, word):
    given = [[Measured(values)] for values in (SAYS[AB], SAYS[RE], SAYS[AB] + 0)]
    given[1] = [Measured(around(3, 0.5))]
    assert conclude(claim(part(printed=printed), artefact="the step"), *given)[0] == word


def test_the_test_itself_takes_no_cause_away():
    with pytest.raises(ClaimError, match="SP-1: the recipe without its other cause is the very test of the claim"):
        conclude(claim(LARGE, artefact="a"), [Measured(SAYS[AB])], [Measured(around(3, 0.5))], [Measured(SAYS[AB])])
    holds = [Measured(True)]  # of every identity that holds the value is the same True
    assert conclude(claim(part("identity"), artefact="a"), holds, [Measured(False)], [Measured(True)])[0] == RE
    with pytest.raises(ClaimError, match="is the very test of the claim"):
        conclude(claim(part("identity"), artefact="a"), holds, [Measured(False)], holds)


# What the seeds could show --------------------------------------------------------------------------------------------

def test_the_smallest_effect_and_the_seeds_that_decide_by_hand():
    # n = 5: (t_.975 + t_.8) / sqrt(5) = (2.776445 + .940965) / 2.236068; n = 9: (2.306004 + .888890) / 3 = 1.0650;
    # n = 10: (2.262157 + .883404) / 3.162278 = .9947
    assert verdicts.detectable(1.0, 5) == pytest.approx(1.662475, abs=1e-5)
    assert verdicts.detectable(3.0, 10) == pytest.approx(3 * 0.994714, abs=1e-5)
    assert [verdicts.deciding_n(1.0, margin) for margin in (1.07, 1.06, 1.0, 0.99)] == [9, 10, 10, 11]
    assert verdicts.deciding_n(0.0, 1.0) == 2 and verdicts.deciding_n(1.0, 0.001) is None
    found = judged(part(margin=2.0), PATTERN + np.array([3, 0, 0, 0, 0]), np.array([3.0, 0, 0, 0, 0]))
    assert found.spread == pytest.approx(1) and found.detectable == pytest.approx(1.662475, abs=1e-5)
    assert found.deciding_n == 5  # (n = 4: (3.182446 + .978472) / 2 = 2.08)


def test_the_spread_is_that_over_the_null_that_decides():
    found = judged(part(nulls=["still", "wavering"]), around(0.5, 3), 0.0, 2.5 - 2 * PATTERN)
    assert found.worst == 1 and found.spread == pytest.approx(3 * math.sqrt(5) / T975 + 2)


# Refusals -------------------------------------------------------------------------------------------------------------

GOOD = Measured(SAYS[RE])


@pytest.mark.parametrize("parts, error, message", [
    ([GOOD], ClaimError, "SP-1: 2 parts are declared, 1 were measured"),
    ([GOOD, Measured(SAYS[RE], (0.0, 0.0))], ClaimError, "part 1: 1 nulls are declared, 2 were measured"),
    ([GOOD, Measured(SAYS[RE], ())], ClaimError, "part 1: 1 nulls are declared, 0 were measured"),
    ([GOOD, Measured([1.0, np.nan])], TooFew, "part 1: a value is not finite"),
    ([GOOD, Measured([1.0, 2.0], [np.inf])], TooFew, "part 1: a value is not finite"),
    ([GOOD, Measured([1.0, 2.0], [[1.0, np.nan]])], TooFew, "part 1: a value is not finite"),
    ([Measured([1.0]), GOOD], TooFew, r"part 0: one value per seed, two seeds at least, got shape \(1,\)"),
    ([Measured(1.0), GOOD], TooFew, r"two seeds at least, got shape \(\)"),
    ([GOOD, Measured([1.0, 2.0], [[1.0, 2.0, 3.0]])], ClaimError, r"values \(2,\) and null \(3,\) must share"),
    ([GOOD, Measured(statistic(1, 1), [[1.0, 2.0]])], ClaimError, r"values \(\) and null \(2,\) must share"),
])
def test_what_cannot_be_judged_is_refused(parts, error, message):
    with pytest.raises(ClaimError, match=message) as caught:
        verdict(claim(part(), part()), parts)
    assert caught.type is error


@pytest.mark.parametrize("values", [1, [1.0, 1.0], "True", [], np.array([], bool), statistic(1, 1)])
def test_an_identity_takes_truth_values_alone(values):
    with pytest.raises(ClaimError, match="part 0: an identity takes truth values"):
        verdict(claim(part("identity")), [Measured(values)])


def test_parts_may_differ_in_their_seeds():
    assert verdict(claim(part(), part()), [GOOD, Measured([5.0, 5.1, 4.9])]).word == RE


def test_a_record_shows_three_digits_and_no_exponent_near_a_thousand():
    assert [number(x) for x in (999.4, 999.6, -999.7, 12345.6)] == ["999", "1,000", "-1,000", "12,346"]
