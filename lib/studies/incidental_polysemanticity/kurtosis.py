"""Does noise on a layer care which directions of the layer its units are? Its expected cost, before and after turning.

Turning a layer (W -> W Q, Q orthogonal) leaves all overlaps W Wᵀ and so everything a noise-free model computes as they
are. What noise costs may change, if its law is not that of a Gaussian and if what reads the layer is not linear.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lib.press.runs import reuse
from lib.rng import generator
from lib.studies.incidental_polysemanticity import collisions
from lib.studies.incidental_polysemanticity.groups import Networks, Seeds
from lib.studies.incidental_polysemanticity.network import PUBLISHED, trained
from lib.studies.incidental_polysemanticity.noise import unit_noise
from lib.studies.incidental_polysemanticity.units import concentration

LAWS = ("bipolar", "uniform", "gaussian", "laplace", "positive_kurtosis")
"""Laws of noise by rising kurtosis."""
Cost = Callable[[Tensor, Tensor], Tensor]
"""(W [I, n, m], noise [draws, m]) -> what the noise costs each instance, [I]."""


class Kurtosis(Networks):
    """What the laws of noise take."""

    seeds: Seeds
    kurtosis_runs: int = Field(ge=2, description="instances per law of noise (n=8, m=16)")
    kurtosis_steps: int = Field(ge=10, description="SGD steps of each")
    turn_draws: int = Field(ge=100, description="draws of noise for the cost of turning units")


def linear_cost(W: Tensor, noise: Tensor) -> Tensor:
    """Extra squared error of a linear readout, mean over draws of |W xi|^2: its expectation is sigma^2 |W|_F^2.

    With y = W h + b and squared error, E|W (h + xi) + b - t|^2 = |W h + b - t|^2 + sum_k sigma_k^2 |W_.k|^2 for every
    law of independent noise of mean 0: only the variance counts. W: readout weights, one column per unit.
    """
    return (W @ noise.T).square().sum(1).mean(1)


def tied_relu_cost(W: Tensor, noise: Tensor) -> Tensor:
    """Extra squared error of y = ReLU(W (W^T x + xi)) on the n basis vectors, mean over draws; one row per feature."""
    overlap, target = W @ W.mT, torch.eye(W.shape[1], dtype=W.dtype, device=W.device)
    clean = (overlap.relu() - target).square().sum((1, 2))  # [I]
    pushed = overlap[:, None] + (noise @ W.mT)[:, :, None]  # [I, draws, n inputs, n outputs]
    return (pushed.relu() - target).square().sum((2, 3)).mean(1) - clean


def turning_cost(W: Tensor, noise: Tensor, cost: Cost, turns: int, rng: torch.Generator) -> Tensor:
    """Relative change of the noise's cost when the units are turned at random, mean_Q cost(W Q) / cost(W) - 1.

    Above 0 the model's units are better for this noise than arbitrary directions of the same layer; 0 for any W if
    noise is Gaussian or the readout linear. The draws are the same for all turns; W [I, n, m], result [I].
    """
    m = W.shape[-1]
    turned = [cost(W @ _orthogonal(m, rng).to(W), noise) for _ in range(turns)]
    return torch.stack(turned).mean(0) / cost(W, noise) - 1


def _orthogonal(m: int, rng: torch.Generator) -> Tensor:
    """A uniformly random orthogonal matrix [m, m]."""
    q, r = torch.linalg.qr(torch.randn(m, m, generator=rng))
    return q * r.diagonal().sign()


def kurtosis(params: Kurtosis) -> dict:
    """The tied model (n=8, m=16, SGD) under noise of five laws and equal variance, and what turning its units costs.

    Returns:
        law: [5], "none" and the first four of `LAWS` (t(3) diverges); step [T]; concentration [5, T, I].
        tied, readout: relative change of the noise's expected cost when units are turned at random, [5, I] for the tied
            model trained under bipolar noise and [5, seeds] for the readout of the network, published combination 8.
    """
    at = np.unique(np.linspace(1, params.kurtosis_steps, 12).astype(int)).tolist()
    size, runs = (8, 16, params.kurtosis_runs, params.kurtosis_steps, params.seed, params.device), {}
    for law in ("none", *LAWS[:4]):
        runs[law] = torch.tensor(reuse(collisions.tied, *size, noise=law, sgd=0.02, log_at=at)["history"])
    course = [concentration(history).mean(-1).numpy() for history in runs.values()]
    network = trained(params, [PUBLISHED[7]], params.first(params.seeds))
    tied, readout = runs["bipolar"][-1], network.weights["W4"][0].cpu()  # [I, 8, 16] and [seeds, 8, 12]
    turned = {"tied": (tied, tied_relu_cost, collisions.SIGMA), "readout": (readout, linear_cost, 0.1)}
    found = {name: np.stack([_turned(params, law, *case) for law in LAWS]) for name, case in turned.items()}
    return found | {"law": list(runs), "step": np.array(at), "concentration": np.stack(course)}


def _turned(params: Kurtosis, law: str, W: Tensor, cost: Cost, sigma: float) -> np.ndarray:
    noise = sigma * unit_noise(law, (params.turn_draws, W.shape[-1]), generator(params.seed, "turned", law))
    return turning_cost(W, noise, cost, 8, generator(params.seed, "turns")).numpy()
