"""What trains coders: one of one rule on the activations of one site with one seed; no measure of latents."""
from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from lib import files
from lib.activations.language import TokenSite, harvest, identity_of, rows, token_site
from lib.activations.store import ActivationStore
from lib.models.causal_lm import CausalLM
from lib.params import Count, Positive
from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.sparse_coders import SparseCoder, fit
from lib.sparse_coders.multi_input import shuffled_context
from lib.studies.transformer_saes.train_lm import Language, model_of
from lib.studies.transformer_saes.world import SLUG, evenly, shuffled, stream, tokenised
from lib.tensors import as_array, denormals_flushed, device_named

PENALISED = {"relu": 2.25, "gated": 2.9, "prolu": 2.0, "p_anneal": 1.0}
"""Rules whose weight `l1` is set so that they have as many active latents as others, and where the search begins."""
TETHER = 0.8
"""Cosine to its start that a row of a soft-frozen decoder keeps (the source's)."""
_CALIBRATION = 10_000
_HELD = 4096
"""Held-out tokens that a training itself looks at."""


class Coders(Language):
    """What coders read, and how they are trained."""

    layer: int = Field(ge=1, description="block whose output is encoded")
    train_windows: Count = Field(description="windows whose activations train coders")
    held_windows: int = Field(ge=24, description="held-out windows that judge them")
    n_latents: Count = Field(description="latents of a coder")
    active: Count = Field(description="K, active latents of a token")
    steps: Count = Field(description="steps that train a coder")
    batch: Count = Field(description="tokens per step")
    lr: Positive = Field(description="rate of Adam, falling to 0 over the second half")
    l0_weight: Positive = Field(description="weight of JumpReLU's penalty on missing its target")
    threshold: Positive = Field(description="JumpReLU's thresholds at the start, and the window in which they learn")
    moments: int = Field(ge=2, description="moments of a training at which its latents are looked at")


class Arm(NamedTuple):
    """A rule, what it reads, and what may move."""

    rule: str
    normalise: bool = False
    """Whether every token's activation is divided by its length."""
    source: str = "model"
    """"model"; "random", a model with matrices drawn anew; "shuffled", every dimension permuted over tokens."""
    site: str = "residual"
    """A name of `SITES`."""
    decoder: str = "free"
    """"free", "frozen" at its start, or "soft", within cosine .8 of it."""
    times: int = 1
    """Latents over `n_latents`."""


SITES = {
    "residual": ["blocks.{layer}"], "mlp_out": ["blocks.{layer}.mlp"],
    "mlp": ["blocks.{layer}.mlp<", "blocks.{layer}.mlp"], "mlp_skip": ["blocks.{layer}.mlp<", "blocks.{layer}.mlp"],
    "before": ["blocks.{before}"], "joined": ["blocks.{before}", "blocks.{layer}.mlp<", "blocks.{layer}"],
    "joined_shuffled": ["blocks.{before}", "blocks.{layer}.mlp<", "blocks.{layer}"],
}
"""Modules that a coder reads and, last, that a transcoder writes; `<`: a module's input. A joined coder writes the
first and reads the others beside it."""


class Acts(NamedTuple):
    """Activations of the sites of an arm."""

    train: ActivationStore
    held: Tensor
    """[n_held, width], ordinary tokens alone."""
    ordinary: Tensor
    """Which tokens of the held-out windows those are, bool [n, T]."""
    tokens: Tensor
    """The held-out windows, int64 [n, T]."""
    sites: tuple[TokenSite, ...]


class Columns:
    """Some columns of a store, as `fit` reads them."""

    def __init__(self, store: ActivationStore, first: int, last: int):
        self.store, self.first, self.last, self.sha256 = store, first, last, store.sha256

    def __len__(self) -> int:
        return len(self.store)

    def batch(self, ids: Tensor) -> Tensor:
        """Rows by number."""
        return self.store.batch(ids)[:, self.first : self.last]


class Watched(SparseCoder):
    """A coder that remembers its tensors at some steps, and whose rows may be tethered to their start."""

    at: Sequence[int] = ()
    origin: Tensor | None = None

    def watch(self, at: Sequence[int], tether: bool) -> None:
        """Begin: numbers of steps after which to remember, in buffers, so that a checkpoint keeps them."""
        self.at, self.origin = at, self.W_dec.detach().clone() if tether else None
        if at:
            self.register_buffer("taken", torch.zeros((), dtype=torch.int64))
        for name, p in dict(self.named_parameters()).items() if at else ():
            self.register_buffer(f"seen_{name}", torch.zeros(len(at), *p.shape))

    @torch.no_grad()
    def tidy(self) -> None:
        """As a coder's, and then what is watched."""
        super().tidy()
        if self.origin is not None:
            self.W_dec.copy_(tethered(self.W_dec, self.origin))
        if self.at:
            self.taken += 1
        if self.at and (step := int(self.taken)) in self.at:
            for name, p in self.named_parameters():
                getattr(self, f"seen_{name}")[self.at.index(step)].copy_(p)

    def result(self) -> dict[str, Any]:
        """state: the coder's tensors by name; moments: its parameters after each of the steps, by name."""
        state = {name: as_array(value) for name, value in self.state_dict().items()}
        seen = {name: state.pop(f"seen_{name}") for name, _ in self.named_parameters() if self.at}
        state.pop("taken", None)
        moments = [{name: each[i] for name, each in seen.items()} for i in range(len(self.at))]
        return {"state": state, "moments": moments}


def tethered(rows: Tensor, origin: Tensor, cosine: float = TETHER) -> Tensor:
    """Unit rows [n, d] turned back towards unit rows `origin` as far as they have left the cone of that cosine."""
    along = (rows * origin).sum(1, keepdim=True)
    aside = torch.nn.functional.normalize(rows - along * origin, dim=1)
    return torch.where(along < cosine, cosine * origin + math.sqrt(1 - cosine**2) * aside, rows)


def modules(params: Coders, site: str) -> list[tuple[str, str]]:
    """Module names of a site, and whether the input or the output is read."""
    before = f"blocks.{params.layer - 1}"
    names = [name.format(layer=params.layer, before=before.removeprefix("blocks.")) for name in SITES[site]]
    return [(name.removesuffix("<"), "input" if name.endswith("<") else "output") for name in names]


@functools.lru_cache(maxsize=3)
def acts(params: Coders, random: bool, site: str) -> Acts:
    """Activations of a site, evenly spaced windows of every text; those to train on are kept in a store."""
    model, tokens = model_of(params.view(Language), random), reuse(tokenised, params)
    device = device_named(params.device)
    train, held = (torch.as_tensor(tokens[part][evenly(len(tokens[part]), n, f"{part}_windows")]).long().to(device)
                   for part, n in (("train", params.train_windows), ("held", params.held_windows)))
    sites = tuple(token_site(model, name, train, where) for name, where in modules(params, site))
    store = harvested(model, train, sites)
    parts = list(rows(model, held, sites))
    return Acts(store, torch.cat([x for x, _ in parts]), torch.cat([mask for _, mask in parts]), held, sites)


def harvested(model: CausalLM, windows: Tensor, sites: Sequence[TokenSite]) -> ActivationStore:
    """The activations of a model's sites, kept under what they are of."""
    name = files.digest(identity_of(model, windows, sites))[:32]
    return harvest(files.BUILD / "activations" / name, model, windows, sites)


@functools.lru_cache(maxsize=1)
def samples(params: Coders, arm: Arm) -> tuple[Any, Any, Any, Any]:
    """Training x and y, held-out x and y of an arm; y None but for transcoders."""
    own = acts(params, arm.source == "random", arm.site.removesuffix("_skip").removesuffix("_shuffled"))
    width = own.held.shape[1] // len(own.sites)
    if arm.site.startswith("mlp") and arm.site != "mlp_out":
        return *(Columns(own.train, at, at + width) for at in (0, width)), *own.held.split(width, 1)
    if arm.source == "shuffled":
        x, rng = own.train.batch(torch.arange(len(own.train))), stream(params, "shuffled")
        return shuffled(x, rng), None, shuffled(own.held, rng), None
    if arm.site.startswith("joined"):
        x, held = scaled(own.train.batch(torch.arange(len(own.train))), own.held, len(own.sites))
        if arm.site == "joined_shuffled":
            x, held = (shuffled_context(part, width, stream(params, "context", len(part))) for part in (x, held.cpu()))
        return x, None, held, None
    return own.train, None, own.held, None


def scaled(x: Tensor, held: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Columns of n sites, all but the first rescaled to its mean square on x (`multi_input.join_sites`), both alike."""
    sizes = torch.stack([part.double().square().mean().sqrt() for part in x.chunk(n, 1)])
    factors = (sizes[0] / sizes).float().repeat_interleave(x.shape[1] // n)
    return x * factors, held * factors.to(held)


def made(params: Coders, arm: Arm, seed: int, strength: float | None = None) -> Watched:
    """The coder of an arm as training starts it; strength: as `matched` finds it, for the rules that have one."""
    options: dict[str, Any] = {"k": int(strength or params.active)}
    if arm.rule in PENALISED:
        options = {"l1": 1.0 if strength is None else strength}
    if arm.rule == "jumprelu":
        options |= {"penalty": "target_l0", "l0": params.l0_weight, "threshold": params.threshold,
                    "bandwidth": params.threshold}
    width = model_of(params.view(Language), arm.source == "random").width
    if arm.site in ("mlp", "mlp_skip"):
        options |= {"d_out": width, "skip": arm.site == "mlp_skip"}
    if arm.site.startswith("joined"):
        options["context"] = 2 * width
    coder = Watched(width, params.n_latents * arm.times, arm.rule, per_sample=arm.normalise,
                    seed=stream_seed(params.seed, SLUG, "coder", seed), device=device_named(params.device), **options)
    coder.W_dec.requires_grad_(arm.decoder != "frozen")
    return coder


def matched(
    params: Coders, rule: str, normalise: bool = False, checkpoints: Path | None = None
) -> dict[str, Any]:
    """The strength at which a rule has K active latents on held-out text, found on a seed that judges nothing.

    It is the weight l1 of rules in `PENALISED`, and the aim k of JumpReLU, a whole number that a short training misses.

    Args:
        checkpoints: as `coder` has them.
    Returns:
        strength; l0: what it gave; tried: strengths and their l0, [n, 2].
    """
    aims, tried = rule == "jumprelu", {}
    strength, slope = (float(params.active * 17 // 16), 1.0) if aims else (PENALISED[rule], -0.8)
    for _ in range(5):
        place = checkpoints and checkpoints / f"{len(tried)}.pt"
        _, metrics = _trained(params, Arm(rule, normalise), _CALIBRATION, strength, place)
        tried[strength] = max(metrics["l0"], 1e-3)
        away = math.log(params.active / tried[strength])
        if len(tried) > 1:
            (a, at_a), (b, at_b) = list(tried.items())[-2:]
            steepness = abs(math.log(at_b / at_a) / math.log(b / a))
            slope = math.copysign(max(0.3, min(3.0, steepness)), slope)
        strength *= math.exp(max(-1.5, min(1.5, away / slope)))
        strength = min(params.n_latents, max(1.0, round(strength))) if aims else strength
        if abs(away) < 0.015 or strength in tried:
            break
    best = min(tried, key=lambda each: abs(math.log(params.active / tried[each])))
    return {"strength": best, "l0": tried[best], "tried": np.array(list(tried.items()))}


def coder(params: Coders, arm: list, seed: int, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train the coder of an arm (its fields as a list).

    Args:
        checkpoints: folder in which training continues after a kill; written to at every quarter of it.
    Returns:
        state: the trained coder's tensors by name.
    """
    own = Arm(*arm)
    searched = own.rule in (*PENALISED, "jumprelu")
    strength = reuse(matched, params, own.rule, own.normalise)["strength"] if searched else None
    made_coder, _ = _trained(params, own, seed, strength, checkpoints and checkpoints / "coder.pt")
    return {"state": made_coder.result()["state"]}


def watched(params: Coders, arm: list, seed: int, checkpoints: Path | None = None) -> dict[str, Any]:
    """As `coder`, with what is remembered on the way.

    Returns:
        state; steps: [n_moments]; moments: the coder's parameters after each, by name.
    """
    steps = sorted({int(round(params.steps ** (i / (params.moments - 1)))) for i in range(params.moments)})
    made_coder, _ = _trained(params, Arm(*arm), seed, None, checkpoints and checkpoints / "coder.pt", steps)
    return made_coder.result() | {"steps": steps}


def _trained(
    params: Coders, arm: Arm, seed: int, strength: float | None, checkpoint: Path | None, at: Sequence[int] = ()
) -> tuple[Watched, dict[str, float]]:
    """The trained coder, and what `fit` says of it."""
    x, y, held_x, held_y = samples(params, arm)
    own = made(params, arm, seed, strength)
    own.watch(at, arm.decoder == "soft")
    some = slice(None, None, max(1, len(held_x) // _HELD))
    held = held_x[some] if held_y is None else (held_x[some], held_y[some])
    return own, fitted(params, own, x, seed, target=y, held_out=held, checkpoint=checkpoint)


def fitted(params: Coders, coder: SparseCoder, x: Any, seed: int, **options: Any) -> dict[str, float]:
    """Train a coder in place as all of the study are, and what `fit` says of it; options: of `fit`."""
    with denormals_flushed():
        return fit(coder, x, steps=params.steps, batch_size=params.batch, lr=params.lr, lr_decay=0.5,
                   seed=stream_seed(params.seed, SLUG, "order", seed), progress=False,
                   dead_after=params.steps * params.batch // 4, checkpoint_every=max(1, params.steps // 4),
                   **options).metrics
