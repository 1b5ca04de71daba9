"""Groups and kinds of parameters that several stages of the study take."""
from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lib.params import Params as Base

Positive = Annotated[float, Field(gt=0)]
Several = Annotated[tuple[Positive, ...], Field(min_length=1)]
Rate = Annotated[float, Field(gt=0, le=0.1, description="their learning rate")]
Seeds = Annotated[int, Field(ge=2, le=1000, description="paired seeds of the factorial")]
Draws = Annotated[int, Field(ge=20, description="sets of random directions")]


class Root(Base):
    """What every stage takes."""

    seed: int = Field(ge=0, description="root of every random stream of the rigorous parts")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where the ensembles run")

    def first(self, seeds: int) -> range:
        """The first so many seeds of networks."""
        return range(1000 * self.seed, 1000 * self.seed + seeds)


class Networks(Root):
    """What trains the rigorous networks."""

    steps: int = Field(ge=1, le=10000, description="steps of its networks")
    lr: Rate


class Autoencoders(Networks):
    """What trains the rigorous autoencoders, but for their penalty."""

    sae_steps: int = Field(ge=1, le=10000, description="steps of the rigorous autoencoders")
    sae_lr: Rate


class Penalised(Autoencoders):
    """What trains them at the penalty of most stages."""

    sae_penalty: Positive = Field(description="their L1 penalty per sample, activations scaled to E|a|^2 = d")
