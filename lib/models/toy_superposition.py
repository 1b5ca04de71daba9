"""The toy model of superposition, h = W x, x' = ReLU(W^T h + b), as an ensemble with hand-written gradients.

One row of the ensemble's table holds W [n_hidden, n_features] and b [n_features]. The loss of a model is
L = sum_i I_i (x_i - x'_i)^2, averaged over samples; column i of W is the direction W_i of feature i.
The gradient, with d = x' - x and g_i = 2 I_i d_i [pre_i > 0] (without the gate when the output is linear):

    dL/db = g,    dL/dW = h g^T + (W g) x^T,    averaged over samples.

Source: Elhage et al. 2022, "Toy Models of Superposition".
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lib.ensembles import Layout, LossAndGrad

Draw = Callable[[], Tensor]
"""A fresh minibatch for every model, [I, batch, n_features]."""

KINDS = ("relu", "linear", "privileged")


def layout(n_features: int, n_hidden: int) -> Layout:
    """Rows of W [n_hidden, n_features] and b [n_features]."""
    return Layout(W=(n_hidden, n_features), b=(n_features,))


def initial(n_models: int, n_features: int, n_hidden: int, rng: torch.Generator) -> Tensor:
    """A table [n_models, P] on the generator's device: W normal of variance 2/(n_hidden + n_features), b = 0."""
    shape = (n_models, n_hidden, n_features)
    W = torch.randn(shape, generator=rng, dtype=torch.float32, device=rng.device) * (2 / (n_hidden + n_features)) ** 0.5
    return layout(n_features, n_hidden).pack(W=W, b=W.new_zeros(n_models, n_features))


def forward(W: Tensor, b: Tensor, x: Tensor, kind: str = "relu") -> Tensor:
    """Reconstruction x' = ReLU(W^T W x + b), one of three kinds.

    "relu" is the model; "linear" leaves out the output's ReLU; "privileged" adds one on the hidden layer,
    x' = ReLU(W^T ReLU(W x) + b), which gives the hidden units a meaning of their own.

    W is [..., n_hidden, n_features], b [..., n_features], x and x' [..., batch, n_features].
    """
    _check_kind(kind)
    h = x @ W.mT  # [..., batch, n_hidden]
    pre = (h.relu() if kind == "privileged" else h) @ W + b.unsqueeze(-2)  # [..., batch, n_features]
    return pre if kind == "linear" else pre.relu()


def feature_losses(W: Tensor, b: Tensor, x: Tensor, importance: Tensor, kind: str = "relu") -> Tensor:
    """Loss of each feature, I_i (x_i - x'_i)^2 averaged over samples, [..., n_features]; they sum to the model's."""
    return importance * (forward(W, b, x, kind) - x).square().mean(-2)


def aligned(W: Tensor) -> Tensor:
    """The same model turned so that feature 0 lies along the first axis, feature 1 in the plane of the first two, ...

    W -> QᵀW with W = QR, signs chosen so that feature i points along axis i; overlaps WᵀW do not change. W is
    [..., n_hidden, n_features], n_features >= n_hidden.
    """
    Q, R = torch.linalg.qr(W)
    sign = torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
    return sign.unsqueeze(-1) * (Q.mT @ W)


def sampled_loss(n_features: int, n_hidden: int, draw: Draw, importance: Tensor, kind: str = "relu") -> LossAndGrad:
    """Minibatch loss of an ensemble and its manual gradient, on fresh data of `draw` at every call.

    importance is [I, n_features].
    """
    _check_kind(kind)
    names = layout(n_features, n_hidden)

    def loss_and_grad(theta: Tensor, grad: Tensor) -> Tensor:
        at, into, x = names.views(theta), names.views(grad), draw()
        h = torch.bmm(x, at["W"].mT)  # [I, B, m]
        if kind == "privileged":
            h = h.clamp_min_(0)
        pre = torch.baddbmm(at["b"].unsqueeze(1), h, at["W"])  # [I, B, n]
        d = (pre.clone() if kind == "linear" else pre.clamp_min(0)).sub_(x)
        loss = (d.square().mean(1) * importance).sum(1)
        g = d.mul_((2 / x.shape[1]) * importance.unsqueeze(1))
        if kind != "linear":
            g.masked_fill_(pre <= 0, 0)
        into["b"].copy_(g.sum(1))
        Wg = torch.bmm(g, at["W"].mT)  # [I, B, m]
        if kind == "privileged":
            Wg.masked_fill_(h <= 0, 0)
        into["W"].copy_(torch.bmm(h.mT, g).add_(torch.bmm(Wg.mT, x)))  # [I, m, n]
        return loss

    return loss_and_grad


def quadrature(n_features: int, nodes: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Legendre points of [0, 1]^k for every subset of k active features, so that expectations become sums.

    Exact for polynomials of degree 2 nodes - 1 in each feature; a ReLU kink inside the cube costs about nodes^-2.

    Returns:
        points: [Q, n_features], Q = (nodes + 1)^n_features; base weights [Q], those of the active coordinates;
        n_active [Q, n_features], 1 where the feature is active. All float64.
    """
    at, weight = np.polynomial.legendre.leggauss(nodes)
    at, weight = np.r_[0.0, (at + 1) / 2], np.r_[1.0, weight / 2]  # entry 0: the feature is off
    index = np.indices((nodes + 1,) * n_features).reshape(n_features, -1).T  # [Q, n]
    return torch.tensor(at[index]), torch.tensor(weight[index].prod(1)), torch.tensor((index > 0) * 1.0)


def expected_loss(n_hidden: int, p: Tensor, importance: Tensor, nodes: int = 8, scaled: bool = True) -> LossAndGrad:
    """The expected loss of independent features x_i = Bernoulli(p_i) * U(0, 1), without sampling, and its gradient.

    Args:
        p: [I, n_features], one to three features in practice: (nodes + 1)^n_features points are summed.
        importance: [I, n_features].
        scaled: divide loss and gradient by the model's mean p, so that gradients stay O(1) when features are rare.
    """
    if p.ndim != 2 or not ((p > 0) & (p <= 1)).all():
        raise ValueError(f"p must be [models, n_features] with values in (0, 1], got shape {tuple(p.shape)}")
    n = p.shape[1]
    points, base, active = (t.to(p) for t in quadrature(n, nodes))
    chance = torch.where(active.bool(), p.unsqueeze(1), 1 - p.unsqueeze(1)).prod(-1) * base  # [I, Q]
    unit = p.mean(1, keepdim=True) if scaled else torch.ones_like(p[:, :1])
    weight = (importance.unsqueeze(2) * (chance / unit).unsqueeze(1)).contiguous()  # [I, n, Q]
    names, x = layout(n, n_hidden), points.T.contiguous()  # [n, Q]

    def loss_and_grad(theta: Tensor, grad: Tensor) -> Tensor:
        at, into = names.views(theta), names.views(grad)
        W, models, Q = at["W"], len(theta), x.shape[1]
        h = (W.reshape(models * n_hidden, n) @ x).view(models, n_hidden, Q)
        pre = _small_matmul(W.mT, h).add_(at["b"].unsqueeze(2))  # [I, n, Q]
        d = pre.clamp_min(0).sub_(x)
        g = d * weight
        loss = torch.linalg.vecdot(g.flatten(1), d.flatten(1))
        g.mul_(2).masked_fill_(pre <= 0, 0)
        into["b"].copy_(g.sum(2))
        Wg = _small_matmul(W, g)  # [I, m, Q]
        into["W"].copy_((Wg.view(models * n_hidden, Q) @ x.T).view(models, n_hidden, n).add_(torch.bmm(h, g.mT)))
        return loss

    return loss_and_grad


def absolute_forward(W1: Tensor, W2: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """The absolute-value model y' = ReLU(W2 ReLU(W1 x) + b); x and y' are [..., batch, n_features]."""
    return ((x @ W1.mT).relu() @ W2.mT + b.unsqueeze(-2)).relu()


def _small_matmul(A: Tensor, B: Tensor) -> Tensor:
    """A [I, r, s] @ B [I, s, Q] for r, s of two or three, where a sum of outer products beats a batched product."""
    out = A[:, :, :1] * B[:, :1]
    for j in range(1, A.shape[2]):
        out.addcmul_(A[:, :, j : j + 1], B[:, j : j + 1])
    return out


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is not one of {KINDS}")


def zero_predictor_loss(importance: Tensor | float, feature_probability: Tensor | float) -> Tensor:
    """Expected loss of always answering 0, sum_i I_i E[x_i^2] = sum_i I_i p / 3 for x_i = Bernoulli(p) * U(0, 1).

    Args:
        importance: I, [..., n_features].
        feature_probability: p = 1 - sparsity, a number or anything that broadcasts against `importance`
            (one p per model is [n_models, 1]).
    """
    p = torch.as_tensor(feature_probability)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"feature_probability must lie in [0, 1], got values from {p.min():g} to {p.max():g}")
    return (torch.as_tensor(importance) * p).sum(-1) / 3


def mean_predictor_loss(importance: Tensor | float, feature_probability: Tensor | float) -> Tensor:
    """Expected loss of always answering the mean, sum_i I_i Var(x_i) = sum_i I_i (p / 3 - p^2 / 4)."""
    p = torch.as_tensor(feature_probability)
    return zero_predictor_loss(importance, p) - (torch.as_tensor(importance) * p.square()).sum(-1) / 4


def normalised_loss(loss: Tensor, importance: Tensor | float, feature_probability: Tensor | float) -> Tensor:
    """Loss as a fraction of the zero predictor's, L / (sum_i I_i p / 3); 1 means nothing was learned.

    Raw loss, sum_i I_i (x_i - x̂_i)^2 averaged over samples, falls with p by itself, so only this ratio can be compared
    across sparsities; [...], as loss.
    """
    floor = zero_predictor_loss(importance, feature_probability)
    if not (floor > 0).all():
        raise ValueError("normalised_loss: the zero predictor's loss is 0; importance and probability must be positive")
    return loss / floor
