"""What a dashboard shows of each latent: where it fires most, how strongly, what it writes, and its neighbours."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.sparse import csc_array, csr_array, vstack
from torch import Tensor

from lib.activations.language import TokenSite, rows, token_site
from lib.data.text import windows
from lib.metrics.recovery import cosines
from lib.metrics.tokens import firing_rates, top_purity
from lib.models.causal_lm import CausalLM
from lib.params import Count, Options
from lib.sparse_coders import SparseCoder
from lib.tensors import as_array


class Shown(Options):
    """How much a dashboard shows."""

    contexts: Count = Field(8, description="of each latent, its strongest ones, from different windows of text")
    before: Count = Field(12, description="tokens before the strongest one of a context")
    after: Count = Field(6, description="tokens after it")
    words: Count = Field(8, description="tokens a latent raises, and lowers; latents a token is told by")
    neighbours: Count = Field(5, description="latents whose directions are nearest")
    bins: Count = Field(24, description="of the histogram of a latent's firings")
    length: Count = Field(128, description="tokens of a window of text, at most the model's context")


def records(
    coder: SparseCoder, model: CausalLM, texts: Sequence[str], site: str | TokenSite, latents: Sequence[int] | None,
    shown: Shown,
) -> dict[str, Any]:
    """The data of a page, JSON alone: about, tokens (the vocabulary as text), latents, and carriers (`told_by`).

    Args: as `lib.dashboard.page.dashboard`.
    """
    if model.tokenizer is None:
        raise ValueError("the model has no tokenizer to read texts with; set model.tokenizer")
    ids = windows(model.tokenizer, texts, min(shown.length, model.context), model.bos).ids
    given = torch.from_numpy(ids).to(model.unembed.weight.device)
    site = token_site(model, site, given) if isinstance(site, str) else site
    found, ordinary = _latents(coder, model, given, site)
    tokens, alive, decoder = ids[ordinary], np.flatnonzero(np.diff(found.indptr)), as_array(coder.W_dec)
    chosen = alive if latents is None else np.intersect1d(latents, alive)
    if not len(chosen):
        raise ValueError(f"no latent asked for fires on these {len(tokens):,} tokens; give other texts or latents")
    near = cosines(decoder[chosen], decoder[chosen])
    np.fill_diagonal(near, -2)
    order = np.argsort(-near, 1)[:, : min(shown.neighbours, len(chosen) - 1)]
    raises, lowers = lens(model, decoder[chosen], shown.words)
    rates, purity = firing_rates(found), top_purity(found, tokens)
    own = [{
        "id": int(latent), "rate": float(rates[latent]), "purity": None if np.isnan(purity[latent]) else purity[latent],
        "histogram": _histogram(_firings(found, latent)[1], shown.bins), "raises": raises[i], "lowers": lowers[i],
        "near": [[int(chosen[j]), float(near[i, j])] for j in order[i]],
        "contexts": _contexts(ids, ordinary, *_firings(found, latent), shown),
    } for i, latent in enumerate(chosen)]
    vocabulary = [model.tokenizer.decode([i], skip_special_tokens=False) for i in range(model.unembed.out_features)]
    told = told_by(found, tokens, chosen, shown.words)
    about = {"tokens": len(tokens), "latents": coder.n_latents, "silent": coder.n_latents - len(alive),
             "rule": coder.rule.name, "site": f"{site.where} of {site.name}", "l0": found.nnz / len(tokens)}
    return {"about": about, "tokens": vocabulary, "latents": own, "carriers": told}


def lens(model: CausalLM, directions: ArrayLike, words: int) -> tuple[list, list]:
    """Tokens whose logits a direction in the stream [n, width] raises and lowers most, [[id, logit], ...] for each.

    The last norm is read as linear: its gain is applied, its division by length is not, and the direction is centred
    where that norm centres. Source: nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    weight, rows = model.unembed.weight.detach(), torch.as_tensor(as_array(directions))
    if rows.shape[1] != weight.shape[1]:
        raise ValueError(f"the coder writes {rows.shape[1]} dimensions, the model's stream has {weight.shape[1]}: give "
                         "the model that it was trained on")
    rows = rows.to(weight)
    rows = rows - rows.mean(1, keepdim=True) if isinstance(model.norm, torch.nn.LayerNorm) else rows
    logits = (rows * model.norm.weight.detach()) @ weight.T  # [n, vocabulary]
    most, least = (logits.topk(min(words, len(weight)), largest=largest) for largest in (True, False))
    return tuple([list(map(list, zip(ids, map(float, values), strict=True)))
                  for ids, values in zip(own.indices.tolist(), own.values.tolist(), strict=True)]
                 for own in (most, least))


def told_by(found: csc_array, tokens: np.ndarray, chosen: np.ndarray, most: int) -> dict[str, list]:
    """Of each token, by id: latents among `chosen` that tell it best, [latent, precision, recall], by their F1.

    precision: share of the latent's firings that are on the token; recall: share of the token's places on which it
    fires. found: latents [n_tokens, n_latents].
    """
    fires = (found[:, chosen] != 0).astype(np.int64)
    is_token = csr_array((np.ones_like(tokens), (tokens, np.arange(len(tokens)))))  # [vocabulary, n_tokens]
    both, occurs, fired = (is_token @ fires).tocsr(), np.bincount(tokens), fires.sum(0)
    result = {}
    for token in np.flatnonzero(np.diff(both.indptr)):
        part = slice(both.indptr[token], both.indptr[token + 1])
        latent, hits = both.indices[part], both.data[part]
        precision, recall = hits / fired[latent], hits / occurs[token]
        best = np.lexsort((latent, -2 * hits / (fired[latent] + occurs[token])))[:most]
        result[str(token)] = [[int(chosen[latent[i]]), float(precision[i]), float(recall[i])] for i in best]
    return result


@torch.no_grad()
def _latents(coder: SparseCoder, model: CausalLM, ids: Tensor, site: TokenSite) -> tuple[csc_array, np.ndarray]:
    """Latents of the tokens that are ordinary at the site, [n_tokens, n_latents], and which those are, bool [n, T]."""
    parts, ordinary = [], []
    for acts, seen in rows(model, ids, [site]):
        codes = coder.encode_sparse(acts.to(coder.W_dec)).nonzero()
        values, columns, starts = (as_array(t) for t in (codes.values, codes.indices, codes.offsets))
        parts.append(csr_array((values, columns, np.append(starts, len(values))), (len(acts), coder.n_latents)))
        ordinary.append(as_array(seen))
    return vstack(parts, format="csc"), np.concatenate(ordinary)


def _firings(found: csc_array, latent: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and values of a latent's firings."""
    part = slice(found.indptr[latent], found.indptr[latent + 1])
    return found.indices[part], found.data[part]


def _contexts(
    ids: np.ndarray, ordinary: np.ndarray, rows: np.ndarray, values: np.ndarray, shown: Shown
) -> list[dict[str, Any]]:
    """The windows [n, T] a latent fires on most strongly, cut around the strongest token, one context from each.

    rows, values: of its firings, rows counting the ordinary tokens in order.
    """
    acts = np.zeros(ids.shape)
    window, place = (axis[rows] for axis in np.nonzero(ordinary))
    acts[window, place] = values
    order = np.argsort(-np.abs(values), kind="stable")
    _, first = np.unique(window[order], return_index=True)
    found = []
    for i in order[np.sort(first)[: shown.contexts]]:
        low, high = max(0, place[i] - shown.before), place[i] + shown.after + 1
        found.append({"ids": ids[window[i], low:high].tolist(), "acts": acts[window[i], low:high].round(4).tolist(),
                      "at": int(place[i] - low)})
    return found


def _histogram(values: np.ndarray, bins: int) -> dict[str, Any]:
    """Counts of firings by size, 0 at one end."""
    counts, edges = np.histogram(values, bins, (min(0, values.min()), max(0, values.max())))
    return {"counts": counts.tolist(), "low": float(edges[0]), "high": float(edges[-1])}
