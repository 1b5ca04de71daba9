"""The terms of a decomposition's loss, for one batch.

Every term is a mean over samples and positions of its own layer, and returns one number, or one per panel [S].

Source: Bushnaq, Braun and Sharkey 2025, section 2, but for `importance`, which is normalised layer by layer unless told
otherwise: the reference implementation divides every layer by the first one's number of positions, off by H W in
convolutional networks.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.spd.decomposition import Decomposition
from lib.spd.gates import lower_leaky, upper_backward, upper_leaky
from lib.spd.masks import Mask, Noise, subset_routes
from lib.spd.options import SPDConfig
from lib.tensors import WithGradient


class Step:
    """One batch: what the target does on it, the causal importances, and the terms of the loss as methods.

    Args:
        x: inputs, [(S,) B, ...].
        progress: share of training done, for the exponent of the importance term.
        weights: how many samples each row stands for, [(S,) B]; None: one. Rows other than the first of their kind must
            add nothing to reconstruction (`lib.spd.trainer.without_zero_rows`).
        n_rows: samples the rows stand for in all.
    """

    def __init__(
        self, dec: Decomposition, x: Tensor, config: SPDConfig, noise: Noise, progress: float = 0.0,
        weights: Tensor | None = None, n_rows: int | None = None,
    ):
        self.dec, self.x, self.config, self.noise, self.weights = dec, x, config, noise, weights
        self.lead = int(dec.panels is not None)
        self.n_rows = n_rows or x.shape[self.lead]
        self.p = config.exponent(progress)
        self.capture = dec.capture(x)
        self.gates = dec.gates(self.capture)
        self.importances = {name: lower_leaky(g, config.leak) for name, g in self.gates.items()}

    def total(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of coefficient x term, and the terms, each [] or [S]."""
        coefficients = self.config.coefficients()
        terms = {name: getattr(self, name)() for name in coefficients}
        return sum(coefficient * terms[name] for name, coefficient in coefficients.items()), terms

    def stochastic_masks(self) -> dict[str, Mask]:
        """One draw of m = g + (1 - g) r at every site, and of the delta component's mask, U(0, 1) per position."""
        return {name: self._stochastic(g) for name, g in self.importances.items()}

    def _stochastic(self, g: Tensor, route: Tensor | None = None) -> Mask:
        importance, r = self.noise.noise(g, self.config.mask)
        return Mask(importance, r, self.noise.uniform(g[..., 0].detach().contiguous()), route)

    def _reconstruction(self, masks: dict[str, Mask]) -> Tensor:
        out = self.dec(self.x, masks, self.capture)
        return divergence(out, self.capture.result, self.config.divergence, self.lead, self.n_rows)

    def recon(self) -> Tensor:
        """D(f(x | masks at all sites), f(x)), masks stochastic."""
        return self._reconstruction(self.stochastic_masks())

    def layerwise(self) -> Tensor:
        """Mean over sites of D with the masks at that site alone."""
        losses = [self._reconstruction({name: self._stochastic(g)}) for name, g in self.importances.items()]
        return sum(losses) / len(losses)

    def subset(self) -> Tensor:
        """D with masks at k sites, k uniform in 1..L, drawn for each sample."""
        routes = self._routes()
        return self._reconstruction({name: self._stochastic(g, routes[name]) for name, g in self.importances.items()})

    def _routes(self) -> dict[str, Tensor]:
        """A draw of `subset_routes`, by site [(S,) B, 1, ...]."""
        rows = next(iter(self.importances.values()))
        rows = rows.detach().flatten(self.lead + 1)[..., 0].contiguous()  # [(S,) B]
        routes = subset_routes(list(self.importances), self.noise, rows)
        return {name: routes[name].view(*rows.shape, *[1] * (g.ndim - 1 - rows.ndim))
                for name, g in self.importances.items()}

    def unmasked(self) -> Tensor:
        """D with every component on and no delta: the sum of the components alone."""
        one = self.x.new_ones(1, dtype=self.capture.result.dtype)
        return self._reconstruction({name: Mask(one, delta=0.0) for name in self.gates})

    def ci_masked(self) -> Tensor:
        """D with m = g and no delta."""
        return self._reconstruction({name: Mask(g, delta=0.0) for name, g in self.importances.items()})

    def ci_layerwise(self) -> Tensor:
        """Mean over sites of D with m = g and no delta at that site alone."""
        losses = [self._reconstruction({name: Mask(g, delta=0.0)}) for name, g in self.importances.items()]
        return sum(losses) / len(losses)

    def hidden(self) -> Tensor:
        """Mean over sites of the squared error of their outputs, masks stochastic at all."""
        record: dict[str, Tensor] = {}
        self.dec(self.x, self.stochastic_masks(), self.capture, record)
        wanted = {name: self.dec.sites[name].add_bias(out) for name, out in self.capture.outs.items()}
        losses = [divergence(record[name], y, "mse", self.lead, self.n_rows) for name, y in wanted.items()]
        return sum(losses) / len(losses)

    def adversarial(self) -> Tensor:
        """D at the worst noise that signed ascent finds in [0, 1], for components and deltas."""
        return self._worst(dict.fromkeys(self.importances))

    def adversarial_subset(self) -> Tensor:
        """The same with masks at k sites as in `subset`, drawn before the ascent."""
        return self._worst(self._routes())

    def _worst(self, routes: dict[str, Tensor | None]) -> Tensor:
        fixed = {name: g.detach() for name, g in self.importances.items()}
        sources = [self._source(g) for g in fixed.values()] + [self._source(g[..., 0]) for g in fixed.values()]
        for _ in range(self.config.attack_steps):
            sources = [source.requires_grad_() for source in sources]
            found = torch.autograd.grad(self._attacked(fixed, sources, routes).sum(), sources)
            with torch.no_grad():
                ascent = zip(sources, found, strict=True)
                sources = [(s + self.config.attack_size * d.sign()).clamp_(0, 1) for s, d in ascent]
        return self._attacked(self.importances, sources, routes)

    def _source(self, like: Tensor) -> Tensor:
        """Noise to start from: per position, or the same for all of a batch."""
        if self.config.attack_scope == "batch":
            like = like[:, :1] if self.lead else like[:1]
        return self.noise.uniform(like.contiguous())

    def _attacked(
        self, importances: dict[str, Tensor], sources: list[Tensor], routes: dict[str, Tensor | None]
    ) -> Tensor:
        noises, deltas = sources[: len(importances)], sources[len(importances) :]
        masks = {}
        for (name, g), r, delta in zip(importances.items(), noises, deltas, strict=True):
            masks[name] = Mask(g, r.expand_as(g), delta.expand(g.shape[:-1]), routes[name])
        return self._reconstruction(masks)

    def importance(self) -> Tensor:
        """sum over sites, each times its factor, and components of the mean over positions of (upper-leaky g + eps)^p.

        Positions are the site's own; with `positions` "first" the sum is divided by those of the first site.
        """
        total, rows, factors = 0, self.lead + 1, self.config.site_importance
        first = next(iter(self.gates.values()))
        for name, g in self.gates.items():
            positions = self.n_rows * (g if self.config.positions == "own" else first).shape[rows:-1].numel()
            weights = None if self.weights is None else self.weights[(...,) + (None,) * (g.ndim - rows)]
            penalty = _penalty(g, self.p, self.config.eps, self.config.leak, weights, self.lead)
            total = total + penalty * (factors.get(name, 1.0) / positions)
        return total

    def faithfulness(self) -> Tensor:
        """sum of |W - Ŵ|^2 over all sites, over the number of weights."""
        return faithfulness(self.dec)

    def l1(self) -> Tensor:
        """Mean |V| plus mean |U|, summed over sites."""
        return self._size(torch.abs)

    def l2(self) -> Tensor:
        """Mean V^2 plus mean U^2, summed over sites."""
        return self._size(torch.square)

    def _size(self, of) -> Tensor:
        parts = [tensor for parts in self.dec.parts.values() for tensor in (parts.V, parts.U)]
        return sum(of(tensor).mean((-2, -1)) for tensor in parts)


def faithfulness(dec: Decomposition) -> Tensor:
    """sum over sites |W - V U|^2 / number of weights, [] or [S]."""
    lead = int(dec.panels is not None)
    errors = [dec.delta(name).square().flatten(lead).sum(-1) for name in dec.sites]
    return sum(errors) / sum(site.weight.numel() for site in dec.sites.values())


def divergence(out: Tensor, wanted: Tensor, kind: str, lead: int = 0, n_rows: int | None = None) -> Tensor:
    """Mean squared error of every output, or KL(wanted ‖ out) of softmax distributions over the last axis.

    Args:
        out, wanted: [(S,) B, ...]; for "kl" logits [(S,) B, ..., n_classes].
        lead: axes of panels, 0 or 1.
        n_rows: samples to average over where rows are left out that add nothing; None: B.
    Returns:
        One number per panel.
    """
    n_rows = n_rows or out.shape[lead]
    if kind == "mse":
        return (out - wanted).square().flatten(lead).sum(-1) / (n_rows * out.shape[lead + 1 :].numel())
    logs = F.log_softmax(wanted, -1)
    values = (logs.exp() * (logs - F.log_softmax(out, -1))).flatten(lead).sum(-1)
    return values / (n_rows * out.shape[lead + 1 : -1].numel())


def _penalty(g: Tensor, p: float, eps: float, leak: float, weights: Tensor | None, lead: int) -> Tensor:
    """sum of weight (upper_leaky(g) + eps)^p over all but the panels; only g is kept for the gradient."""
    def value(g: Tensor, weights: Tensor | None) -> Tensor:
        values = upper_leaky(g, leak).add_(eps).pow_(p)
        return (values if weights is None else values.mul_(weights)).sum(tuple(range(lead, g.ndim)))

    def gradient(d: Tensor, g: Tensor, weights: Tensor | None) -> tuple[Tensor, None]:
        d = p * d.view(*d.shape, *[1] * (g.ndim - d.ndim))
        d = d.expand_as(g) if p == 1 else upper_leaky(g, leak).add_(eps).pow_(p - 1).mul_(d)
        return upper_backward(d if weights is None else d * weights, g, leak), None

    return WithGradient.apply(value, gradient, g, weights)
