"""A decomposed network: components and gates of every site, and the masked forward pass as a plain function."""
from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lib.rng import generator
from lib.spd import gates
from lib.spd.components import Linear, routed, site_of
from lib.spd.masks import Mask, masked


class Capture(NamedTuple):
    """What the target does on a batch, site by site in the order of execution.

    Attributes:
        inputs: of each site; outs: what its weight makes of them, without bias; acts: of its components, [..., C],
            carrying the gradient of V; result: the network's output.
    """

    inputs: dict[str, Tensor]
    outs: dict[str, Tensor]
    acts: dict[str, Tensor]
    result: Tensor


class Parts(NamedTuple):
    """Trained parameters of one site: V [(S,) d_in, C], U [(S,) C, d_out] and those of its gates."""

    V: Tensor
    U: Tensor
    gate: dict[str, Tensor]


class Decomposition:
    """W = sum_c u_c v_cᵀ + Δ at every site of a frozen target, with a causal importance per component and position.

    Called, it is the masked network: `decomposition(x, {"fc1": Mask(...)})`; sites without a mask act as in the target.

    Args:
        target: a module with `forward(x, op=plain)`, see `lib.spd.components`; a frozen copy of it is kept, in
            evaluation mode.
        example: a batch the target accepts; its values do not matter.
        n_components: C, for all sites or by name.
        gate: one of `lib.spd.gates.GATES`; width: hidden units of a gate.
        seed: of the initial values; a list of different ones makes panels: decompositions side by side, linear sites
            only.
        sites: names to decompose; None: all that the forward pass offers.
        ties: {"linear2": "linear1"} lets linear2 use V = U1ᵀ and U = V1ᵀ, one parameter for both.
    Source: Bushnaq, Braun and Sharkey 2025.
    """

    def __init__(
        self, target: nn.Module, example: Tensor, n_components: int | Mapping[str, int], gate: str = "mlp",
        width: int = 16, seed: int | Sequence[int] = 0, sites: Sequence[str] | None = None,
        ties: Mapping[str, str] | None = None,
    ):
        self.target = copy.deepcopy(routed(target)).eval().requires_grad_(False)
        self.gate, self.width, self.ties = gate, width, dict(ties or {})
        seeds = seeds_of(seed)
        self.panels = None if isinstance(seed, Integral) else len(seeds)
        self.sites = self._find(example, sites)
        by_name = _by_name(n_components, self.sites)
        self.parts: dict[str, Parts] = {}
        for name, site in self.sites.items():
            site.check(by_name[name])
            starts = [_initial(name, site, by_name[name], gate, width, s) for s in seeds]
            self.parts[name] = _stacked(starts, site.weight, self.panels is not None)
        for name, owner in self.ties.items():
            self._tie(name, owner)

    def _find(self, example: Tensor, wanted: Sequence[str] | None) -> dict[str, Linear]:
        found: dict[str, Linear] = {}

        def record(name: str, module: nn.Module, x: Tensor) -> Tensor:
            if name in found:
                raise ValueError(f"site {name} runs twice in one pass; give each use a name of its own")
            found[name] = site_of(name, module)
            return module(x)

        with torch.no_grad():
            out = self.target(example, record)
        if missing := set(wanted or ()) - set(found):
            raise ValueError(f"the target has no site {', '.join(sorted(missing))}; it has {', '.join(found)}")
        found = {name: site for name, site in found.items() if wanted is None or name in wanted}
        if not found:
            raise ValueError("there is no site: the target's forward sends no weight through `op`, or `sites` is empty")
        if self.panels and any(type(site) is not Linear for site in found.values()):
            raise ValueError("panels need linear sites only; decompose with one seed at a time")
        self._check_panels(example, out)
        return found

    def _check_panels(self, example: Tensor, out: Tensor) -> None:
        """Refuse panels of a target that cannot take [S, B, ...], such as one with a convolution or a flattening."""
        if self.panels is None:
            return
        try:
            with torch.no_grad():
                whole = self.target(example.expand(self.panels, *example.shape))
            same = whole.shape[1:] == out.shape and torch.allclose(whole[-1], out, rtol=1e-3, atol=1e-5)
        except (RuntimeError, ValueError, IndexError):
            same = False
        if not same:
            raise ValueError(f"panels send [{self.panels}, B, ...] through the target, which cannot take it, be its "
                             "sites linear or not; decompose with one seed at a time, or what lies behind its linear "
                             "sites on their cached inputs: tail, inputs = Routed.behind(name, x)")

    def _tie(self, name: str, owner: str) -> None:
        if missing := {name, owner} - set(self.sites):
            raise ValueError(f"{name} cannot be tied to {owner}: there is no site {', '.join(sorted(missing))}")
        if not torch.equal(self.sites[name].weight, self.sites[owner].weight.T):
            raise ValueError(f"{name} cannot be tied to {owner}: its weight is not the transpose")
        if self.parts[name].V.shape[-1] != self.parts[owner].V.shape[-1]:
            raise ValueError(f"{name} cannot be tied to {owner}: they have different numbers of components")
        self.parts[name] = self.parts[name]._replace(V=self.parts[owner].U.mT, U=self.parts[owner].V.mT)

    def named_parameters(self) -> dict[str, Tensor]:
        """Every trained tensor once, named `site.V`, `site.U`, `site.gate.w1`, ..."""
        named = {}
        for name, parts in self.parts.items():
            if name not in self.ties:
                named |= {f"{name}.V": parts.V, f"{name}.U": parts.U}
            named |= {f"{name}.gate.{key}": value for key, value in parts.gate.items()}
        return named

    def capture(self, x: Tensor) -> Capture:
        """Run the target on x and keep what the sites see; only the activations have a gradient."""
        inputs, outs = {}, {}

        def record(name: str, module: nn.Module, x: Tensor) -> Tensor:
            if name not in self.sites:
                return module(x)
            inputs[name], outs[name] = x, self.sites[name].apply(x)
            return self.sites[name].add_bias(outs[name])

        with torch.no_grad():
            result = self.target(x, record)
        return Capture(inputs, outs, self.acts(inputs), result)

    def acts(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Activations of the components on given inputs of their sites, [..., C]."""
        return {name: self.sites[name].acts(x, self.parts[name].V) for name, x in inputs.items()}

    def gates(self, capture: Capture) -> dict[str, Tensor]:
        """g before any sigmoid, [..., C], from what the target's sites see."""
        out = {}
        for name, acts in capture.acts.items():
            reads = self.gate in ("vector_mlp", "shared_mlp")
            vectors = self.sites[name].vectors(capture.inputs[name]) if reads else None
            out[name] = gates.gate(self.gate, self.parts[name].gate, acts, vectors)
        return out

    @torch.no_grad()
    def causal_importance(self, x: Tensor) -> dict[str, Tensor]:
        """g clamped to [0, 1], by site, [..., C]; no gradient."""
        return {name: g.clamp(0, 1) for name, g in self.gates(self.capture(x)).items()}

    def __call__(
        self, x: Tensor, masks: Mapping[str, Mask], capture: Capture | None = None,
        record: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The network's output with some sites masked.

        Args:
            capture: of the same x; what lies before the first masked site is then not worked out again.
            record: receives the masked sites' outputs, bias included.
        """
        before = capture is not None

        def op(name: str, module: nn.Module, x: Tensor) -> Tensor:
            nonlocal before
            if name not in self.sites:
                return module(x)
            site, mask = self.sites[name], masks.get(name)
            whole = capture.outs[name] if before else site.apply(x)
            if mask is None:
                return site.add_bias(whole)
            acts = capture.acts[name] if before else site.acts(x, self.parts[name].V)
            before = False
            out = site.add_bias(self.masked_out(name, acts, whole, mask))
            if record is not None:
                record[name] = out
            return out

        return self.target(x, op)

    def masked_out(self, name: str, acts: Tensor, whole: Tensor, mask: Mask) -> Tensor:
        """(a m) U + delta x Δᵀ from activations a and the undecomposed output x Wᵀ, without bias."""
        site, delta = self.sites[name], mask.delta
        if mask.route is not None:
            ones = torch.ones_like(acts[..., 0])
            delta = torch.where(mask.route, delta * ones, ones)  # elsewhere the whole weight acts
        kept = whole * delta if not isinstance(delta, Tensor) else site.scale(whole, delta)
        return site.write(masked(acts, mask), self.parts[name].U) + kept

    def weight(self, name: str) -> Tensor:
        """Ŵ, the sum of the site's components, shaped like its weight (behind the panels)."""
        return self.sites[name].compose(self.parts[name].V, self.parts[name].U)

    def delta(self, name: str) -> Tensor:
        """Δ = W - Ŵ."""
        return self.sites[name].weight - self.weight(name)

    def panel(self, i: int) -> Decomposition:
        """The i-th of several decompositions, on its own; parameters are copies."""
        if self.panels is None:
            raise ValueError("this decomposition has no panels")
        one = copy.copy(self)
        one.panels = None
        one.parts = {
            name: Parts(*(_leaf(t[i]) for t in p[:2]), {key: _leaf(t[i]) for key, t in p.gate.items()})
            for name, p in self.parts.items()
        }
        for name, owner in self.ties.items():
            one._tie(name, owner)
        return one

    def arrays(self) -> dict[str, np.ndarray]:
        """Trained values by name, as a cached run can keep them."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.named_parameters().items()}

    @torch.no_grad()
    def load(self, arrays: Mapping[str, np.ndarray | Tensor]) -> Decomposition:
        """Put values from `arrays()` in place."""
        named = self.named_parameters()
        shapes = {name: tuple(value.shape) for name, value in arrays.items()}
        if shapes != {name: tuple(value.shape) for name, value in named.items()}:
            raise ValueError(f"these values are of another decomposition: {sorted(shapes)[:4]} ... do not fit")
        for name, value in arrays.items():
            named[name].copy_(torch.as_tensor(value))
        return self


def seeds_of(seed: int | Sequence[int]) -> list[int]:
    """Seeds as a list."""
    seeds = [seed] if isinstance(seed, Integral) else list(seed)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"panels need seeds that differ, got {seeds}")
    return seeds


def _by_name(n_components: int | Mapping[str, int], sites: Mapping[str, Linear]) -> dict[str, int]:
    named = dict(n_components) if isinstance(n_components, Mapping) else dict.fromkeys(sites, n_components)
    if set(named) != set(sites):
        raise ValueError(f"n_components names {', '.join(named)}; the sites are {', '.join(sites)}")
    if any(C < 1 for C in named.values()):
        raise ValueError(f"every site needs a component or more, got n_components {n_components}")
    return named


def _initial(name: str, site: Linear, C: int, gate: str, width: int, seed: int) -> Parts:
    """V normal with variance 1/d_in, U with variance 1/C; every site and part has a stream of its own."""
    V = torch.randn(site.d_in, C, generator=generator(seed, "spd", name, "V"), device="cpu") / site.d_in**0.5
    U = torch.randn(C, site.d_out, generator=generator(seed, "spd", name, "U"), device="cpu") / C**0.5
    d_in = site.weight[0].numel() * getattr(site.module, "groups", 1)  # of what `vectors` gives
    return Parts(V, U, gates.initial(gate, C, d_in, width, generator(seed, "spd", name, "gate")))


def _stacked(starts: list[Parts], like: Tensor, panels: bool) -> Parts:
    def joined(*tensors: Tensor) -> Tensor:
        return _leaf((torch.stack(tensors) if panels else tensors[0]).to(like))

    first = starts[0]
    gate = {key: joined(*(p.gate[key] for p in starts)) for key in first.gate}
    return Parts(joined(*(p.V for p in starts)), joined(*(p.U for p in starts)), gate)


def _leaf(t: Tensor) -> Tensor:
    return t.detach().clone().requires_grad_()
