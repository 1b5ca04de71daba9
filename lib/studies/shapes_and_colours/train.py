"""Networks: one run for every kind of labels and seed."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from lib.loop import Training, run
from lib.rng import stream_seed
from lib.schedules import EpochOrder
from lib.spd import Routed
from lib.studies.shapes_and_colours import common
from lib.studies.shapes_and_colours.common import HELD_OUT, SLUG, Images, heads, pixels, place
from lib.studies.shapes_and_colours.net import network
from lib.tensors import own_session

LR, WEIGHT_DECAY, BATCH = 5e-3, 0.3, 64
"""Of AdamW."""


class Networks(Images):
    """Of the networks."""

    net_steps: int = Field(ge=10, description="steps that train a network, batches of 64")


@own_session()
def trained(params: Networks, task: str, seed: int) -> dict[str, np.ndarray]:
    """Train one network: its weights by name."""
    shown, labels = common.images(params, "train", common.held_out(params) if task == HELD_OUT else ())
    start = stream_seed(params.seed, SLUG, "network", task, seed)
    model = network(heads(params, task), shown.shape[1], start).to(place(params))
    wanted = common.answers(params, task, seed, labels)
    run(_Fitting(model, shown, wanted, params.net_steps, start), params.net_steps)
    return {name: value.cpu().numpy() for name, value in model.state_dict().items()}


def restored(params: Images, task: str, weights: Mapping[str, np.ndarray]) -> Routed:
    """The network of these weights on its device, frozen."""
    model = network(heads(params, task), 28, 0)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model.to(place(params)).eval().requires_grad_(False)


class _Fitting(Training):
    """Cross-entropy, mean over heads; AdamW, its rate one cycle up and down."""

    def __init__(self, model: Routed, shown: np.ndarray, wanted: Tensor, steps: int, seed: int):
        self.model, self.wanted, self.device = model, wanted, next(model.parameters()).device
        self.shown, self.order = torch.from_numpy(shown), EpochOrder(len(shown), BATCH, seed, "order")
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, LR, total_steps=steps)

    def step(self, step: int, log: bool) -> Tensor:
        rows = self.order[step]
        x = pixels(self.shown[rows].numpy(), self.device)
        loss = F.cross_entropy(self.model(x).flatten(0, 1), self.wanted[rows].flatten().to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.detach().view(1)
