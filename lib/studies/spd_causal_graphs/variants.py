"""Other definitions of a causal effect, beside ablation to zero: how far they agree with it, edge by edge."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.studies.spd_causal_graphs.effects import TwoLayers, ablation_effects, shapley_effects
from lib.studies.spd_causal_graphs.graph import inputs_needed


def variants(
    net: TwoLayers, x: Tensor, ci1: Tensor, on: Tensor, inputs: Sequence[int], outputs: Sequence[int],
    effects: np.ndarray, keep: np.ndarray, orders: int, rng: torch.Generator,
) -> pd.DataFrame:
    """Mean effects by four other definitions against those of ablation to zero.

    Args:
        net, x, inputs, outputs: as in `ablation_effects`; ci1: importances of layer 1, [n, C1]; on: bool, [n, J].
        effects: mean effects of ablation to zero, [I, J]; keep: bool, [I, J], the edges compared.
        orders, rng: of `shapley_effects`.
    Returns:
        A row per variant: same_sign, share of kept edges; correlation over them; needed, inputs for 80 %, mean over
        outputs.
    """
    found = {
        "replaced by its mean": ablation_effects(net, x, inputs, outputs, "mean"),
        "in the masked network": ablation_effects(net, x, inputs, outputs, "ci", ci1=ci1),
        "Shapley value": shapley_effects(net, x, inputs, outputs, orders, rng),
        "published form": ablation_effects(net, x, inputs, outputs, form="published"),
    }
    weights, rows = on.to(x.dtype) / on.sum(0), []
    for name, values in found.items():
        own = torch.einsum("nij,nj->ij", values, weights).cpu().numpy()
        rows.append({"variant": name, "same_sign": float((np.sign(own) == np.sign(effects))[keep].mean()),
                     "correlation": float(np.corrcoef(own[keep], effects[keep])[0, 1]) if keep.sum() > 2 else np.nan,
                     "needed": float(np.nanmean(inputs_needed(own)))})
    return pd.DataFrame(rows)
