"""Other definitions of a causal effect, beside ablation to zero: how far they agree with it, edge by edge."""
from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.studies.spd_causal_graphs.effects import Pairs, ablation_effects, shapley_effects
from lib.studies.spd_causal_graphs.graph import inputs_needed


def variants(
    pairs: Pairs, ci1: Tensor, effects: np.ndarray, keep: np.ndarray, orders: int, rng: torch.Generator
) -> pd.DataFrame:
    """Mean effects by four other definitions against those of ablation to zero.

    Args:
        ci1: importances of layer 1, [n, C1].
        effects: mean effects of ablation to zero, [I, J]; keep: bool, [I, J], the edges compared.
        orders, rng: of `shapley_effects`.
    Returns:
        A row per variant: same_sign, share of kept edges; correlation over them; needed, inputs for 80 %, mean over
        outputs.
    """
    found = {
        "replaced by its mean": ablation_effects(pairs, "mean"),
        "in the masked network": ablation_effects(pairs, "ci", ci1=ci1),
        "Shapley value": shapley_effects(pairs, orders, rng),
        "published form": ablation_effects(pairs, form="published"),
    }
    weights, rows = pairs.on.to(pairs.x.dtype) / pairs.on.sum(0), []
    for name, values in found.items():
        own = torch.einsum("nij,nj->ij", values, weights).cpu().numpy()
        rows.append({"variant": name, "same_sign": float((np.sign(own) == np.sign(effects))[keep].mean()),
                     "correlation": float(np.corrcoef(own[keep], effects[keep])[0, 1]) if keep.sum() > 2 else np.nan,
                     "needed": float(np.nanmean(inputs_needed(own)))})
    return pd.DataFrame(rows)
