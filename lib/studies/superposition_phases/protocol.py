"""Everything the superposition_phases chapter shows: its parameters, and the parts it calls, each in its own file.

Every part takes its group of the parameters and, where a chapter may want to change it, its axis; it returns NumPy
arrays in a dict and a DataFrame with one row per run. m = n_hidden, n = n_features, S = P(feature = 0). Comparisons
(`compare`) and conclusions belong to the chapter.
"""
from __future__ import annotations

from pydantic import Field

from lib.studies.superposition_phases.published import (
    Patterns,
    Published,
    published_architectures,
    published_importances,
    published_sweep,
)
from lib.studies.superposition_phases.twin import Twin, trained_sweep

PARTS = published_sweep, trained_sweep, published_architectures, published_importances
"""In the order of the chapter."""


class Params(Published, Patterns, Twin):
    """Every knob of the study; the values per profile stand in params/superposition_phases."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
