"""Everything the superposition_phases chapter shows: its parameters, and the parts it calls, each in its own file.

Every part takes its group of the parameters and, where a chapter may want to change it, its axis; it returns NumPy
arrays in a dict (or a DataFrame with one row per run). R counts restarts or seeds, m = n_hidden, n = n_features, S =
P(feature = 0). "best" is the restart of lowest final loss; "over zero" means divided by the zero predictor's loss.
Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from pydantic import Field, field_validator

from lib.studies.superposition_phases.common import Sparsities
from lib.studies.superposition_phases.exact import Dynamics, Phases, Varied, dynamics, phase_diagram, varied_feature
from lib.studies.superposition_phases.published import (
    Published,
    Variants,
    published_architectures,
    published_importances,
    published_sweep,
)
from lib.studies.superposition_phases.staircase import Staircase, staircase
from lib.studies.superposition_phases.trained import (
    Plane,
    Small,
    Twin,
    Zoo,
    correlated_pairs,
    plane,
    trained_sweep,
    zoo,
)
from lib.studies.superposition_phases.units import (
    Absolute,
    Attack,
    Basis,
    absolute_value,
    adversarial,
    privileged_basis,
)

PARTS = (
    published_sweep, trained_sweep, published_architectures, published_importances, zoo, plane, phase_diagram,
    staircase, varied_feature, correlated_pairs, dynamics, adversarial, privileged_basis, absolute_value,
)
"""In the order of the chapter."""

COMPARED = (0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.82, 0.85, 0.87, 0.9, 0.95, 0.99)
"""Sparsities that the claims compare."""


class Params(
    Published, Variants, Twin, Zoo, Plane, Small, Phases, Staircase, Varied, Dynamics, Attack, Basis, Absolute
):
    """Every knob of the study; the values per profile stand in params/superposition_phases."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")

    @field_validator("sparsities")
    @classmethod
    def _holds_what_the_claims_compare(cls, value: Sparsities) -> Sparsities:
        if missing := sorted(set(COMPARED) - set(value)):
            raise ValueError(f"the claims compare sparsities that are missing: {', '.join(map(str, missing))}")
        return value
