"""Weights of layers that lie on sheets: their rank and size, how like their neighbours they are, how the loss pulls."""
from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lib.metrics.spectrum import effective_rank
from lib.topoloss import Factor, TopoLoss


def sheet_weights(model: nn.Module, layers: str, factor: Factor) -> dict[str, float]:
    """Facts about the weights of the layers a topographic loss presses; the model is as before afterwards.

    Args:
        model: holds the layers.
        layers: as `TopoLoss` takes them; their units are read in order, also where training permuted the sheet.
        factor: of the loss.
    Returns:
        effective_rank, mean over layers; rms, over all weights; topo_loss, L; exponent of |∇L| in a common scale of the
        weights, .1 to 10 (L does not depend on that scale, so Euler's theorem says -1).
    """
    topo = TopoLoss(model, layers, factor)
    weights = [model.get_submodule(name).weight for name in topo.names]
    flat = [w.detach().flatten(1).double().cpu().numpy() for w in weights]
    scales = np.geomspace(0.1, 10, 7)
    norms = np.array([_gradient_norm(topo, model, weights, float(scale)) for scale in scales])
    return {
        "effective_rank": float(np.mean([effective_rank(w) for w in flat])),
        "rms": float(np.sqrt(np.mean(np.concatenate([w.ravel() for w in flat]) ** 2))),
        "topo_loss": float(topo(model).detach()),
        "exponent": float(np.polyfit(np.log(scales), np.log(norms), 1)[0]),
    }


def _gradient_norm(topo: TopoLoss, model: nn.Module, weights: list[nn.Parameter], scale: float) -> float:
    """|∇L| with all weights multiplied by `scale`."""
    kept = [w.detach().clone() for w in weights]
    with torch.no_grad():
        torch._foreach_mul_(weights, scale)
    norm = torch.nn.utils.get_total_norm(torch.autograd.grad(topo(model), weights))
    with torch.no_grad():
        torch._foreach_copy_(weights, kept)
    return float(norm)
