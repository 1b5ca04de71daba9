"""A convolutional network with a head per attribute, and the same network without convolutions."""
from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.rng import generator
from lib.spd import Decomposition, Routed

CHANNELS, HIDDEN, KERNEL, STRIDE = (3, 8, 16, 16), 32, 5, 2
SITES = ("conv1", "conv2", "conv3", "fc1", "fc2")
BEHIND = ("fc1", "fc2")
"""Layers with one position in an image."""
_NO_CLASS = -1e4  # logit of a class that a head does not have


class Heads(nn.Module):
    """Logits cut into named heads, [..., sum of sizes] -> [..., heads, largest size]; a class a head lacks never wins.

    Attributes:
        slices: name -> its part of the logits.
    """

    def __init__(self, sizes: Mapping[str, int]):
        super().__init__()
        ends = torch.tensor([0, *sizes.values()]).cumsum(0).tolist()
        self.slices = {name: slice(*ends[i : i + 2]) for i, name in enumerate(sizes)}
        self.sizes, self.widest = tuple(sizes.values()), max(sizes.values())

    def forward(self, logits: Tensor) -> Tensor:
        if len(set(self.sizes)) == 1:
            return logits.unflatten(-1, (len(self.sizes), self.widest))
        parts = [logits[..., part] for part in self.slices.values()]
        return torch.stack([F.pad(p, (0, self.widest - p.shape[-1]), value=_NO_CLASS) for p in parts], -2)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={part.stop - part.start}" for name, part in self.slices.items())


def network(heads: Mapping[str, int], image_size: int, seed: int) -> Routed:
    """conv1 to conv3 (5 x 5, stride 2), fc1, fc2 and `Heads`, ReLU between; images [B, 3, H, W] in [0, 1].

    Args:
        heads: name -> classes; seed: of the weights, uniform with variance 2/fan_in below a ReLU and 1/fan_in in fc2;
            biases 0. (With the variance 1/3 fan_in of torch's own start shapes take twice as many steps to learn.)
    """
    side, layers = image_size, OrderedDict()
    for i, (c_in, c_out) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False), start=1):
        layers[f"conv{i}"] = nn.utils.skip_init(nn.Conv2d, c_in, c_out, KERNEL, STRIDE, KERNEL // 2)
        layers[f"relu{i}"], side = nn.ReLU(), -(-side // STRIDE)
    layers["flat"] = nn.Flatten()
    layers["fc1"] = nn.utils.skip_init(nn.Linear, CHANNELS[-1] * side**2, HIDDEN)
    layers["relu4"] = nn.ReLU()
    layers["fc2"] = nn.utils.skip_init(nn.Linear, HIDDEN, sum(heads.values()))
    layers["heads"] = Heads(heads)
    rng = generator(seed, "convolutional network")
    for name in SITES:
        bound = math.sqrt((3 if name == SITES[-1] else 6) / layers[name].weight[0].numel())
        nn.init.uniform_(layers[name].weight, -bound, bound, generator=rng)
        nn.init.zeros_(layers[name].bias)
    return Routed(layers)


class _Patches(nn.Module):
    """What a convolution's filter sees at each position, [B, C, H, W] -> [B, H', W', C kh kw]."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.kernel, self.padding, self.stride = conv.kernel_size, conv.padding, conv.stride

    def forward(self, x: Tensor) -> Tensor:
        side = (x.shape[2] + 2 * self.padding[0] - self.kernel[0]) // self.stride[0] + 1
        return F.unfold(x, self.kernel, 1, self.padding, self.stride).mT.unflatten(1, (side, -1))


class _ChannelsFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


def unfolded(dec: Decomposition, example: Tensor) -> Decomposition:
    """The same decomposition of the same network in which every convolution is a linear layer on patches."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in dec.target.named_children():
        if not isinstance(module, nn.Conv2d):
            layers[name] = module
            continue
        linear = nn.utils.skip_init(nn.Linear, module.weight[0].numel(), module.out_channels)
        linear.weight, linear.bias = nn.Parameter(module.weight.flatten(1)), module.bias
        layers |= {f"{name}_patches": _Patches(module), name: linear, f"{name}_channels": _ChannelsFirst()}
    C = {name: parts.V.shape[-1] for name, parts in dec.parts.items()}
    return Decomposition(Routed(layers), example, C, dec.gate, dec.width, sites=list(C)).load(dec.arrays())
