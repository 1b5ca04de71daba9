"""From measured values to a word: the rules by which every claim of the book is judged, as pure functions.

A part of a claim is estimated once per seed; its excess over a null decides, by Student's interval at every number of
seeds. All functions take values [..., n], so that thousands of simulated claims go through the very code that judges
the real ones.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lib.metrics.statistics import Interval
from lib.press.claims import Claim, ClaimError, Part

WORDS = ("contradicted", "absent", "inconclusive", "in part", "reproduced")
"""What one part, or a claim of parts, may come to, worst first; a word's place is its code."""
CONTRADICTED, ABSENT, INCONCLUSIVE, IN_PART, REPRODUCED = range(5)

ARTEFACT, UNTESTED = "artefact", "not tested here"
"""The two words that only a whole claim may get."""

RECIPE = ("comes out", "in some places", "other size", "nothing seen", "other sign", "not run")
"""What the published recipe may have done."""
COMES_OUT, SOME_PLACES, OTHER_SIZE, NOTHING_SEEN, OTHER_SIGN, NOT_RUN = RECIPE

ALPHA = 0.05
POWER = 0.8
_MOST_SEEDS = 10_000

Statistic = Callable[[float], Interval]
"""Level -> interval, for what is no mean over seeds, such as where a curve is steepest; called once a level."""


class TooFew(ClaimError):
    """Fewer than two seeds, or a value that is not finite: nothing can be said about a part."""


@dataclass(frozen=True)
class Measured:
    """What one part came to: its estimate in each seed, and what its nulls read.

    Args:
        values: [..., n], one per seed, or a `Statistic`; for an identity one or more truth values.
        nulls: for every null of the part, in its order: a number, values of the same seeds [..., n], or, for a
            statistic, the `Statistic` of its excess over that null.
        seeds: number of seeds behind a statistic.
    """

    values: ArrayLike | Statistic
    nulls: Sequence[ArrayLike | Statistic] = (0.0,)
    seeds: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _steady(self.values))
        object.__setattr__(self, "nulls", tuple(_steady(null) for null in self.nulls))

    @property
    def n(self) -> int | None:
        """Number of seeds."""
        return self.seeds if callable(self.values) else np.shape(self.values)[-1]

    def estimate(self, level: float = 1 - ALPHA) -> Interval:
        """Interval of the estimate itself."""
        return self.values(level) if callable(self.values) else student(np.asarray(self.values, float), level)

    def excesses(self, level: float, less: bool = False) -> list[Interval]:
        """Interval of the excess over each null, counted towards less where that is claimed."""
        found = [self._excess(null, level) for null in self.nulls]
        return [-interval for interval in found] if less else found

    def _excess(self, null: ArrayLike | Statistic, level: float) -> Interval:
        if callable(null):
            return null(level)
        if callable(self.values):
            return self.values(level).shifted(-float(null))
        return student(np.asarray(self.values, float) - np.asarray(null, float), level)

    def check(self, where: str, part: Part) -> None:
        """Raise ClaimError unless these are values of `part`."""
        if part.kind == "identity":
            if np.asarray(self.values).dtype != bool or not np.size(self.values):
                raise ClaimError(f"{where}: an identity takes truth values, got {self.values!r}")
            return
        if len(self.nulls) != len(part.nulls):
            raise ClaimError(f"{where}: {len(part.nulls)} nulls are declared, {len(self.nulls)} were measured")
        for what in (self.values, *self.nulls):
            if not callable(what) and not np.isfinite(np.asarray(what, float)).all():
                raise TooFew(f"{where}: a value is not finite; decide what it means first")
        shape = () if callable(self.values) else np.shape(self.values)
        if not callable(self.values) and (not shape or shape[-1] < 2):
            raise TooFew(f"{where}: one value per seed, two seeds at least, got shape {shape}")
        for null in self.nulls:
            if not callable(null) and np.ndim(null) and np.shape(null) != shape:
                raise ClaimError(f"{where}: values {shape} and null {np.shape(null)} must share their seeds")


def _steady(values: ArrayLike | Statistic) -> ArrayLike | Statistic:
    """Values as they are; a statistic computed once a level, since it may draw."""
    if not callable(values):
        return values

    @cache
    def at(level: float) -> Interval:
        found = values(level)
        if not np.isfinite(found).all():
            raise TooFew(f"a statistic is not finite at level {level:g}: {found}")
        return found

    return at


def student(values: np.ndarray, level: float = 1 - ALPHA) -> Interval:
    """Student's interval of the mean over the last axis, values [..., n] with n >= 2."""
    mean = values.mean(-1)
    half = stats.t.ppf((1 + level) / 2, values.shape[-1] - 1) * values.std(-1, ddof=1) / math.sqrt(values.shape[-1])
    return Interval(mean, mean - half, mean + half)


def detectable(spread: float, n: int) -> float:
    """The smallest effect that n seeds of standard deviation `spread` would show in four of five tries.

    (t_.975 + t_.8) s / sqrt(n), n - 1 degrees of freedom. Source: Bloom 1995.
    """
    return float((stats.t.ppf(1 - ALPHA / 2, n - 1) + stats.t.ppf(POWER, n - 1)) * spread / math.sqrt(n))


def deciding_n(spread: float, margin: float) -> int | None:
    """The fewest seeds whose `detectable` effect is at most `margin`; None where ten thousand do not do."""
    if detectable(spread, _MOST_SEEDS) > margin:
        return None
    low, high = 1, _MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if detectable(spread, middle) <= margin else (middle, high)
    return high


@dataclass(frozen=True)
class Finding:
    """What one part came to among the parts of its claim. `code` [...] is the place of its word in `WORDS`."""

    part: Part
    measured: Measured
    code: np.ndarray

    @property
    def word(self) -> str:
        return WORDS[int(self.code)]

    @cached_property
    def worst(self) -> int:
        """Index of the null that decides: the one that leaves the worst word, and of those the worst excess."""
        excesses = self.measured.excesses(1 - ALPHA, self.part.direction == "less")
        codes = _codes_by_null(self.part, self.measured, ALPHA)
        return min(range(len(excesses)), key=lambda i: (int(codes[i]), self._merit(excesses[i])))

    def standing(self) -> tuple[float, float]:
        """How well the part stands: the code of its word, then its excess in margins; an identity is never near."""
        return float(self.code), math.inf if self.excess is None else self._merit(self.excess)

    def _merit(self, excess: Interval) -> float:
        """The excess in margins; of an absence what it lacks, since there less is better, or nearer to the null."""
        size = abs(excess.estimate) if self.part.direction is None else excess.estimate
        return float(-size if self.part.kind == "absence" else size) / self.part.margin

    @property
    def excess(self) -> Interval | None:
        """95 % interval of the excess over the worst null, positive as claimed; None of an identity."""
        if self.part.kind == "identity":
            return None
        return _plain(self.measured.excesses(1 - ALPHA, self.part.direction == "less")[self.worst])

    @property
    def estimate(self) -> Interval | None:
        """95 % interval of the estimate; None of an identity."""
        return None if self.part.kind == "identity" else _plain(self.measured.estimate())

    @property
    def spread(self) -> float | None:
        """Standard deviation of the excess between seeds; None where there is no value per seed."""
        null = None if self.part.kind == "identity" else self.measured.nulls[self.worst]
        if null is None or callable(null) or callable(self.measured.values):
            return None
        return float((np.asarray(self.measured.values, float) - np.asarray(null, float)).std(ddof=1))

    @property
    def detectable(self) -> float | None:
        """The smallest effect these seeds would show (`detectable`)."""
        return None if self.spread is None else detectable(self.spread, self.measured.n)

    @property
    def deciding_n(self) -> int | None:
        """The seeds that would show an effect of the margin (`deciding_n`)."""
        return None if self.spread is None else deciding_n(self.spread, self.part.margin)

    @property
    def printed(self) -> str:
        """Where the printed figure lies: "inside" the estimate's interval, or what the estimate is beside it.

        An effect is "smaller" or "larger", counted as claimed; anything else lies "below" or "above" the figure.
        """
        if self.part.printed is None or self.estimate is None:
            return ""
        low, high = self.part.printed.ends
        below, less = self.estimate.below(low), self.part.direction == "less"
        if self.estimate.overlaps(low, high) or (self.part.printed.at_least and below == less):
            return "inside"
        if self.part.kind == "effect":
            return "larger" if below == less else "smaller"
        return "below" if below else "above"


@dataclass(frozen=True)
class Verdict:
    """What the parts of a claim come to together. `code` [...] is the place of the word in `WORDS`."""

    claim: Claim
    findings: tuple[Finding, ...]
    code: np.ndarray
    found: np.ndarray
    """[k, ...] which parts carry the word, after Holm."""

    @property
    def word(self) -> str:
        return WORDS[int(self.code)]

    @property
    def deciding(self) -> Finding:
        """The part that decides, of those that carry the word: the best where one is enough, else the worst."""
        carrying = [finding for finding, found in zip(self.findings, self.found, strict=True) if found]
        return (max if self.claim.combine == "any" else min)(carrying, key=Finding.standing)

    @property
    def as_recipe(self) -> str:
        """What a published recipe with this verdict did, one of `RECIPE`."""
        refuted = [finding.part.kind for finding in self.findings if finding.code == CONTRADICTED]
        if "effect" in refuted:
            return OTHER_SIGN
        if self.code >= IN_PART:
            absent = any(finding.code < IN_PART for finding in self.findings)
            return COMES_OUT if self.code == REPRODUCED else SOME_PLACES if absent else OTHER_SIZE
        return OTHER_SIZE if "absence" in refuted else NOTHING_SEEN


def verdict(claim: Claim, parts: Sequence[Measured]) -> Verdict:
    """Judge `claim` by the measured values of its parts.

    Before they are combined, what a part shows only by its own level counts as "inconclusive": what a family of k
    parts shows must hold at Holm's level, or in all k. *all* then has its worst word and *any* its best. *each* is
    reproduced if every part is, in part if some part is present, contradicted if some part is, absent if every one is.

    Args:
        claim: from `lib.press.claims.load`.
        parts: one for each part of the claim, in its order.
    Raises:
        ClaimError: a part is missing, a value is not finite, seeds do not match; names the claim and the part.
    """
    if len(parts) != len(claim.parts):
        raise ClaimError(f"{claim.id}: {len(claim.parts)} parts are declared, {len(parts)} were measured")
    for part, measured in zip(claim.parts, parts, strict=True):
        measured.check(f"{claim.id}, {part.name}", part)
    codes = np.stack([_codes(part, measured, ALPHA) for part, measured in zip(claim.parts, parts, strict=True)])
    combined, kept, found = _COMBINE[claim.combine](claim.parts, parts, codes)
    findings = tuple(Finding(*each) for each in zip(claim.parts, parts, kept, strict=True))
    return Verdict(claim, findings, combined, found)


def conclude(
    claim: Claim, parts: Sequence[Measured], published: Sequence[Measured | None] = (),
    without_cause: Sequence[Measured | None] = (),
) -> tuple[str, Verdict, Verdict | None]:
    """The word of a claim, its verdict, and that of the published recipe on the same parts (None: not run).

    *artefact* if a printed figure comes out with the published recipe, the matched test refutes the claim, and the
    figure is seen to go when the other cause (`claim.artefact`) goes: refuted, or nothing seen and the figure outside
    the interval. A recipe of the other sign leaves "in part" at most.

    Args:
        published: the parts by the source's own recipe, None for one it does not have.
        without_cause: the same with the other cause taken away.
    """
    found, recipe, cured = verdict(claim, parts), _of_some(claim, published), _of_some(claim, without_cause)
    if any(own is part or own is not None and own.values is part.values and not isinstance(own.values, (bool, np.bool_))
           for own, part in zip(without_cause, parts, strict=False)):
        raise ClaimError(f"{claim.id}: the recipe without its other cause is the very test of the claim")
    if cured is not None and not claim.artefact:
        raise ClaimError(f"{claim.id}: names no other cause (artefact), so none can be taken away")
    if recipe is None:
        return found.word, found, None
    figure = any(finding.part.printed for finding in recipe.findings)
    if figure and recipe.code == REPRODUCED and found.code <= ABSENT and cured is not None and _gone(cured):
        return ARTEFACT, found, recipe
    capped = min(int(found.code), IN_PART) if recipe.as_recipe == OTHER_SIGN else int(found.code)
    return WORDS[capped], found, recipe


def _gone(cured: Verdict) -> bool:
    return cured.code <= ABSENT or (cured.code == INCONCLUSIVE and cured.deciding.printed not in ("", "inside"))


def _of_some(claim: Claim, parts: Sequence[Measured | None]) -> Verdict | None:
    """The verdict on those parts that were measured; None if none was."""
    if parts and len(parts) != len(claim.parts):
        raise ClaimError(f"{claim.id}: {len(claim.parts)} parts are declared, {len(parts)} given (None: not run)")
    kept = [(part, measured) for part, measured in zip(claim.parts, parts, strict=False) if measured is not None]
    if not kept:
        return None
    return verdict(claim.model_copy(update={"parts": tuple(part for part, _ in kept)}), [m for _, m in kept])


def _codes(part: Part, measured: Measured, alpha: float) -> np.ndarray:
    """Code of the word of one part at error `alpha`, [...]: that of its worst null."""
    if part.kind == "identity":
        return np.where(np.all(measured.values), REPRODUCED, CONTRADICTED)
    return np.min(_codes_by_null(part, measured, alpha), axis=0)


def _codes_by_null(part: Part, measured: Measured, alpha: float) -> list[np.ndarray]:
    """[...] for each null. Two intervals decide: one of level 1 - alpha, and that of two one-sided tests at alpha."""
    estimate = measured.estimate(1 - alpha)
    less = part.direction == "less"
    pairs = zip(measured.excesses(1 - alpha, less), measured.excesses(1 - 2 * alpha, less), strict=True)
    return [_KINDS[part.kind](part, estimate, excess, narrow) for excess, narrow in pairs]


def _effect(part: Part, estimate: Interval, excess: Interval, narrow: Interval) -> np.ndarray:
    if part.printed is None:
        as_large = excess.estimate >= part.margin
    else:
        low, high = part.printed.ends
        as_large = estimate.overlaps(low, high)
        if part.printed.at_least:  # reaches it, or lies beyond it
            as_large |= estimate.below(low) if part.direction == "less" else estimate.above(high)
    present = excess.above(0)
    return np.select(
        [narrow.above(-part.margin) & narrow.below(part.margin), present & as_large, present, excess.below(0)],
        [ABSENT, REPRODUCED, IN_PART, CONTRADICTED], INCONCLUSIVE)


def _range(part: Part, estimate: Interval, excess: Interval, narrow: Interval) -> np.ndarray:
    low, high = part.range
    inside, off = estimate.inside(low - part.margin, high + part.margin), excess.above(0)
    return np.select([excess.below(0) | narrow.below(part.margin), inside & off, off],
                     [CONTRADICTED, REPRODUCED, IN_PART], INCONCLUSIVE)


def _absence(part: Part, estimate: Interval, excess: Interval, narrow: Interval) -> np.ndarray:
    if part.direction is None:
        holds = narrow.above(-part.margin) & narrow.below(part.margin)
        outside = ~excess.overlaps(-part.margin, part.margin)
    else:
        holds, outside = narrow.below(part.margin), excess.above(part.margin)
    return np.select([holds, outside], [REPRODUCED, CONTRADICTED], INCONCLUSIVE)


_KINDS = {"effect": _effect, "range": _range, "absence": _absence}


def _holm(
    parts: Sequence[Part], measured: Sequence[Measured], counts: Callable[[np.ndarray], np.ndarray],
    by_null: bool = False,
) -> np.ndarray:
    """[k, ...] parts whose word `counts`, also at their turn in Holm's levels alpha / k, alpha / (k - 1), ... alpha.

    The family is the parts, or `by_null` every null of every part, where any one may refute. An identity never errs and
    is in no family. Where all count at alpha, none needs more (Simes 1986): else a claim of all would be shown and that
    of any be open.
    """
    pairs = list(zip(parts, measured, strict=True))
    judge = _codes_by_null if by_null else lambda *part: [_codes(*part)]
    sizes = [(part.kind != "identity") * (len(values.nulls) if by_null else 1) for part, values in pairs]
    owner = np.repeat(np.arange(len(pairs)), sizes)  # [tests] the part of each test
    found = np.zeros(1, bool)
    for left in range(len(owner), 0, -1):
        codes = np.stack([code for i in np.unique(owner) for code in judge(*pairs[i], ALPHA / left)])
        found = found | counts(codes) & (found.sum(0) >= len(owner) - left)
    plain = counts(np.stack([_codes(*pair, ALPHA) for pair in pairs]))  # [k, ...]
    if len(owner):
        found = found | counts(codes).all(0)  # codes of the last round, at alpha
    shown = [found[owner == i].any(0) if i in owner else plain[i] for i in range(len(pairs))]
    return np.stack(shown) & plain


_Combined = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The claim's code [...], those of its parts that hold in their family [k, ...], and which parts carry the claim's."""


def _all(parts: Sequence[Part], measured: Sequence[Measured], codes: np.ndarray) -> _Combined:
    refuted = _holm(parts, measured, lambda codes: codes <= ABSENT, by_null=True)
    kept = np.where(refuted, codes, np.maximum(codes, INCONCLUSIVE))
    worst = kept.min(0)
    return worst, kept, kept == worst


def _any(parts: Sequence[Part], measured: Sequence[Measured], codes: np.ndarray) -> _Combined:
    present = _holm(parts, measured, lambda codes: codes >= IN_PART)
    whole = _holm(parts, measured, lambda codes: codes == REPRODUCED)
    kept = np.where(whole, REPRODUCED, np.where(present, IN_PART, np.minimum(codes, INCONCLUSIVE)))
    best = kept.max(0)
    return best, kept, kept == best


def _each(parts: Sequence[Part], measured: Sequence[Measured], codes: np.ndarray) -> _Combined:
    present = _holm(parts, measured, lambda codes: codes >= IN_PART)
    opposed = _holm(parts, measured, lambda codes: codes == CONTRADICTED, by_null=True)
    kept = np.where(present | opposed | (codes == ABSENT), codes, INCONCLUSIVE)
    combined = np.select([(codes == REPRODUCED).all(0), present.any(0), opposed.any(0), (kept == ABSENT).all(0)],
                         [REPRODUCED, IN_PART, CONTRADICTED, ABSENT], INCONCLUSIVE)
    return combined, kept, np.where(combined >= IN_PART, present, kept == combined)


_COMBINE = {"all": _all, "each": _each, "any": _any}


def _plain(interval: Interval) -> Interval:
    return Interval(*map(float, interval))
