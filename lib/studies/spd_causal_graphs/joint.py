"""A network trained together with its decomposition: the task's loss and the decomposition's, one optimiser."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.rng import generator, stream_seed
from lib.spd import Capture, Decomposition, SPDConfig, decompose
from lib.spd.decomposition import Parts
from lib.spd.losses import Step
from lib.spd.masks import Noise
from lib.studies.spd_causal_graphs.common import kept
from lib.studies.spd_causal_graphs.mlp import MLP, mlp_recipe, pixels
from lib.studies.spd_causal_graphs.train import arrays, task
from lib.studies.spd_causal_graphs.train_spd import Decomposing, config
from lib.tensors import device_named
from lib.training import train


class LivingDecomposition(Decomposition):
    """A decomposition whose target is trained too: gradients of its loss reach the target's weights.

    The output that masked passes are compared with stays a constant of the step: the network is asked to become
    decomposable, not to answer otherwise. Arguments and attributes as in `Decomposition`.
    """

    def __init__(self, target: nn.Module, example: Tensor, *options):
        super().__init__(target, example, *options)
        self.target.requires_grad_(True)
        for name, parts in self.parts.items():
            gate = {key: nn.Parameter(value.detach()) for key, value in parts.gate.items()}
            self.parts[name] = Parts(nn.Parameter(parts.V.detach()), nn.Parameter(parts.U.detach()), gate)

    def capture(self, x: Tensor) -> Capture:
        """As of a frozen target, but what its weights make of their inputs keeps its gradient."""
        inputs, outs = {}, {}

        def record(name: str, module: nn.Module, x: Tensor) -> Tensor:
            inputs[name], outs[name] = x, self.sites[name].apply(x)
            return self.sites[name].add_bias(outs[name])

        result = self.target(x, record)
        return Capture(inputs, outs, self.acts(inputs), result.detach())


class _Joint(nn.Module):
    """The network, with the decomposition's tensors among its parameters and the streams its loss draws from as state.

    Args:
        streams: a checkpoint keeps where they stand.
    """

    def __init__(self, dec: LivingDecomposition, streams: Sequence[torch.Generator]):
        super().__init__()
        self.network, self.own = dec.target, nn.ParameterList(dec.named_parameters().values())
        self.streams = streams

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def get_extra_state(self) -> list[Tensor]:
        return [rng.get_state() for rng in self.streams]

    def set_extra_state(self, states: list[Tensor]) -> None:
        for rng, state in zip(self.streams, states, strict=True):
            rng.set_state(state)


def joined(params: Decomposing, seed: int, arm: str, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train one network together with its decomposition, from the start and on the batches of the plain network.

    Returns:
        network and decomposition, arrays by name.
    """
    network, dec = train_joint(**task(params, seed), config=config(params, arm), checkpoints=checkpoints)
    return {"network": arrays(network), "decomposition": dec.arrays()}


def train_joint(
    images: np.ndarray, labels: np.ndarray, sizes: Sequence[int], seed: int, steps: int, config: SPDConfig,
    batch: int = 128, lr: float = 1e-3, device: str = "auto", checkpoints: Path | None = None,
) -> tuple[MLP, Decomposition]:
    """Train an MLP and its decomposition at once, cross-entropy + the decomposition's loss.

    First weights, order of images, steps and rate are those of `train_mlp`; initial components, their warm-up on
    faithfulness (to the untrained network) and the loss those of `decompose`.

    Args:
        images, labels, sizes, seed, steps, batch, lr, device: as in `mlp.train_mlp`.
        config: of the decomposition, but for how long and how fast: steps, lr, schedule and weight_decay are the
            network's, which both share; drop_zero_rows, which only saves time, is not used.
        checkpoints: folder to keep warm-up and training in, and to continue them from; None: none.
    Returns:
        The trained network and its decomposition, both frozen.
    """
    where = device_named(device)
    network, x = MLP(sizes, seed).to(where), pixels(images, 255).to(where)
    warming = SPDConfig(**config.identity() | {"steps": 1, "lr": 0.0})
    warm = decompose(network, x, warming, seed, **kept(checkpoints, "warm-up")).decomposition
    dec = LivingDecomposition(network, x[:2], config.n_components, config.gate, config.width, seed)
    dec.load(warm.arrays())
    noise = Noise([stream_seed(seed, "joint")], False, where)
    rows = generator(seed, "joint", "rows")
    model = _Joint(dec, [*noise.streams, rows])
    start = model.get_extra_state()

    def decomposition_loss(model: nn.Module, step: int) -> Tensor:
        if step == 0:
            model.set_extra_state(start)  # to keep a checkpoint, `train` has asked for losses before the first step
        index = torch.randint(len(x), (config.batch_size,), generator=rows).to(where)
        return Step(dec, x[index], config, noise, step / steps).total()[0]

    train(model, images, labels, mlp_recipe(steps, batch, lr), seed, decomposition_loss, device=device,
          progress=False, **kept(checkpoints, "joint"))
    trained = dec.target.eval().requires_grad_(False)
    frozen = Decomposition(trained, x[:2], config.n_components, config.gate, config.width, seed)
    return trained, frozen.load(dec.arrays())
