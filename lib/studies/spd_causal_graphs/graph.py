"""Which edges a causal graph keeps, what chance would keep, and whether what is kept carries the joint effect."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np
import torch
from torch import Tensor

from lib.studies.spd_causal_graphs.effects import Edges, Pairs


class Ribbon(NamedTuple):
    """Mean, and low and high ends of the central 95 %, of what random effects give."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def cumulative_share(effects: np.ndarray, power: int = 1) -> np.ndarray:
    """Share of sum_i |E_ij|^power held by the k strongest inputs of each output, k = 1..I.

    Args:
        effects: [I, J]; power: 1 for absolute effects, 2 for squared ones.
    Returns:
        [I, J], rising to 1; nan for an output without effects.
    Source: report_components, 80 % rule.
    """
    mass = np.sort(np.abs(effects) ** power, axis=0)[::-1]
    total = mass.sum(0)
    return np.cumsum(mass, axis=0) / np.where(total > 0, total, np.nan)


def inputs_needed(effects: np.ndarray, share: float = 0.8, power: int = 1) -> np.ndarray:
    """Fewest inputs that hold `share` of sum_i |E_ij|^power of each output, [J]; nan for an output without effects."""
    held = cumulative_share(effects, power)
    counts = (held < share - 1e-12).sum(0) + 1.0
    return np.where(np.isfinite(held[-1]), counts, np.nan)


def strongest(effects: np.ndarray, share: float = 0.8, power: int = 1) -> np.ndarray:
    """The edges of the 80 % rule: of each output, the strongest inputs that together hold `share`, bool [I, J]."""
    rank = np.argsort(np.argsort(-np.abs(effects), axis=0, kind="stable"), axis=0)  # 0 for the strongest
    return rank < np.nan_to_num(inputs_needed(effects, share, power))


def random_shares(n_inputs: int, rng: np.random.Generator, power: int = 1, draws: int = 1000) -> Ribbon:
    """`cumulative_share` of normal effects of one scale: how concentrated effects are without any structure, [I] each.

    Args:
        n_inputs: inputs of an output; rng: draws their effects.
    """
    held = cumulative_share(rng.standard_normal((n_inputs, draws)), power)
    return Ribbon(held.mean(1), *np.quantile(held, [0.025, 0.975], axis=1))


def random_needed(
    n_inputs: int, n_outputs: int, rng: np.random.Generator, share: float = 0.8, power: int = 1, draws: int = 1000
) -> np.ndarray:
    """`inputs_needed` of as many normal effects of one scale, mean over the outputs of each draw, [draws]."""
    effects = rng.standard_normal((n_inputs, n_outputs * draws))
    return inputs_needed(effects, share, power).reshape(draws, n_outputs).mean(1)


@torch.no_grad()
def joint_share(pairs: Pairs, keep: np.ndarray) -> np.ndarray:
    """Share of the inputs' joint effect on each output that is left when the inputs not kept are ablated too.

    share_j = sum (a2_j(kept on) - a2_j(all off)) / sum (a2_j(all on) - a2_j(all off)), sums over {x: on_j(x)};
    "off" refers to `inputs`, everything else stays. Effects of single ablations need not add up to this.

    Args:
        keep: bool, [I, J], the kept inputs of each output.
    Returns:
        [J]; nan where an output matters on no image or the joint effect is 0.
    """
    net, x, on, inputs, outputs = pairs
    parts, pre = (x @ net.V1)[:, inputs], net.pre(x)
    off, found = pre - parts @ net.U1[inputs], []
    kept = torch.as_tensor(keep, dtype=x.dtype, device=x.device)
    for place, j in enumerate(outputs):
        own, V2 = on[:, place], net.V2[:, j]
        left = off[own] + parts[own] * kept[:, place] @ net.U1[inputs]
        none = off[own].relu() @ V2
        joint = (pre[own].relu() @ V2 - none).sum()
        found.append(float((left.relu() @ V2 - none).sum() / joint) if joint != 0 else np.nan)
    return np.array(found)


def sparsity(pairs: Pairs, values: Tensor, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The 80 % rule of one network, with its chance.

    Args:
        values: effects of single images, [n, I, J]; draws: of random edges.
    Returns:
        needed and needed_squares [J]; chance_needed and chance_needed_squares [200], means over outputs; joint [J],
        share of the joint effect the rule's edges keep, and joint_chance [J], that of as many random edges.
    """
    values, own = values.cpu().numpy(), pairs.on.cpu().numpy()
    mean = np.stack([values[own[:, j], :, j].mean(0) for j in range(own.shape[1])], axis=1)  # [I, J]
    found, keep = {}, strongest(mean)
    for name, power in (("needed", 1), ("needed_squares", 2)):
        found[name] = inputs_needed(mean, power=power)
        found[f"chance_{name}"] = random_needed(*mean.shape, rng, power=power, draws=200)
    drawn = [joint_share(pairs, rng.permuted(keep, axis=0)) for _ in range(draws)]
    found["joint"], found["joint_chance"] = joint_share(pairs, keep), np.mean(drawn, axis=0)
    return found


def build(
    effects: Edges, keep: np.ndarray, inputs: Sequence[int], outputs: Sequence[int], unit: np.ndarray, level: np.ndarray
) -> nx.DiGraph:
    """The kept edges as a directed graph from ("in", i) to ("out", j).

    Args:
        effects: of I inputs on J outputs; keep: bool, [I, J]; inputs, outputs: names of the components.
        unit: [J], what effects are divided by, such as a standard deviation and the sign of each output.
        level: mean activation of each output over its images, [J].
    Returns:
        Graph whose nodes have `layer` (0 or 1) and whose edges have effect, low, high, on and off (the output's mean
        with and without the input), n and significant.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from((("in", int(i)) for i in inputs), layer=0)
    graph.add_nodes_from((("out", int(j)) for j in outputs), layer=1)
    for i, j in zip(*np.nonzero(keep), strict=True):
        ends = sorted((effects.low[i, j] / unit[j], effects.high[i, j] / unit[j]))
        graph.add_edge(("in", int(inputs[i])), ("out", int(outputs[j])), effect=float(effects.mean[i, j] / unit[j]),
                       low=float(ends[0]), high=float(ends[1]), on=float(level[j] / unit[j]),
                       off=float((level[j] - effects.mean[i, j]) / unit[j]), n=int(effects.n[j]),
                       significant=bool(effects.significant[i, j]))
    return graph
