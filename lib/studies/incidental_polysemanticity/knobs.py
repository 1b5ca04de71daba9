"""What the chapter's explorer redraws: the hero at other weights of the penalties, from the factorial's runs."""
from __future__ import annotations

from matplotlib.figure import Figure

from lib.press.runs import reuse
from lib.studies.incidental_polysemanticity.comparisons import CELLS, FACTORS, at_equal_error
from lib.studies.incidental_polysemanticity.figures import factors
from lib.studies.incidental_polysemanticity.protocol import Params, compared, factorial

SEEDS = 6
"""Of the factorial's; reading off all of them takes several seconds."""


def hero(params: Params, L1: float, L2: float) -> Figure:
    """`factors` of the first seeds, compared at these of the penalties that were swept; nothing is trained anew."""
    runs = compared(reuse(factorial, params)["runs"], params)
    runs = runs[runs.seed < params.first(SEEDS).stop].assign(anchor=runs.penalty == runs.reg.map({"L1": L1, "L2": L2}))
    same, equal = {}, {}
    for name, (factor, a, b) in FACTORS.items():
        mean = runs[runs.anchor].groupby(["seed", factor]).interference.mean().unstack()
        same[name] = (mean[a] / mean[b] - 1).dropna()
        others = [cell for cell in CELLS if cell != factor]
        equal[name] = at_equal_error(runs, f"{factor} == '{a}'", f"{factor} == '{b}'", others)
    return factors(same, equal, {})
