"""What the chapter's explorer redraws: the hero of one seed per sparsity, as the source read it, in other models."""
from __future__ import annotations

from matplotlib.figure import Figure

from lib.studies.superposition_phases.common import Sweep
from lib.studies.superposition_phases.compare import REGION
from lib.studies.superposition_phases.figures import loss_curves
from lib.studies.superposition_phases.protocol import PARTS

SIZE = {"seeds": 1, "published_samples": 2000, "published_epochs": 1, "trained_steps": 500}
"""Of what is trained at a turn; the weights of a thousand steps, kept as any run is."""


def hero(params: Sweep, seed: int, n_hidden: int) -> Figure:
    """`loss_curves` of one model per sparsity and arm, trained shortly; `seed` draws the data and the weights anew."""
    own = params.replace(seed=seed, n_hidden=n_hidden, **SIZE)
    published, trained = (part(own)["runs"] for part in PARTS[:2])
    arms = {"as published": published, "trained well": trained}
    return loss_curves(arms, published.groupby("sparsity").zero_loss.first(), REGION, "claimed critical region")
