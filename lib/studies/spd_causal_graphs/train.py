"""The images and the network trained on them, which every other stage of the study starts from."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lib.data.images import load
from lib.rng import numpy_generator, stream_seed
from lib.studies.spd_causal_graphs.common import SLUG, Common, kept
from lib.studies.spd_causal_graphs.mlp import MLP, pixels, train_mlp
from lib.tensors import device_named

M = TypeVar("M", bound=nn.Module)


class Images(Common):
    """Of the images."""

    data: str = Field(pattern="^(digits|mnist_5k|mnist)$", description="the images")
    held_out: int = Field(ge=100, description="images kept from all training, which judge everything")


class Training(Images):
    """Of the network."""

    hidden: int = Field(ge=4, description="hidden units of the network")
    steps: int = Field(ge=10, description="steps that train a network, and as many that decompose it")
    batch: int = Field(ge=16, description="images per step of both")


class Pool(Training):
    """Of a network with a pool of components, which transcoders are as large as."""

    components: int = Field(ge=10, description="C of each layer (the report: 500)")


class Data(NamedTuple):
    """uint8 images from 0 to 255 with labels, and the images as the network reads them."""

    train: np.ndarray
    train_labels: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray

    def pixels(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Training and held-out images, [n, d_in] in [0, 1]."""
        return pixels(self.train, 255).to(device), pixels(self.held, 255).to(device)


def data(params: Images) -> Data:
    """The images; the last `held_out` of the data set, or of its test split, are held out."""
    if params.data == "mnist":
        train, test = load("mnist", "train"), load("mnist", "test")
        return Data(train.images, train.labels, test.images[-params.held_out :], test.labels[-params.held_out :])
    found = load("mnist_5k", seed=params.seed) if params.data == "mnist_5k" else load("digits")
    if params.data == "digits":  # stored by writer
        found = found.take(numpy_generator(params.seed, SLUG, "digits").permutation(len(found)))
    grey = np.round(found.images * (255 / found.peak)).astype(np.uint8)
    cut = len(found) - params.held_out
    return Data(grey[:cut], found.labels[:cut], grey[cut:], found.labels[cut:])


def trained(params: Training, seed: int, checkpoints: Path | None = None) -> dict[str, np.ndarray]:
    """Train one network: its weights by name."""
    return arrays(train_mlp(**task(params, seed), **kept(checkpoints, "network"))[0])


def task(params: Training, seed: int) -> dict[str, Any]:
    """What a network is trained on and how, alone or together with its decomposition, as `train_mlp` takes it."""
    own = data(params)
    sizes = own.train[0].size, params.hidden, int(own.train_labels.max()) + 1
    return {"images": own.train, "labels": own.train_labels, "sizes": sizes, "steps": params.steps,
            "seed": stream_seed(params.seed, SLUG, "network", seed), "batch": params.batch, "device": params.device}


def network(params: Common, weights: Mapping[str, np.ndarray]) -> MLP:
    """The network of these weights on its device, frozen."""
    hidden, d_in = weights["fc1.weight"].shape
    found = filled(MLP((d_in, hidden, len(weights["fc2.bias"])), 0), weights)
    return found.to(device_named(params.device)).eval().requires_grad_(False)


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """All that a module holds by name, as a cached run can keep it."""
    return {name: value.cpu().numpy() for name, value in module.state_dict().items()}


def filled(module: M, values: Mapping[str, np.ndarray]) -> M:
    """The module with values from `arrays` in place."""
    module.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    return module
