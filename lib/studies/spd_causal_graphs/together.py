"""Networks trained with their components: a decomposition beside an ordinary network, or components for weights."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.rng import generator, stream_seed
from lib.spd import Capture, Decomposition, SPDConfig, decompose
from lib.spd.gates import gate, lower_leaky, upper_leaky
from lib.spd.losses import Step
from lib.spd.masks import Noise
from lib.studies.spd_causal_graphs.mlp import MLP, pixels
from lib.studies.spd_causal_graphs.train import Pool, arrays, task
from lib.studies.spd_causal_graphs.train_spd import JOINT, Decomposing, config
from lib.tensors import denormals_flushed, device_named

WEIGHT = 3e-9
"""Of the importance loss of a network that is its components, from one version of the source: ours closes its gates."""


class LivingDecomposition(Decomposition):
    """A decomposition whose target is trained too: gradients of its loss reach the target's weights.

    The output that masked passes are compared with stays a constant of the step: the network is asked to become
    decomposable, not to answer otherwise. Arguments and attributes as in `Decomposition`.
    """

    def __init__(self, target: nn.Module, example: Tensor, *options):
        super().__init__(target, example, *options)
        self.target.requires_grad_(True)

    def capture(self, x: Tensor) -> Capture:
        """As of a frozen target, but what its weights make of their inputs keeps its gradient."""
        inputs, outs = {}, {}

        def record(name: str, module: nn.Module, x: Tensor) -> Tensor:
            inputs[name], outs[name] = x, self.sites[name].apply(x)
            return self.sites[name].add_bias(outs[name])

        result = self.target(x, record)
        return Capture(inputs, outs, self.acts(inputs), result.detach())


class MaskedNetwork(Decomposition):
    """A network that acts through its components times their importances: what it captures is the masked pass."""

    def run(self, x: Tensor, mask: Callable[[Tensor], Tensor]) -> tuple[Tensor, dict[str, Tensor], Capture]:
        """The output with masks that are functions of the gates g [B, C], the gates, and what the sites see."""
        g, inputs, outs = {}, {}, {}

        def op(name: str, module: nn.Module, x: Tensor) -> Tensor:
            acts = self.sites[name].acts(x, self.parts[name].V)
            g[name], inputs[name] = gate(self.gate, self.parts[name].gate, acts, None), x
            outs[name] = self.sites[name].write(acts * mask(g[name]), self.parts[name].U)
            return self.sites[name].add_bias(outs[name])

        result = self.target(x, op)
        return result, g, Capture(inputs, outs, {}, result)

    def capture(self, x: Tensor) -> Capture:
        """As of any decomposition, of the pass whose masks are the importances."""
        with torch.no_grad():
            seen = self.run(x, lower_leaky)[2]
        return seen._replace(acts=self.acts(seen.inputs))


def joined(params: Decomposing, seed: int) -> dict[str, Any]:
    """Train one network with a decomposition beside it: network and decomposition, arrays by name."""
    return _kept(train_joint(**task(params, seed), config=config(params, JOINT)))


def whole(params: Pool, seed: int) -> dict[str, Any]:
    """Train one network as its components, for the steps that another's training and its decomposition take together.

    Returns:
        network, whose weights are VU, and decomposition, arrays by name.
    """
    own = task(params, seed)
    return _kept(train_whole(**own | {"steps": 2 * own["steps"]}, n_components=params.components))


def _kept(dec: Decomposition) -> dict[str, Any]:
    return {"network": arrays(dec.target), "decomposition": dec.arrays()}


def train_joint(
    images: np.ndarray, labels: np.ndarray, sizes: Sequence[int], seed: int, steps: int, config: SPDConfig,
    batch: int = 128, lr: float = 1e-3, device: str = "auto",
) -> LivingDecomposition:
    """Train an MLP and a decomposition at once, cross-entropy + the decomposition's loss, each on its own batches.

    First weights and rate are those of `train_mlp`; initial components, their warm-up on faithfulness (to the
    untrained network) and the loss those of `decompose`.

    Args:
        images, labels, sizes, seed, steps, batch, lr, device: as in `mlp.train_mlp`; images are drawn with replacement.
        config: of the decomposition, but for its steps, lr and schedule.
    """
    x, y, rows = _drawn(images, labels, seed, batch, device)
    network = MLP(sizes, seed).to(x.device)
    warming = config.replace(steps=1, lr=0.0)
    dec = LivingDecomposition(network, x[:2], config.n_components, config.gate, config.width, seed)
    dec.load(decompose(network, x, warming, seed, progress=False).decomposition.arrays())
    noise = Noise([stream_seed(seed, "joint")], False, x.device)

    def loss(step: int) -> Tensor:
        own = rows()
        answer = F.cross_entropy(dec.target(x[own]), y[own])
        return answer + Step(dec, x[rows()], config, noise, step / steps).total()[0]

    _minimise(loss, [*dec.target.parameters(), *dec.named_parameters().values()], steps, lr)
    dec.target.requires_grad_(False)
    return dec


def train_whole(
    images: np.ndarray, labels: np.ndarray, sizes: Sequence[int], seed: int, steps: int, n_components: int,
    batch: int = 128, lr: float = 1e-3, device: str = "auto",
) -> MaskedNetwork:
    """Minimise cross-entropy through Bernoulli masks + WEIGHT x sum of importances.

    A mask's derivative in its importance is 0, so the gates learn from the second term alone.

    Args:
        images, ..., device: as in `train_joint`.
    Source: one version of report_components, my_experiments/mnist_decomposed_mlp.py; gates, C and batch are those of
        the other arms. That version has p = 1, batches of 1,024 and AdamW with decay 1e-5; another a weight of 5e-9,
        p from 1 to 2, batches of 64 and decay 1e-6. Both have linear gates, a C of 500, and masks drawn from
        lower_leaky(1.05 g - 0.05 u), u uniform.
    """
    x, y, rows = _drawn(images, labels, seed, batch, device)
    dec = MaskedNetwork(MLP(sizes, seed).to(x.device), x[:2], n_components, seed=seed)
    biases = [site.bias.requires_grad_() for site in dec.sites.values()]
    noise = Noise([stream_seed(seed, "whole")], False, x.device)

    def loss(_: int) -> Tensor:
        own = rows()
        out, g, _ = dec.run(x[own], lambda g: noise.noise(lower_leaky(g), "bernoulli")[0])
        return F.cross_entropy(out, y[own]) + WEIGHT * sum(upper_leaky(each).mean(0).sum() for each in g.values())

    _minimise(loss, [*dec.named_parameters().values(), *biases], steps, lr)
    for name, site in dec.sites.items():
        site.module.weight.data = dec.weight(name).detach().contiguous()
    dec.target.requires_grad_(False)
    return dec


def _drawn(images, labels, seed: int, batch: int, device: str) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    """Images as the network reads them, labels, and a function that draws the rows of a batch."""
    x, y = pixels(images, 255), torch.from_numpy(np.asarray(labels)).long()
    where, rng = device_named(device), generator(seed, "together", "rows")
    return x.to(where), y.to(where), lambda: torch.randint(len(x), (batch,), generator=rng).to(where)


def _minimise(loss: Callable[[int], Tensor], parameters: Sequence[Tensor], steps: int, lr: float) -> None:
    """Adam with a cosine to 0."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with denormals_flushed():
        for step in range(steps):
            optimizer.zero_grad()
            loss(step).backward()
            optimizer.step()
            schedule.step()
