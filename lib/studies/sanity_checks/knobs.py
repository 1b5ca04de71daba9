"""What the chapter's explorer redraws: the hero in a small world, whose coders are trained at a turn."""
from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from lib.studies.sanity_checks.figures import NAMES, recovered
from lib.studies.sanity_checks.measure import judged, plain
from lib.studies.sanity_checks.train import Arm, Training
from lib.studies.sanity_checks.worlds import Law

WORLD = {"width": 20, "features": 80, "active": 4, "samples": 10_000, "held_out": 500, "steps": 200, "batch": 256}
"""The same fifth of the dimensions active as in the chapter."""


def hero(params: Training, spread: float) -> Figure:
    """`recovered` of one coder per rule on samples of random lengths; spread: sd of the logarithm of those."""
    own, data = params.replace(**WORLD), f"lengths vary by {spread:.0%}"
    arms = {rule: plain(Arm(rule, law=Law(spread=spread))) for rule in NAMES}
    rows = [{"rule": rule, "data": data, **judged(own, arm, 0)} for rule, arm in arms.items()]
    return recovered(pd.DataFrame(rows), [(rule, data) for rule in NAMES], {})
