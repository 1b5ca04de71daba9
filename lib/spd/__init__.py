"""Stochastic parameter decomposition: weights as sums of rank-one components, few of them needed on any one input.

    result = decompose(target, data, SPDConfig(n_components=20), seed=0)
    importance = result.decomposition.causal_importance(x)["linear1"]  # [B, C]

`options` what one decomposition is · `decompose` its training, in `losses` over `masks` · `decomposition` the network
it gives, of `components` with `gates` · `metrics` the distance to a known answer · `targets`, `known_answers` a network
that has one.

Source: Bushnaq, Braun and Sharkey 2025, "Stochastic parameter decomposition", arXiv 2506.20790.
"""
from lib.spd.components import Routed, TiedLinear, plain
from lib.spd.decompose import Result, decompose
from lib.spd.decomposition import Capture, Decomposition
from lib.spd.masks import Mask
from lib.spd.options import SPDConfig

__all__ = ["Capture", "Decomposition", "Mask", "Result", "Routed", "SPDConfig", "TiedLinear", "decompose", "plain"]
