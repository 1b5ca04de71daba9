"""What the chapter's explorer redraws: the hero of small coders on the chapter's model, trained at a turn."""
from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from lib.studies.transformer_saes.charts import NAMES, by_arm
from lib.studies.transformer_saes.measure import judged
from lib.studies.transformer_saes.train import Arm, Coders

SMALL = {"train_windows": 40, "held_windows": 24, "n_latents": 128, "steps": 40, "batch": 256}
"""Of the activations and the coders; the model is the chapter's own."""
GREYS = {"random model": "random", "shuffled activations": "shuffled"}


def hero(params: Coders, rule: str, active: int) -> Figure:
    """`by_arm` of one coder of a rule with that many active latents, and of two that have nothing to find."""
    own = params.view(Coders).replace(**SMALL, active=active)
    rows = {NAMES[rule]: judged(own, list(Arm(rule)), 0)}
    rows |= {name: judged(own, list(Arm(rule, source=source)), 0) for name, source in GREYS.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return by_arm([table], {"fvu": "unexplained variance", "purity": "purity"}, list(GREYS))
