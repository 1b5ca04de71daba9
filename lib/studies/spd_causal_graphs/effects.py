"""Exact causal effects between the components of two decomposed layers, by ablation, image by image.

A layer's component c reads a_c = x·V_c and writes a_c U_c; a layer is the sum of its components, of what they leave out
(delta) and of its bias. Effects are differences of the second layer's component activations a2_j = relu(pre)·V2_j.
They do not change when a component of the first layer is written as (-V, -U); the sign of output j is that of V2_j.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

BASELINES = ("zero", "mean", "ci")
FORMS = ("exact", "published")
_BLOCK = 2**22
"""Numbers of the hidden layer held at a time: 16 MiB."""


class TwoLayers(NamedTuple):
    """Two decomposed layers with a ReLU between them, x -> relu(layer 1) -> layer 2, with every part kept.

    layer(x) = (x V) U + x deltaᵀ + b, which is the target's layer when delta = W - (V U)ᵀ; of a layer from d to D
    V is [d, C], U [C, D], delta [D, d] and b [D].
    """

    V1: Tensor
    U1: Tensor
    delta1: Tensor
    b1: Tensor
    V2: Tensor
    U2: Tensor
    delta2: Tensor
    b2: Tensor

    def pre(self, x: Tensor, form: str = "exact") -> Tensor:
        """What enters the ReLU with every component on, [n, d_hidden].

        "published" leaves delta out and adds the bias only after the ReLU, where it cancels from every difference.
        """
        _one_of("form", form, FORMS)
        own = x @ self.V1 @ self.U1
        return own if form == "published" else own + x @ self.delta1.T + self.b1

    def output(self, x: Tensor) -> Tensor:
        """The whole network's output, [n, d_out]."""
        h = self.pre(x).relu()
        return h @ self.V2 @ self.U2 + h @ self.delta2.T + self.b2

    def activations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Component activations of both layers in the whole network, [n, C1] and [n, C2]."""
        return x @ self.V1, self.pre(x).relu() @ self.V2


def random_components(net: TwoLayers, rng: torch.Generator) -> TwoLayers:
    """The same network with layer 1 split otherwise: random directions V_c and U_c of the lengths they have now.

    The null of effect sizes: what ablating a component does whose directions mean nothing. delta takes up the rest, so
    the network does not change.

    Args:
        rng: draws the directions, on the device of the network.
    """
    V, U = (torch.randn(part.shape, generator=rng, dtype=part.dtype, device=rng.device) for part in (net.V1, net.U1))
    V = V * (net.V1.norm(dim=0) / V.norm(dim=0))
    U = U * (net.U1.norm(dim=1) / U.norm(dim=1))[:, None]
    return net._replace(V1=V, U1=U, delta1=net.delta1 + (net.V1 @ net.U1 - V @ U).T)


class Pairs(NamedTuple):
    """Which effects are asked: two layers on some images, and the components of each, I of layer 1 and J of layer 2."""

    net: TwoLayers
    x: Tensor
    """Images, [n, d_in]."""
    on: Tensor
    """The images on which each output matters, bool [n, J]."""
    inputs: list[int]
    outputs: list[int]


class Edges(NamedTuple):
    """Effects of input components (rows) on output components (columns) over the images where the output matters."""

    mean: np.ndarray
    """Mean effect, [I, J]; nan, like its interval, where the output matters on fewer than two images."""
    low: np.ndarray
    """Percentile bootstrap interval of the mean over images, [I, J] each."""
    high: np.ndarray
    significant: np.ndarray
    """Whether a t-test over single images passes Benjamini and Hochberg's rate over all edges, bool [I, J]."""
    n: np.ndarray
    """Images where the output matters, [J]."""


@torch.no_grad()
def ablation_effects(
    pairs: Pairs, baseline: str = "zero", form: str = "exact", ci1: Tensor | None = None
) -> Tensor:
    """Effect of every input component on every output component, a2_j with i on minus a2_j with i replaced.

    Args:
        baseline: i is replaced by "zero", or by its "mean" activation over the images; "ci": by zero in the network
            whose first layer is masked by its causal importances and has no delta (what the masks promise to keep);
            form "exact" alone.
        form: "exact", or "published" (bias after the ReLU, delta dropped).
        ci1: causal importances of layer 1, [n, C1]; needed by "ci".
    Returns:
        Effects of each image, whether the output matters on it or not, [n, I, J].
    Source: report_components, causal effects; the exact form is ours.
    """
    net, V2 = pairs.net, pairs.net.V2[:, pairs.outputs]
    pre, removed = _ablation(net, pairs.x, baseline, form, ci1)
    found = [drop @ V2 for drop in _drops(pre, removed, net.U1, pairs.inputs)]  # each [i, n, J]
    return torch.cat(found).transpose(0, 1)  # [n, I, J]


@torch.no_grad()
def mean_effects(net: TwoLayers, x: Tensor, on: Tensor, form: str = "exact") -> Tensor:
    """Mean effect of every input component on every output component over the images where the output matters.

    E_ij = mean over {x: on_j(x)} of a2_j - a2_j without i: all pairs at once, no effects of single images kept.

    Args:
        on: bool, [n, C2]: ci2 > tau; form: as in `ablation_effects`.
    Returns:
        [C1, C2]; nan where an output matters on no image.
    """
    pre, removed = _ablation(net, x, "zero", form, None)
    weights = on.to(x.dtype) / on.sum(0)  # [n, C2]
    found = []
    for drop in _drops(pre, removed, net.U1, range(len(net.U1))):
        sums = drop.transpose(1, 2) @ weights  # [i, d_hidden, C2]
        found.append((sums * net.V2).sum(1))
    return torch.cat(found)  # [C1, C2]


@torch.no_grad()
def shapley_effects(pairs: Pairs, orders: int, rng: torch.Generator) -> Tensor:
    """Shapley values of the input components, their marginal effect averaged over random orders of switching on.

    Everything else (components not in `inputs`, delta) is one player more, left out of the result. Along each order
    the marginal effects sum to a2_j with everything minus a2_j with nothing but the bias.

    Args:
        orders: random orders; rng: draws them.
    Returns:
        [n, I, J].
    Source: Shapley 1953.
    """
    net, x = pairs.net, pairs.x
    a, U1, V2 = (x @ net.V1)[:, pairs.inputs], net.U1[pairs.inputs], net.V2[:, pairs.outputs]
    rest = net.pre(x) - net.b1 - a @ U1  # [n, d_hidden]
    total = torch.zeros(len(x), len(U1) + 1, U1.shape[1], dtype=x.dtype, device=x.device)
    for _ in range(orders):
        pre = net.b1.expand(len(x), -1)
        for player in torch.randperm(len(U1) + 1, generator=rng).tolist():
            after = pre + (rest if player == len(U1) else a[:, player, None] * U1[player])
            total[:, player] += after.relu() - pre.relu()
            pre = after
    return total[:, :-1] @ V2 / orders


@torch.no_grad()
def largest_at_random(pairs: Pairs, unit: np.ndarray, draws: int, rng: torch.Generator) -> np.ndarray:
    """The `extremes` of the effects of `random_components`, divided by `unit` [J]; [draws, 4]."""
    rows = []
    for _ in range(draws):
        drawn = random_components(pairs.net, rng)._replace(V2=pairs.net.V2[:, pairs.outputs])
        rows.append(extremes(mean_effects(drawn, pairs.x, pairs.on)[pairs.inputs].cpu().numpy() / unit))
    return np.array(rows)


def extremes(effects: np.ndarray) -> np.ndarray:
    """The two largest and the two most negative effects of all, the outermost of each sign first, [4]."""
    return np.sort(effects, axis=None)[[-1, -2, 0, 1]]


def edges(values: Tensor, on: Tensor, rng: np.random.Generator, n_resamples: int = 2000) -> Edges:
    """Mean, 95 % interval and significance, at a false discovery rate of .05, of each effect where its output matters.

    Args:
        values: effects of single images, [n, I, J]; on: bool, [n, J].
        rng: of the bootstrap.
    Source: Benjamini & Hochberg 1995, through scipy.
    """
    values, on = values.cpu().numpy().astype(float), on.cpu().numpy().astype(bool)
    shape = values.shape[1:]
    mean, low, high = (np.full(shape, np.nan) for _ in range(3))
    p = np.ones(shape)
    for j in range(shape[1]):
        own = values[on[:, j], :, j]  # [n_j, I]
        if len(own) < 2:
            continue
        mean[:, j] = own.mean(0)
        counts = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=n_resamples)  # [B, n_j]
        low[:, j], high[:, j] = np.quantile(counts @ own / len(own), [0.025, 0.975], axis=0)
        spread = own.std(0) > 0
        p[spread, j] = stats.ttest_1samp(own[:, spread], 0.0).pvalue
    adjusted = stats.false_discovery_control(p.ravel()).reshape(shape)
    return Edges(mean, low, high, adjusted <= 0.05, on.sum(0))


def _ablation(net: TwoLayers, x: Tensor, baseline: str, form: str, ci1: Tensor | None) -> tuple[Tensor, Tensor]:
    """What enters the ReLU, [n, d_hidden], and how much of each component's activation an ablation takes, [n, C1]."""
    _one_of("baseline", baseline, BASELINES)
    a = x @ net.V1
    if baseline == "ci":
        if ci1 is None or form != "exact":
            raise ValueError("baseline 'ci' masks layer 1 by its causal importances: give ci1 [n, C1] and form 'exact'")
        return (a * ci1) @ net.U1 + net.b1, a * ci1
    return net.pre(x, form), a if baseline == "zero" else a - a.mean(0)


def _drops(pre: Tensor, removed: Tensor, U1: Tensor, inputs: Sequence[int]) -> Iterator[Tensor]:
    """What the hidden layer loses without each of some input components at a time, [i, n, d_hidden]."""
    inputs, step = list(inputs), max(1, _BLOCK // pre.numel())
    kept = pre.relu()
    for start in range(0, len(inputs), step):
        own = inputs[start : start + step]
        without = torch.addcmul(pre, removed[:, own].T[:, :, None], U1[own][:, None], value=-1)
        yield torch.sub(kept, without.relu_(), out=without)


def _one_of(name: str, value: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(accepted)}")
