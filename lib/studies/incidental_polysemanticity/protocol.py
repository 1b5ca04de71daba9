"""Everything the incidental_polysemanticity chapter shows: its parameters, and the stages it calls.

A stage takes its group of the parameters and returns plain data. Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lib.studies.incidental_polysemanticity import factorial as parts
from lib.studies.incidental_polysemanticity.coders import coders
from lib.studies.incidental_polysemanticity.combinations import Published, published_arm
from lib.studies.incidental_polysemanticity.counts import Collisions, collision_counts
from lib.studies.incidental_polysemanticity.factorial import clipping, factorial, nothing, strengths, widths
from lib.studies.incidental_polysemanticity.kurtosis import LAWS as LAWS
from lib.studies.incidental_polysemanticity.kurtosis import Kurtosis, kurtosis
from lib.studies.incidental_polysemanticity.network import PUBLISHED as PUBLISHED
from lib.studies.incidental_polysemanticity.train_coders import Coders

STAGES = published_arm, factorial, nothing, strengths, coders, clipping, widths, collision_counts, kurtosis
"""In the order of the chapter."""
LEVEL = 1e-4
"""The published penalty of both L1 and L2, always among those swept."""


class Params(
    parts.Factorial, parts.Nothing, parts.Strengths, parts.Widths, parts.Clipping,
    Published, Coders, Collisions, Kurtosis,
):
    """Every knob of the study; the values per profile stand in params/incidental_polysemanticity."""

    profile: str = Field(pattern="^[a-z][a-z0-9_]*$", description="which parameter file these values come from")
    source_penalty: float = Field(gt=0, description="the one among them nearest to the source's strength")

    @model_validator(mode="after")
    def _holds_what_the_claims_compare(self) -> Self:
        if LEVEL not in self.l1_penalties or LEVEL not in self.l2_penalties:
            raise ValueError(f"the published penalty {LEVEL:g} must be among l1_penalties and l2_penalties")
        if self.source_penalty not in self.sae_penalties:
            raise ValueError(f"source_penalty {self.source_penalty:g} is not among sae_penalties {self.sae_penalties}")
        if not {8, 9} <= set(self.widths) or list(self.widths) != sorted(set(self.widths)):
            raise ValueError(f"widths must rise and hold 8 and 9, between which the claim has a step: {self.widths}")
        if 1.0 not in self.clips:
            raise ValueError(f"clips must hold 1, the gradient norm that the source names: {self.clips}")
        if self.coder_seeds > self.seeds or self.width_seeds > self.seeds:
            raise ValueError(f"coder_seeds and width_seeds cannot exceed the {self.seeds} seeds there are")
        return self
