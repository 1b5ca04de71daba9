"""A language model's activations, token by token: harvested for sparse coders, and spliced back into the model.

    site = token_site(model, "blocks.1", tokens)             # lib.data.text.windows(...).ids as a tensor
    store = harvest("acts", model, tokens, [site])
    losses = splice(model, held, site, {"coder": coder}, store.statistics.mean)
    recovered(losses, "coder", "mean")                       # 1: as good as the model's own activations
    fit(coder, store, extra_loss=end_to_end(model, tokens, site, 10.0))    # trained for what the model says, too

The first token of a window, and tokens whose activation is far longer than the others ("massive activations"), are
left out of what is harvested and stay as they are where the rest is replaced: a coder would spend itself on them.
Source: Sun et al. 2024, "Massive activations in large language models".
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.activations.hooks import Where, capture, one_module, patch
from lib.activations.store import ActivationStore, build
from lib.checkpoints import content_digest
from lib.schedules import EpochOrder

Recode = Callable[[Tensor], Tensor]
"""Rows of the sources side by side, [n, width], -> what stands for them at the site, [n, d]; a coder is one."""


class TokenSite(NamedTuple):
    """A module whose input or output is read at every token."""

    name: str
    where: Where
    limit: float
    """Length of an activation beyond which its token is left as it is."""

    def fits(self, acts: Tensor) -> Tensor:
        """Which tokens are ordinary, bool [B, T], of activations [B, T, d]: not the first, and within the limit."""
        ordinary = torch.linalg.vector_norm(acts.float(), dim=-1) <= self.limit
        ordinary[:, 0] = False
        return ordinary


@torch.no_grad()
def token_site(
    model: nn.Module, name: str, tokens: Tensor, where: Where = "output", beyond: float = 10.0, batch: int = 16
) -> TokenSite:
    """The site at the module `name`, its limit `beyond` times the median length over the first `batch` windows."""
    name = one_module(model, name)
    with capture(model, name, where=where) as found:
        model(tokens[:batch])
    lengths = torch.linalg.vector_norm(found[name][:, 1:].float(), dim=-1)
    return TokenSite(name, where, beyond * float(lengths.median()))


@torch.no_grad()
def rows(
    model: nn.Module, tokens: Tensor, sites: Sequence[TokenSite], batch: int = 16
) -> Iterator[tuple[Tensor, Tensor]]:
    """Activations of all sites side by side at tokens that are ordinary at each of them.

    Args:
        tokens: windows, int64 [n, T], on the model's device.
    Yields:
        For `batch` windows the rows [m, width], and which tokens they are of, bool [b, T].
    """
    _read(model, tokens[:1], sites)  # whole, once: a site called again after the last one is seen by nothing else
    for part in tokens.split(batch):
        yield _rows(model, part, sites)


def identity_of(model: nn.Module, tokens: Tensor, sites: Sequence[TokenSite]) -> dict[str, Any]:
    """What tells a model's activations from others: digests of its shape and weights and of the tokens; the sites."""
    weights = content_digest([str(model), dict(model.state_dict())])
    return {"weights": weights, "tokens": content_digest(tokens), "sites": [list(site) for site in sites]}


def harvest(
    path: Path | str, model: nn.Module, tokens: Tensor, sites: Sequence[TokenSite], dtype: str = "float32",
    batch: int = 16,
) -> ActivationStore:
    """The store at `path` of what `rows` yields, written first if it is not there, whole or not at all.

    A harvest that was killed goes on where it was, at most `lib.activations.store.KEEP_EVERY` seconds before its end.
    A store of another model, tokens or sites (`identity_of`) is refused.
    """
    def chunks() -> Iterator[Callable[[], Tensor]]:
        _read(model, tokens[:1], sites)  # as in `rows`
        return (lambda part=part: _rows(model, part, sites)[0] for part in tokens.split(batch))

    return build(path, identity_of(model, tokens, sites), chunks, dtype)


@torch.no_grad()
def _rows(model: nn.Module, tokens: Tensor, sites: Sequence[TokenSite]) -> tuple[Tensor, Tensor]:
    """What `rows` yields, of windows."""
    acts, ordinary, _ = _read(model, tokens, sites, whole=False)
    return torch.cat(acts, 1), ordinary


@torch.no_grad()
def splice(
    model: nn.Module, tokens: Tensor, site: TokenSite, recodes: Mapping[str, Recode], mean: Tensor | None,
    sources: Sequence[TokenSite] = (), batch: int = 16,
) -> dict[str, Tensor]:
    """Loss of every predicted token with the site's activations replaced, in nats, [n, T - 1] by name.

    Args:
        tokens: windows, int64 [n, T], on the model's device.
        recodes: by name, what replaces ordinary tokens; others pass through unchanged.
        mean: activation of mean ablation, [d]; None: no ablations.
        sources: what recodes read, taken from the unspliced model; default the site itself. A transcoder of an MLP
            reads its input and replaces its output.
    Returns:
        "clean", one entry for every recode, and "zero" and "mean": every ordinary token's activation 0, or the mean.
    """
    _refuse_input(site)
    constant = {} if mean is None else {"zero": torch.zeros_like(mean), "mean": mean}
    edits = {name: (lambda x, value=value: value.to(x).expand(len(x), -1)) for name, value in constant.items()}
    if taken := sorted(recodes.keys() & {"clean", "zero", "mean"}):
        raise ValueError(f"splice: a recode cannot be called {taken[0]}")
    edits |= recodes
    found: dict[str, list[Tensor]] = {name: [] for name in ("clean", *edits)}
    for part in tokens.split(batch):
        x, ordinary, logits = _sources(model, part, site, sources)
        found["clean"].append(_losses(logits, part))
        for name, recode in edits.items():
            found[name].append(_losses(_spliced(model, part, site, recode(x), ordinary), part))
    return {name: torch.cat(parts) for name, parts in found.items()}


def end_to_end(
    model: nn.Module, tokens: Tensor, site: TokenSite, weight: float, sources: Sequence[TokenSite] = (), batch: int = 4,
    seed: int = 0,
) -> Callable[[Recode, int], Tensor]:
    """What the model loses with a coder's recons at a site, as an `extra_loss` of `fit`; a mean over tokens, in nats.

    The KL divergence of what it predicts then from what it predicts without, 0 where nothing is lost. `fit` adds it to
    a reconstruction in units where E|x|^2 = d, so that a weight near d makes them alike.

    Args:
        model: its parameters must want no gradient, and it must not be in training mode; tokens, site, sources: as
            `splice` has them.
        batch: windows of a step, drawn by seed and step.
    Returns:
        With `identity`, a digest of all of these, by which a checkpoint of `fit` knows it.
    Source: Braun et al. 2024, "Identifying functionally important features with end-to-end sparse dictionary learning",
        arXiv:2405.12241; there without the loss of the reconstruction, or with that of later layers.
    """
    _refuse_input(site)
    if any(p.requires_grad for p in model.parameters()):
        raise ValueError("the model's own parameters would be given gradients: model.requires_grad_(False)")
    if model.training:
        raise ValueError("the model is in training mode, so that dropout would draw anew at every pass: model.eval()")
    if batch > len(tokens):
        raise ValueError(f"there are {len(tokens)} windows, {batch} are asked for at a step: give a smaller batch")
    order = EpochOrder(len(tokens), batch, seed, "end to end", tokens.device)

    def extra_loss(recode: Recode, step: int) -> Tensor:
        part = tokens[order[step]]
        x, ordinary, clean = _sources(model, part, site, sources)
        logits = _spliced(model, part, site, recode(x), ordinary)
        said, wanted = (each.flatten(0, 1).float().log_softmax(-1) for each in (logits, clean))
        return weight * F.kl_div(said, wanted, reduction="batchmean", log_target=True)

    told = identity_of(model, tokens, [site, *sources])
    extra_loss.identity = content_digest([told, weight, batch, seed])
    return extra_loss


def recovered(losses: Mapping[str, Tensor], name: str, ablation: str = "mean") -> float:
    """Share of the loss of an ablation that a recode recovers, (L_ablated - L) / (L_ablated - L_clean).

    1 as good as the model's own activations, 0 as bad as the ablation; less is worse than that.

    Args:
        losses: as `splice` returns them; ablation: "zero" or "mean".
    """
    own, clean, ablated = (float(losses[each].double().mean()) for each in (name, "clean", ablation))
    if not ablated > clean:
        raise ValueError(f"{ablation} ablation does not raise the loss ({clean:.4g} to {ablated:.4g}): there is "
                         "nothing to recover")
    return (ablated - own) / (ablated - clean)


def _refuse_input(site: TokenSite) -> None:
    if site.where != "output":
        raise ValueError(f"only what a module returns is replaced; the site {site.name} is an input")


@torch.no_grad()
def _sources(
    model: nn.Module, tokens: Tensor, site: TokenSite, sources: Sequence[TokenSite]
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the sources side by side, of which tokens, and the logits; `sources` as `splice` has them."""
    sources = list(sources) or [site]
    read = [*(source for source in sources if source != site), site]  # the site last: its tokens must be ordinary too
    acts, ordinary, logits = _read(model, tokens, read)
    return torch.cat([acts[read.index(source)] for source in sources], 1), ordinary, logits


def _spliced(model: nn.Module, tokens: Tensor, site: TokenSite, new: Tensor, ordinary: Tensor) -> Tensor:
    """Logits with rows at the site's ordinary tokens."""
    with patch(model, {site.name: lambda acts, _: acts.index_put((ordinary,), new.to(acts))}):
        return model(tokens)


class _Enough(Exception):
    """What ends a forward pass of which nothing more is wanted."""


def _read(
    model: nn.Module, tokens: Tensor, sites: Sequence[TokenSite], whole: bool = True
) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Rows of each site at tokens that are ordinary at all of them, which those are, and the logits.

    whole: run the model to its end; otherwise no further than the last site, and logits are None.
    """
    found: list[dict[str, Tensor]] = []

    def look(acts: Tensor, name: str, called: set[str]) -> Tensor:
        if name in called:
            raise ValueError(f"the model calls its module {name} more than once in a pass, which is no one site")
        called.add(name)
        if not whole and all(found):
            raise _Enough
        return acts

    logits = None
    with ExitStack() as stack, suppress(_Enough):
        for site in sites:
            found.append(stack.enter_context(capture(model, site.name, where=site.where, copy=True)))
            stack.enter_context(patch(model, {site.name: partial(look, called=set())}, site.where))
        logits = model(tokens)
    acts = [each[site.name] for each, site in zip(found, sites, strict=True)]
    ordinary = torch.stack([site.fits(each) for site, each in zip(sites, acts, strict=True)]).all(0)
    return [each[ordinary] for each in acts], ordinary, logits


def _losses(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), tokens[:, 1:], reduction="none")
