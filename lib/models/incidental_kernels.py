"""Loss and gradient of many five-layer networks at once, by hand, into buffers that are reused at every step.

Tensors are [rows, units, samples], so that every layer is one batched product of a small matrix with a wide one.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.correlated_groups import N_FEATURES
from lib.data.noise import unit_noise
from lib.ensembles import Layout
from lib.rng import generator

N_LAYERS = 5
NoiseStream = Callable[[], Tensor]
"""() -> the next step's noise, [seeds, hidden_dim, samples]."""
_threshold_backward, _gelu_backward = torch.ops.aten.threshold_backward, torch.ops.aten.gelu_backward


def layout(hidden_dim: int) -> Layout:
    """W0, b0, .. W4, b4 in the order torch's own parameters come in; W_i is [out, in]."""
    sizes = [N_FEATURES, *[hidden_dim] * (N_LAYERS - 1), N_FEATURES]
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        shapes |= {f"W{i}": (n_out, n_in), f"b{i}": (n_out,)}
    return Layout(**shapes)


class Penalties(NamedTuple):
    """Per row, [I, 1]: weight of sum|W|, weight of theta in the gradient, largest gradient norm (None: no clipping)."""

    l1: Tensor
    l2: Tensor
    clip: Tensor | None


class Gradient:
    """(theta [I, P], grad [I, P]) -> mean squared error [I] under noise; grad gets error, penalties and clipping.

    The order is torch's: the L1 term is part of the loss, the gradient is clipped, and Adam's decay is added last.

    Args:
        x, y: [I, 8, n].
        relu_rows: the first rows use ReLU, the others GELU.
        noisy: (kind, rows) for every run of neighbouring rows; kind `none` receives nothing.
        noise: kind to its source; a draw [S, hidden_dim, n] serves every S rows of the run in turn.
    """

    def __init__(
        self, hidden_dim: int, x: Tensor, y: Tensor, relu_rows: int, penalties: Penalties,
        noisy: Sequence[tuple[str, slice]], noise: dict[str, NoiseStream],
    ):  # fmt: skip
        self.names, self.x, self.y, self.relu_rows = layout(hidden_dim), x, y, relu_rows
        self.penalties, self.noisy, self.noise = penalties, noisy, noise
        rows, _, samples = x.shape
        weights = {k: torch.full(s, float(k[0] == "W"), device=x.device) for k, s in self.names.shapes.items()}
        self.l1 = penalties.l1 * self.names.pack(**weights)  # [I, P]
        hidden = [x.new_empty(rows, hidden_dim, samples) for _ in range(2 * N_LAYERS)]
        self.pre, self.out, self.noisy_out, self.back = hidden[:4], hidden[4:8], hidden[8], hidden[9]
        self.residual, self.seen = torch.empty_like(y), None

    def __call__(self, theta: Tensor, grad: Tensor) -> Tensor:
        if self.seen is not theta:  # the table is updated in place, so its views are made once
            self.seen, self.at, self.grads = theta, self.names.views(theta), self.names.views(grad)
        self._forward()
        loss = torch.linalg.vector_norm(self.residual, dim=(1, 2)).square_() / self.y[0].numel()
        self._backward()
        grad.addcmul_(theta.sign(), self.l1)
        if self.penalties.clip is not None:
            norm = torch.linalg.vector_norm(grad, dim=1, keepdim=True)  # [I, 1]
            grad.mul_((self.penalties.clip / (norm + 1e-6)).clamp_(max=1.0))
        grad.addcmul_(theta, self.penalties.l2)
        return loss

    def _forward(self) -> None:
        h = self.x
        for i in range(N_LAYERS - 1):
            torch.bmm(self.at[f"W{i}"], h, out=self.pre[i]).add_(self.at[f"b{i}"].unsqueeze(2))
            h = _activate(self.pre[i], self.out[i], self.relu_rows)
        drawn = {kind: source() for kind, source in self.noise.items()}
        for kind, rows in self.noisy:
            if kind == "none":
                self.noisy_out[rows].copy_(h[rows])
            else:
                seeds = len(drawn[kind])
                clean, result = (part[rows].unflatten(0, (-1, seeds)) for part in (h, self.noisy_out))
                torch.add(clean, drawn[kind], out=result)  # one draw for all cells of a seed
        W, b = self.at["W4"], self.at["b4"].unsqueeze(2)
        torch.bmm(W, self.noisy_out, out=self.residual).add_(b).sub_(self.y)

    def _backward(self) -> None:
        d = self.residual.mul_(2.0 / self.y[0].numel())
        inputs = [self.x, *self.out[:-1], self.noisy_out]
        for i in range(N_LAYERS - 1, -1, -1):
            self.grads[f"W{i}"].copy_(torch.bmm(d, inputs[i].mT))
            torch.sum(d, 2, out=self.grads[f"b{i}"])
            if i:
                torch.bmm(self.at[f"W{i}"].mT, d, out=self.back)
                d = _activate_backward(self.back, self.pre[i - 1], self.relu_rows)


def _activate(pre: Tensor, out: Tensor, relu_rows: int) -> Tensor:
    torch.clamp_min(pre[:relu_rows], 0, out=out[:relu_rows])
    if relu_rows < len(pre):
        torch.ops.aten.gelu.out(pre[relu_rows:], out=out[relu_rows:])
    return out


def _activate_backward(d: Tensor, pre: Tensor, relu_rows: int) -> Tensor:
    """d times the activation's slope at `pre`; a multiplication by a mask would pay for the mask too."""
    result = torch.empty_like(d)
    _threshold_backward.grad_input(d[:relu_rows], pre[:relu_rows], 0, grad_input=result[:relu_rows])
    if relu_rows < len(d):
        _gelu_backward.grad_input(d[relu_rows:], pre[relu_rows:], grad_input=result[relu_rows:])
    return result


@torch.no_grad()
def hidden_and_output(theta: Tensor, hidden_dim: int, x: Tensor, relu_rows: int) -> tuple[Tensor, Tensor]:
    """Last hidden layer [I, hidden_dim, n] and output [I, 8, n] without noise; x [I, 8, n]."""
    at, h = layout(hidden_dim).views(theta), x
    for i in range(N_LAYERS):
        pre = torch.baddbmm(at[f"b{i}"].unsqueeze(2), at[f"W{i}"], h)
        if i < N_LAYERS - 1:
            h = torch.cat([pre[:relu_rows].relu(), F.gelu(pre[relu_rows:])])
    return h, pre


def network_noise(
    kind: str, seeds: Sequence[int], sigma: float, shape: tuple[int, int], device: str | torch.device
) -> NoiseStream:
    """A source of noise for each step, of standard deviation sigma, each seed from its own stream.

    Args:
        kind: `bipolar`, or `positive_kurtosis` (Student's t with 3 degrees of freedom).
        shape: (hidden_dim, samples).
    Raises:
        ValueError: another kind.
    """
    if kind not in ("bipolar", "positive_kurtosis"):
        raise ValueError(f"noise {kind!r} is not bipolar or positive_kurtosis")
    rngs = [generator(seed, "noise", kind, device=device) for seed in seeds]
    ahead = 1 if torch.device(device).type == "cpu" else 32  # a GPU would spend its time on launching small draws
    drawn: list[Tensor] = []

    def step() -> Tensor:
        if not drawn:
            block = torch.stack([unit_noise(kind, (ahead, *shape), rng) for rng in rngs], 1)  # [ahead, S, h, n]
            drawn.extend(block.mul_(sigma).unbind(0)[::-1])
        return drawn.pop()

    return step
