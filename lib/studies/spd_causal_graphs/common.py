"""What every stage of the study has in common."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from lib.params import Params

SLUG = "spd_causal_graphs"
EVERY = 500
"""Steps between checkpoints: seconds of work, of which writing takes less than a fiftieth."""


class Common(Params):
    """What every stage takes."""

    seed: int = Field(ge=0, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where networks are trained and decomposed")


def kept(checkpoints: Path | None, name: str) -> dict[str, Any]:
    """Where a trainer keeps its checkpoint and how often, as the trainers of the library take it; None: nowhere."""
    return {} if checkpoints is None else {"checkpoint": checkpoints / name, "checkpoint_every": EVERY}
