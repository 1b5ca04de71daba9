"""What measures: trained coders on held-out text, and what the measures read where there is nothing."""
from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from scipy.sparse import csc_array
from scipy.stats import spearmanr
from torch import Tensor

from lib.activations.language import TokenSite, recovered, splice
from lib.metrics import sparsity
from lib.metrics.polysemanticity import polysemanticity_index
from lib.metrics.selectivity import class_auroc
from lib.metrics.tokens import firing_rates, permuted_tokens_null, top_purity
from lib.models.causal_lm import CausalLM
from lib.press.runs import reuse
from lib.rng import numpy_generator
from lib.sparse_coders import SparseCoder
from lib.studies.transformer_saes import train
from lib.studies.transformer_saes.entropy import token_entropy
from lib.studies.transformer_saes.train import Arm, Coders, acts
from lib.studies.transformer_saes.train_lm import Language, model_of
from lib.studies.transformer_saes.world import SLUG, evenly, read_speeches, tokenised

PARTIES = ("Democratic", "Republican")
TOP = 50
"""Firings of a latent that are looked at for clusters."""


def trained(params: Coders, arm: list, seed: int) -> SparseCoder:
    """The trained coder of an arm."""
    own = Arm(*arm)
    run = train.watched if is_watched(own) else train.coder
    made = train.made(params, own, seed)
    state = reuse(run, params, arm, seed)["state"]
    made.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return made.requires_grad_(False)


def is_watched(arm: Arm) -> bool:
    """Whether an arm's latents are followed through training: TopK's on the model's own activations."""
    return arm == Arm("topk")


@torch.no_grad()
def encoded(coder: SparseCoder, x: Tensor) -> np.ndarray:
    """Latents of tokens, [B, n_latents], some at a time."""
    return torch.cat([coder.encode(part).cpu() for part in x.split(4096)]).numpy()


@torch.no_grad()
def decoded(coder: SparseCoder, latents: np.ndarray, x: Tensor) -> Tensor:
    """Recons of latents, [B, d]; x: what they were encoded from."""
    parts = zip(torch.from_numpy(latents).split(4096), x.split(4096), strict=True)
    return torch.cat([coder.decode(own, part).cpu() for own, part in parts])


def judged(params: Coders, arm: list, seed: int) -> dict[str, Any]:
    """One arm and seed on held-out text, trained where it is not there yet.

    Returns:
        fvu, l0; dead: share of latents that never fire; ce_zero, ce_mean: share of the loss of zero and mean ablation
        recovered, nan where the model is a random one. On the residual stream also read: share of latents that
        fire often enough to be read (20 times); purity, entropy: means over those, auroc: over those that fire at all;
        rho_purity, rho_entropy, rho_auroc: rank correlations over latents of each with the firing rate; rates and
        purities: [n_latents].
    """
    own, coder = Arm(*arm), trained(params, arm, seed)
    _, _, x, y = train.samples(params, own)
    latents, wanted = encoded(coder, x), (x[:, : coder.d_in] if y is None else y).cpu()
    found = {"fvu": sparsity.fvu(wanted, decoded(coder, latents, x)), "l0": sparsity.l0(latents)}
    found |= worth(params, own, coder) | {"dead": float((latents == 0).all(0).mean())}
    return found if own.site != "residual" else found | interpretability(params, own, latents)


def worth(params: Coders, arm: Arm, coder: SparseCoder) -> dict[str, float]:
    """What a coder keeps of the model's loss, spliced in at its site; `ce_zero` and `ce_mean`.

    nan where the model loses nothing by the ablation: for all coders of a site or for none, whatever their seed.
    """
    if arm.source == "random" or arm.site.startswith("joined"):
        return {"ce_zero": float("nan"), "ce_mean": float("nan")}
    kind = arm.site.removesuffix("_skip")
    model, some, site, sources = _spliced_at(params, kind)
    losses = splice(model, some, site, {"coder": coder}, None, sources) | ablated(params, kind)
    costs = {name: float(losses[name].double().mean() - losses["clean"].double().mean()) for name in ("zero", "mean")}
    return {f"ce_{name}": recovered(losses, "coder", name) if cost > 0 else float("nan")
            for name, cost in costs.items()}


@functools.lru_cache(maxsize=4)
def ablated(params: Coders, kind: str) -> dict[str, Tensor]:
    """The model's loss of every token, and with a site ablated, of some held-out windows."""
    model, some, site, _ = _spliced_at(params, kind)
    return splice(model, some, site, {}, acts(params, False, kind).train.statistics.mean[-model.width :].float())


def _spliced_at(params: Coders, kind: str) -> tuple[CausalLM, Tensor, TokenSite, tuple[TokenSite, ...]]:
    own = acts(params, False, kind)
    some = own.tokens[:: max(1, len(own.tokens) // 40)]
    return model_of(params.view(Language), False), some, own.sites[-1], own.sites[:1] if kind == "mlp" else ()


def interpretability(params: Coders, arm: Arm, latents: np.ndarray) -> dict[str, Any]:
    """Purity, entropy, AUROC, and their rank correlations with rates, of latents of held-out tokens."""
    read, sparse = reading(params, arm.source == "random", train_site(arm)), csc_array(latents)
    rates, purity = firing_rates(sparse), top_purity(sparse, read["tokens"])
    each = {"purity": purity, "entropy": token_entropy(sparse, read["tokens"])}
    each["auroc"] = np.where(rates > 0, metadata_auroc(latents, read), np.nan)
    found: dict[str, Any] = {"rates": rates, "purities": purity, "read": float((~np.isnan(purity)).mean())}
    for name, values in each.items():
        found |= {name: float(np.nanmean(values)), f"rho_{name}": rank_correlation(rates, values)}
    return found


def train_site(arm: Arm) -> str:
    """The site whose activations are cached for an arm."""
    return arm.site.removesuffix("_skip").removesuffix("_shuffled")


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, over latents at which both are known."""
    known = ~(np.isnan(a) | np.isnan(b))
    return float(spearmanr(a[known], b[known]).statistic)


@functools.lru_cache(maxsize=8)
def reading(params: Coders, random: bool, site: str) -> dict[str, np.ndarray]:
    """Of every held-out token: its id and its window; of every window whether its speech is late, and its party.

    party is -1 where it is none of `PARTIES`; late: of the later half of the held-out speeches.
    """
    own, stored = acts(params, random, site), reuse(tokenised, params)
    which = evenly(len(stored["held"]), params.held_windows, "held_windows")
    speech = [read_speeches(params)[1][number] for number in stored["held_speech"][which]]
    years = np.array([s.year for s in speech])
    window = np.broadcast_to(np.arange(len(speech))[:, None], own.ordinary.shape)
    ordinary = own.ordinary.cpu().numpy()
    return {"tokens": own.tokens.cpu().numpy()[ordinary], "window": window[ordinary],
            "speech": stored["held_speech"][which],
            "late": (years > np.median([s.year for s in read_speeches(params)[1]])).astype(int),
            "party": np.array([PARTIES.index(s.party) if s.party in PARTIES else -1 for s in speech])}


def metadata_auroc(latents: np.ndarray, read: dict[str, np.ndarray]) -> np.ndarray:
    """How well a latent's mean over a window tells its speech's half of the years and its party, [n_latents].

    The mean of two AUROCs, each counted towards the side that it tells, .5 to 1.
    """
    places, first, counts = np.unique(read["window"], return_index=True, return_counts=True)
    means, found = np.add.reduceat(latents, first) / counts[:, None], []  # [n_windows, n_latents]
    for labels in (read["late"], read["party"]):
        known = labels[places] >= 0
        found.append(np.abs(class_auroc(means[known], labels[places][known])[0] - 0.5) + 0.5)
    return np.mean(found, 0)


def chance(params: Coders, arm: list, seed: int, draws: int) -> dict[str, Any]:
    """What the measures of an arm's latents read on nothing, [draws] each.

    Returns:
        purity, entropy: means over latents with the tokens permuted; auroc: the same with the labels of whole speeches
        permuted; rho: rank correlation of purity with rates permuted over latents. And length_cv: standard deviation
        over mean of the lengths of held-out activations.
    """
    rng, own = numpy_generator(params.seed, SLUG, "null", seed), Arm(*arm)
    x = train.samples(params, own)[2]
    latents = encoded(trained(params, arm, seed), x)
    read, sparse = reading(params, False, train_site(own)), csc_array(latents)
    rates, purity = firing_rates(sparse), top_purity(sparse, read["tokens"])
    tokens = {name: permuted_tokens_null(measure, sparse, read["tokens"], draws, rng)
              for name, measure in (("purity", top_purity), ("entropy", token_entropy))}
    auroc = [np.nanmean(np.where(rates > 0, metadata_auroc(latents, _relabelled(read, rng)), np.nan))
             for _ in range(draws)]
    rho = [rank_correlation(rng.permutation(rates), purity) for _ in range(draws)]
    length = x.norm(dim=1)
    return tokens | {"auroc": np.array(auroc), "rho": np.array(rho), "length_cv": float(length.std() / length.mean())}


def polysemanticity(params: Coders, arm: list, seed: int, n: int) -> dict[str, float]:
    """Whether a latent's strongest firings fall into clusters, and whether those are tokens, or halves of the years.

    Args:
        n: latents at most, spread by rate over those that fire `TOP` times.
    Returns:
        n: how many there were. Means over them, nan where there are none, of geometry (how well activations cluster)
        and, by tokens and by years, of the index and of its null: firings permuted.
    """
    own, rng = Arm(*arm), numpy_generator(params.seed, SLUG, "polysemanticity", seed)
    x, read = train.samples(params, own)[2], reading(params, own.source == "random", train_site(own))
    latents = encoded(trained(params, arm, seed), x)
    firings = (latents != 0).sum(0)
    often = np.argsort(firings, kind="stable")[int((firings < TOP).sum()) :]
    some = latents[:, often[np.linspace(0, len(often) - 1, min(n, len(often))).astype(int)]]
    told: dict[str, float] = dict.fromkeys(("geometry", "tokens", "tokens_null", "years", "years_null"), float("nan"))
    labels, few = {"tokens": read["tokens"], "years": read["late"][read["window"]]}, {"top": TOP, "n": 3, "rng": rng}
    for name, own in labels.items() if len(often) else ():
        index = polysemanticity_index(some, x.cpu(), own, **few)
        null = polysemanticity_index(rng.permuted(some, axis=0), x.cpu(), own, **few)
        told |= {"geometry": float(index.geometry.mean()), name: float(index.index.mean()),
                 f"{name}_null": float(null.index.mean())}
    return told | {"n": some.shape[1]}


def _relabelled(read: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Speeches' labels permuted among speeches."""
    speeches, first = np.unique(read["speech"], return_index=True)
    order = rng.permutation(len(speeches))
    place = np.searchsorted(speeches, read["speech"])
    return read | {name: read[name][first][order][place] for name in ("late", "party")}

