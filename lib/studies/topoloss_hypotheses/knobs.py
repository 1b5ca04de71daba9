"""What the chapter's explorer redraws: the hero's sheets of small models, trained at a turn."""
from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lib.studies.topoloss_hypotheses.data import pool
from lib.studies.topoloss_hypotheses.figures import cortical_sheets
from lib.studies.topoloss_hypotheses.measure import Measuring, profile, restored
from lib.studies.topoloss_hypotheses.module_names import module_names
from lib.studies.topoloss_hypotheses.train import Arm
from lib.topoloss import sheet_shape

SIZE = {"width": 64, "depth": 2, "heads": 2, "steps": 40, "warmup": 5, "lr": 4e-3, "test_images": 300,
        "select_images": 500}
"""Of models and images: classes come apart in as many steps, though far from all of them."""
SEEDS = (0, 1)


def hero(params: Measuring, alpha: float) -> Figure:
    """`cortical_sheets` of models without the loss and, from the same starts, with the loss weighed by alpha."""
    own, rows = params.replace(**SIZE), {}
    for name, a in {"α = 0": 0.0, f"α = {alpha:g}": float(alpha)}.items():
        models = [restored(own, Arm(name, a, 4.0), seed)[0] for seed in SEEDS]
        units = [profile(own, model, f"{module_names(model).site}.attn.proj") for model in models]
        maps = np.stack([unit.contrast for unit in units]).reshape(len(units), -1, *sheet_shape(own.width))
        rows[name] = maps.argmax(1), maps.max(1)
    full = float(np.quantile(rows["α = 0"][1], 0.95))
    return cortical_sheets(rows, pool(own).train.classes, full, "strength: contrast\nof its own class")
