"""What is followed beyond one coder's numbers: births, clusters over seeds, attribution, splitting."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import normalize
from torch import Tensor

from lib.activations.hooks import patch
from lib.activations.language import rows
from lib.metrics.polysemanticity import silhouette_null
from lib.metrics.tokens import firing_rates
from lib.models.causal_lm import cross_entropy
from lib.press.runs import reuse
from lib.rng import numpy_generator
from lib.studies.transformer_saes import attribution, clusters, emergence, frequency, splitting, train
from lib.studies.transformer_saes.measure import decoded, encoded, trained
from lib.studies.transformer_saes.train import Arm, Coders, acts
from lib.studies.transformer_saes.train_lm import Language, model_of
from lib.studies.transformer_saes.world import SLUG, tokenised

TOPK = list(Arm("topk"))


def births(params: Coders, seed: int, draws: int) -> dict[str, Any]:
    """When the latents of a TopK coder are born, and what goes with it.

    Returns:
        births, deaths: steps, [n_latents], nan for none, as for latents that stay near their random start or fire fewer
        than 20 times; rates, shares: of firing and of variance explained at the end;
        frequency, variance: rank correlations of births with them, nan where all are born at one moment; nulls: the
        same with births permuted, [draws, 2].
    """
    done, rng = reuse(train.watched, params, TOPK, seed), numpy_generator(params.seed, SLUG, "births", seed)
    coder, x = trained(params, TOPK, seed), acts(params, False, "residual").held
    rates, decoders = [], [moment["W_dec"] for moment in done["moments"]]
    for moment in done["moments"]:
        coder.load_state_dict({name: torch.from_numpy(value) for name, value in moment.items()}, strict=False)
        latents = encoded(coder, x)
        rates.append((latents != 0).mean(0))
    born = emergence.births(emergence.matched_cosines(decoders), np.stack(rates), done["steps"])
    born[~emergence.learned(decoders[0], decoders[-1], rates[-1] * len(x))] = np.nan
    scale, recons = float(coder.scale), decoded(coder, latents, x)
    shares = emergence.variance_shares(x.cpu() * scale, recons * scale, latents, decoders[-1])
    values = {"frequency": rates[-1], "variance": shares}
    if len(np.unique(born[~np.isnan(born)])) > 1:
        found = {name: emergence.driver(born, value) for name, value in values.items()}
        nulls = np.stack([emergence.driver_null(born, value, draws, rng) for value in values.values()], 1)
    else:
        found, nulls = dict.fromkeys(values, np.nan), np.full((draws, 2), np.nan)
    return found | {"births": born, "deaths": emergence.deaths(np.stack(rates), done["steps"]), "rates": rates[-1],
                    "shares": shares, "nulls": nulls, "steps": done["steps"]}


def cluster_agreement(params: Coders, arm: list, seed: int, other: int, draws: int) -> dict[str, Any]:
    """Whether two seeds of an arm agree on clusters of their living latents.

    Returns:
        rand: the index; permuted: the same with assignments permuted, [draws]; n_clusters, silhouettes: of each;
        clouds: silhouettes of as many points of one cloud, [3]; cosine: of matched latents, mean; decoder, rates: of
        the first seed's living latents.
    """
    living, often = [], []
    for number in (seed, other):
        coder = trained(params, arm, number)
        latents = encoded(coder, acts(params, Arm(*arm).source == "random", "residual").held)
        often.append(firing_rates(latents))
        living.append(coder.W_dec.cpu().numpy()[often[-1] > 0])
    found = clusters.agreement(*living, counts=range(2, min(31, *map(len, living))))
    rng = numpy_generator(params.seed, SLUG, "clouds", seed)
    clouds = silhouette_null(normalize(living[0]), 3, rng, range(2, min(31, len(living[0]))))
    null = clusters.permuted_null(found, draws, numpy_generator(params.seed, SLUG, "clusters", seed))
    return {"rand": found.rand, "permuted": null, "n_clusters": list(found.n_clusters), "cosine": found.cosine,
            "silhouettes": list(found.silhouettes), "clouds": clouds, "decoder": living[0],
            "rates": often[0][often[0] > 0]}


def attributed(params: Coders, seed: int, n: int, draws: int) -> dict[str, Any]:
    """How well scores of latents say what taking each away does to the loss.

    Args:
        n: latents that are taken away, spread over those that fire by rate.
    Returns:
        agreement: rank correlation of each score with the effect; null: of the first score, permuted, [draws].
    """
    own, model = acts(params, False, "residual"), model_of(params.view(Language), False)
    coder = trained(params, TOPK, seed)
    tokens, site = own.tokens[:: max(1, len(own.tokens) // 8)][:8], own.sites[0]
    [(x, ordinary)] = rows(model, tokens, [site], len(tokens))
    latents = coder.encode(x)

    def loss(f: Tensor) -> Tensor:
        new = coder.decode(f)
        with patch(model, {site.name: lambda a, _: a.index_put((ordinary,), new.to(a))}):
            logits = model(tokens)[:, :-1]
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    rates = firing_rates(latents)
    firing = np.argsort(rates, kind="stable")[(rates == 0).sum() :]
    which = firing[np.linspace(0, len(firing) - 1, min(n, len(firing))).astype(int)]
    effects = attribution.ablation_effects(loss, latents, which)
    scores = {"gradient x activation": attribution.gradient_times_activation(loss, latents)}
    scores |= attribution.published_scores(coder.W_enc, latents)
    scores["firing rate"] = rates
    found = {name: attribution.agreement(score[which], effects) for name, score in scores.items()}
    null = attribution.agreement_null(scores["gradient x activation"][which], effects, draws,
                                      numpy_generator(params.seed, SLUG, "attribution", seed))
    return {"agreement": found, "null": null, "effects": effects, "which": which}


def split(params: Coders, arm: list, seed: int, draws: int) -> dict[str, Any]:
    """How many of an arm's latents have two children or more in one of twice its size, over living latents.

    Returns:
        share; null: the same within the larger one, [draws]; inherited: mean share of firings that children take.
    """
    living, codes = [], []
    for times in (1, 2):
        own = list(Arm(*arm)._replace(times=times))
        coder = trained(params, own, seed)
        latents = encoded(coder, acts(params, False, "residual").held)
        alive = (latents != 0).any(0)
        living.append(coder.W_dec.cpu().numpy()[alive])
        codes.append(latents[:, alive])
    null = splitting.split_null(*living, draws, numpy_generator(params.seed, SLUG, "split", seed))
    taken = splitting.inherited(*codes, splitting.parents(*living))
    return {"share": splitting.split_share(*living), "null": null, "inherited": float(np.nanmean(taken))}


def as_the_source_says(params: Coders, seed: int) -> dict[str, Any]:
    """The source's own frequency report, clusters and scores of a TopK coder, beside ours.

    Returns:
        theirs: high_freq, stability, n_clusters as its program prints them; ours: above, stability, null of it.
    """
    coder, x = trained(params, TOPK, seed), acts(params, False, "residual").held
    latents = encoded(coder, x)
    parts = np.stack([firing_rates(part) for part in np.array_split(latents, 8)])
    rng = numpy_generator(params.seed, SLUG, "stability", seed)
    own, theirs = frequency.report(parts), frequency.published_report([])
    with np.errstate(invalid="ignore"):  # latents 0 and 1, which may never fire
        full = frequency.published_report(parts)
    return {"theirs": {"frequent": theirs["high_freq_neurons"], "stability": float(theirs["stability"]),
                       "stability, fed": full["stability"],
                       "clusters": len(clusters.published_clusters(coder.W_enc.cpu().numpy()))},
            "ours": {"above": own.above, "silent": own.silent, "stability": own.stability},
            "null": float(frequency.stability_null(parts, 20, rng).mean())}


def held_out_loss(params: Language) -> dict[str, float]:
    """Held-out loss of the model and of the one with matrices drawn anew, nats a token."""
    held = torch.as_tensor(reuse(tokenised, params)["held"][::16]).long()
    return {name: float(cross_entropy(model_of(params, random), held).mean())
            for name, random in (("trained", False), ("random", True))}
