"""What the chapter's explorer redraws: the hero of one small network, decomposed at a turn."""
from __future__ import annotations

from matplotlib.figure import Figure

from lib.data import shapes_colours as data
from lib.studies.shapes_and_colours import anova, tables
from lib.studies.shapes_and_colours.figures import cell_matrices
from lib.studies.shapes_and_colours.measure import MeasuringBehind, readings_behind
from lib.studies.shapes_and_colours.net import BEHIND

SIZE = {"train_images": 3000, "test_images": 540, "net_steps": 150, "fc_steps": 100, "fc_batch": 32,
        "decompositions": 1, "null_draws": 2}
"""Of what is trained: a network at the first turn of its task, its two last layers at every turn."""


def hero(params: MeasuringBehind, task: str, importance: float) -> Figure:
    """`cell_matrices` of the two ideals and of both layers of one network; importance weighs the importance loss."""
    own = params.replace(**SIZE)
    found, panels = readings_behind(own, task, 0, importance), tables.ideals(own.counts)
    for site in BEHIND:
        means, on = found["means"][site][0], found["frequency"][site][0]
        panels[f"{site}: {(on > anova.ALIVE).sum()} alive"] = means[:, tables.ordered(means, on, own.counts)]
    return cell_matrices(panels, data.names(own.counts)[0])
