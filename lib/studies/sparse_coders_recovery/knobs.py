"""What the chapter's explorer redraws: the hero in one small toy model, whose coders are trained at a turn."""
from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from lib.studies.sparse_coders_recovery.figures import frontiers
from lib.studies.sparse_coders_recovery.measure import facts, sweep
from lib.studies.sparse_coders_recovery.protocol import Params, asked
from lib.studies.sparse_coders_recovery.samples import of_world
from lib.studies.sparse_coders_recovery.tables import NAMES

SIZE = {"seeds": 1, "toy_steps": 300, "toy_coder_steps": 200, "samples": 4000, "held_out": 500}
"""Of what is trained at a turn."""


def hero(params: Params, rule: str, S: float) -> Figure:
    """`frontiers` of TopK and another rule in one toy model, trained shortly; S: sparsity of its features."""
    own, world = params.replace(toy_sparsity=S, **SIZE), "toy"
    known = pd.DataFrame([{"world": world, "seed": 0, **facts(of_world(own, world), world, 0, 5)}])
    found = {arm: sweep(**asked(own, world, arm, 0))["rows"] for arm in dict.fromkeys(("topk", rule))}
    runs = pd.concat([rows.assign(world=world, arm=arm, seed=0) for arm, rows in found.items()])
    return frontiers(runs, known, {arm: NAMES[arm] for arm in found}, [world], "recovery", "features recovered")
