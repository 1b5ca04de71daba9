"""A language model's activations, token by token: harvested for sparse coders, and spliced back into the model.

    site = token_site(model, "blocks.1", tokens)             # lib.data.text.windows(...).ids as a tensor
    store = harvest("acts", model, tokens, [site], {"model": "mine"})
    losses = splice(model, held, site, {"coder": coder}, store.statistics.mean)
    recovered(losses, "coder", "mean")                       # 1: as good as the model's own activations

The first token of a window, and tokens whose activation is far longer than the others ("massive activations"), are
left out of what is harvested and stay as they are where the rest is replaced: a coder would spend itself on them.
Source: Sun et al. 2024, "Massive activations in large language models".
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.activations.hooks import Where, capture, match_modules, patch
from lib.activations.store import ActivationStore, build

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
    """The site at the module called `name`, its limit `beyond` times the median length over the first `batch` windows.
    """
    if list(match_modules(model, name)) != [name]:
        raise ValueError(f"{name!r} must name one module")
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
    for part in tokens.split(batch):
        acts, ordinary, _ = _read(model, part, sites)
        yield torch.cat(acts, 1), ordinary


def harvest(
    path: Path | str, model: nn.Module, tokens: Tensor, sites: Sequence[TokenSite], identity: Mapping[str, Any],
    dtype: str = "float32", batch: int = 16,
) -> ActivationStore:
    """The store at `path` of what `rows` yields, written first if it is not there, whole or not at all.

    Args:
        identity: what tells this model and these tokens from others; the sites are added.
    """
    own = {**identity, "sites": [list(site) for site in sites]}
    return build(path, own, lambda: (found for found, _ in rows(model, tokens, sites, batch)), dtype)


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
    if site.where != "output":
        raise ValueError(f"only what a module returns is replaced; the site {site.name} is an input")
    sources = list(sources) or [site]
    read = [*(source for source in sources if source != site), site]  # the site last: its tokens must be ordinary too
    constant = {} if mean is None else {"zero": torch.zeros_like(mean), "mean": mean}
    edits = {name: (lambda x, value=value: value.to(x).expand(len(x), -1)) for name, value in constant.items()}
    if taken := sorted(recodes.keys() & {"clean", "zero", "mean"}):
        raise ValueError(f"splice: a recode cannot be called {taken[0]}")
    edits |= recodes
    found: dict[str, list[Tensor]] = {name: [] for name in ("clean", *edits)}
    for part in tokens.split(batch):
        acts, ordinary, logits = _read(model, part, read)
        x = torch.cat([acts[read.index(source)] for source in sources], 1)
        found["clean"].append(_losses(logits, part))
        for name, recode in edits.items():
            new = recode(x)

            def replaced(acts: Tensor, _: str, new: Tensor = new, ordinary: Tensor = ordinary) -> Tensor:
                return acts.index_put((ordinary,), new.to(acts))

            with patch(model, {site.name: replaced}):
                found[name].append(_losses(model(part), part))
    return {name: torch.cat(parts) for name, parts in found.items()}


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


def _read(model: nn.Module, tokens: Tensor, sites: Sequence[TokenSite]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Rows of each site at tokens that are ordinary at all of them, which those are, and the logits."""
    with ExitStack() as stack:
        found = [stack.enter_context(capture(model, site.name, where=site.where, copy=True)) for site in sites]
        logits = model(tokens)
    acts = [each[site.name] for each, site in zip(found, sites, strict=True)]
    ordinary = torch.stack([site.fits(each) for site, each in zip(sites, acts, strict=True)]).all(0)
    return [each[ordinary] for each in acts], ordinary, logits


def _losses(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].float().transpose(1, 2), tokens[:, 1:], reduction="none")
