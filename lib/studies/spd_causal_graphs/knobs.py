"""What the chapter's explorer redraws: the hero of one small network of 8 x 8 digits, decomposed at a turn."""
from matplotlib.figure import Figure

from lib.metrics.statistics import proportion_interval
from lib.studies.spd_causal_graphs.figures import weights_against_effects
from lib.studies.spd_causal_graphs.measure import Analysing, analysis
from lib.studies.spd_causal_graphs.predictors import STEPS, flips

SIZE = {"data": "digits", "held_out": 300, "hidden": 24, "components": 16, "steps": 150, "batch": 64,
        "faithfulness": 10.0, "least_images": 10, "null_draws": 4, "orders": 1, "most": 3}


def hero(params: Analysing, importance: float, seed: int) -> Figure:
    """`weights_against_effects` of that network; its intervals are of edges, importance weighs the importance loss."""
    edges = analysis(params.replace(importance=importance, **SIZE), seed)["on_edges"]
    predicted, effects = {step: edges[step].to_numpy() for step in STEPS}, edges.effect.to_numpy()
    shares = {step: proportion_interval(flips(own, effects).sum(), len(own)) for step, own in predicted.items()}
    return weights_against_effects(predicted, effects, shares)
