"""The hero of the chapter, and what its explorer redraws: models trained at a turn, each beside its random twins."""
from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lib.figures import style
from lib.press.runs import reuse
from lib.studies.my_study.protocol import Params, overlaps


def hero(params: Params, sparsity: float) -> Figure:
    """Mean interference of every model, over where 95 % of its twins' fall; sparsity: S of what it is trained on."""
    found = reuse(overlaps, params.replace(sparsity=sparsity))
    fig, ax = style.figure("page", aspect=0.35)
    style.null_band(ax, *np.quantile(found["null"], [0.025, 0.975]))
    ax.plot(range(params.seeds), found["trained"], "o", color=style.BLACK)
    ax.set(xlabel="seed", ylabel="mean interference", ylim=(0, None))
    ax.set_xticks(range(params.seeds))
    return fig
