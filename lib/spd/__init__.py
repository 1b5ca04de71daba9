"""Stochastic parameter decomposition: weights as sums of rank-one components, few of them needed on any one input.

    result = decompose(target, data, SPDConfig(n_components=20), seed=0)
    importance = result.decomposition.causal_importance(x)["linear1"]  # [B, C]

    components     a layer as a sum of rank-one parts; `op`, through which a network sends its weights
    gates          causal importance of components
    masks          how components are switched off
    decomposition  a network whose layers are components
    losses         what is minimised
    trainer        `decompose`, for one seed or many at once
    options        every option of the method; `trainer.Watching`: of how it is recorded and kept
    metrics        distance to a known answer, use of components; targets, known_answers: networks that have one

Source: Bushnaq, Braun and Sharkey 2025, "Stochastic parameter decomposition", arXiv 2506.20790.
"""
from lib.spd.components import Routed, TiedLinear, plain
from lib.spd.decomposition import Capture, Decomposition
from lib.spd.masks import Mask
from lib.spd.options import SPDConfig
from lib.spd.trainer import Result, decompose

__all__ = ["Capture", "Decomposition", "Mask", "Result", "Routed", "SPDConfig", "TiedLinear", "decompose", "plain"]
