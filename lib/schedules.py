"""What a training does when: the samples of each step, and the factor on a rate at each step. Steps count from 0."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from lib.rng import generator


class EpochOrder:
    """`order[step]`: the samples of a step, int64 [batch]; an epoch visits each once, in whole batches, shuffled anew.

    The order is a function of (seed, label, epoch), so that a resumed training meets the samples it would have met.

    Args:
        n: samples; batch: of a step, at most n. device: of the numbers.
    """

    def __init__(self, n: int, batch: int, seed: int, label: str, device: str | torch.device = "cpu"):
        self.n, self.batch, self.stream, self.device = n, batch, (seed, label), device
        self.per_epoch = n // batch
        self.epoch, self.shuffled = -1, torch.empty(0)

    def __getitem__(self, step: int) -> Tensor:
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            shuffled = torch.randperm(self.n, generator=generator(*self.stream, epoch), device="cpu")
            self.epoch, self.shuffled = epoch, shuffled.to(self.device)
        return self.shuffled[place * self.batch : (place + 1) * self.batch]


def constant(step: int, steps: int) -> float:
    """1 throughout."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """(1 + cos(pi step/steps))/2: 1 at the first step, 0 after the last."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


SCHEDULES = {"constant": constant, "cosine": cosine}


def warm_up(step: int, over: int) -> float:
    """Linear to 1, reached at the last of `over` steps."""
    return min(1.0, (step + 1) / max(1, over))


def warm_down(step: int, steps: int, share: float) -> float:
    """1, then linear to 0 over the last `share` of the steps."""
    return min(1.0, (steps - step) / (share * steps)) if share else 1.0
