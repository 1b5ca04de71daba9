"""Simulated claims through the very rules that judge the real ones: how often a word is false, how often found."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from lib import files
from lib.metrics.statistics import proportion_interval
from lib.params import read_yaml
from lib.press.claims import STUDIES, Claim
from lib.press.verdicts import ABSENT, CONTRADICTED, IN_PART, Measured, verdict
from lib.rng import numpy_generator

SHAPES = {
    "normal": lambda z: z,
    "skewed up": lambda z: -stats.norm.logsf(z) - 1,
    "skewed down": lambda z: 1 + stats.norm.logsf(z),
    "heavy tails": lambda z: stats.t.ppf(stats.norm.cdf(z), 3) / np.sqrt(3),
}
"""How seeds scatter, from standard normal z to mean 0 and sd 1: exponential with its long tail towards the claim or
against it, and Student's t with 3 degrees of freedom."""
CLAIMS = {"one part": (1, "all"), "all of five": (5, "all"), "each of five": (5, "each"), "any of five": (5, "any")}
PROMISED, AT_MOST = 0.05, 0.065
"""The share of false words, and how high the upper end of its 95 % interval may reach."""
SETS = 8_000


def calibrate(numbers: Sequence[int] = (3, 5, 8, 20, 40), sets: int = SETS) -> pd.DataFrame:
    """How many of `sets` simulated claims get which word; the margin is the sd between seeds, parts' z correlate by .5.

    Returns:
        By shape of the seeds, claim and n the counts `false_presence` where the claim is false by one part (all) or
        in every part; `false_absence` where every part is exactly as large as the margin (all), or one is and the
        others are nothing; `wrong_sign` and `true_absence` where nothing is; `power` at 2 margins.
    """
    rows = {}
    for n in numbers:
        rng = numpy_generator(0, "calibration", n)
        z = np.sqrt(0.5) * (rng.normal(size=(sets, n)) + rng.normal(size=(5, sets, n)))  # [5, sets, n]
        rows |= {(shape, name, n): _counts(*CLAIMS[name], SHAPES[shape](z)) for shape in SHAPES for name in CLAIMS}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["shape", "claim", "n"])


def broken(counts: pd.DataFrame, sets: int = SETS) -> pd.DataFrame:
    """Which false words come more often than promised, by Wilson's interval."""
    false = counts[["false_presence", "false_absence", "wrong_sign"]]
    return false.map(lambda k: proportion_interval(k, sets).high > AT_MOST)


def seeds_of_studies(profile: str = "quick") -> dict[str, int]:
    """Number of seeds by study, and of the published recipe where that has its own."""
    found = {}
    for study in STUDIES:
        if (file := files.ROOT / "params" / study / f"{profile}.yaml").is_file():
            values, name = read_yaml(file), study.partition("_")[0]
            found |= {name: values.get("seeds"), f"{name} (published)": values.get("published_seeds")}
    return {name: n for name, n in found.items() if n}


def _counts(k: int, combine: str, seeds: np.ndarray) -> dict[str, int]:
    part = {"kind": "effect", "direction": "more", "estimate": "e", "nulls": ["0"], "margin": 1, "why": "one sd"}
    claim = Claim(id="SP-1", study=STUDIES[0], source="none", origin="claim", statement="simulated", combine=combine,
                  parts=[{**part, "name": str(i)} for i in range(k)])

    def codes(effects: np.ndarray) -> np.ndarray:
        return verdict(claim, [Measured(seeds[i] + effects[i]) for i in range(k)]).code

    rest, nothing = np.arange(k) > 0, codes(np.zeros(k))
    alone = codes(2.0 * rest) if combine == "all" else nothing
    edge = codes(np.ones(k) if combine == "all" else 1.0 - rest)
    found = {"false_presence": alone >= IN_PART, "false_absence": edge == ABSENT, "wrong_sign": nothing == CONTRADICTED,
             "true_absence": nothing == ABSENT, "power": codes(np.full(k, 2.0)) >= IN_PART}
    return {name: int(held.sum()) for name, held in found.items()}
