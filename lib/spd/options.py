"""What one decomposition is: every option of `lib.spd.decompose`, checked when it is made."""
from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lib.params import Count, Options, Share, Weight
from lib.spd.gates import GATES
from lib.spd.masks import KINDS

TERMS = ("faithfulness", "recon", "layerwise", "subset", "unmasked", "ci_masked", "ci_layerwise",
         "adversarial", "adversarial_subset", "hidden", "importance", "l1", "l2")
"""Terms of the loss; `lib.spd.losses.Step` has a method of each name."""


class SPDConfig(Options):
    """Options of a decomposition, L = sum of coefficient x term (faithfulness ... l2, see `lib.spd.losses.Step`)."""

    n_components: Count | Mapping[str, Count] = Field(description="C, for all sites or by name")
    gate: Literal[tuple(GATES)] = Field("mlp", description="kind of causal importance function")
    width: Count = Field(16, description="hidden units of a gate")
    steps: Count = Field(10_000, description="of AdamW, after the warm-up")
    batch_size: Count = 4096
    lr: Weight = Field(1e-3, description="largest rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="of the rate; cosine: to 0")
    warmup_steps: int = Field(
        200, ge=0, description="steps on the faithfulness loss alone, V and U only, before everything else")
    warmup_lr: Weight = 1e-2
    faithfulness: Weight = 0.0
    recon: Weight = 1.0
    layerwise: Weight = 1.0
    subset: Weight = 0.0
    unmasked: Weight = 0.0
    ci_masked: Weight = 0.0
    ci_layerwise: Weight = 0.0
    adversarial: Weight = 0.0
    adversarial_subset: Weight = 0.0
    hidden: Weight = 0.0
    importance: Weight = 3e-3
    site_importance: Mapping[str, Weight] = Field(
        {}, description="factor on a site's share of the importance term, by name; 1 where none is given")
    positions: Literal["own", "first"] = Field(
        "own", description='by whose number of positions a site\'s importances are averaged; "first": all by the first '
                           "site's, as the reference implementation does")
    l1: Weight = 0.0
    l2: Weight = 0.0
    p: Weight = Field(1.0, description="exponent of the importance term")
    p_final: Weight | None = Field(
        None, description="p falls linearly to it from the share p_from of training to p_to; None: p stays")
    p_from: Share = 0.0
    p_to: Share = 1.0
    eps: Weight = Field(1e-12, description="added to importances in that term")
    mask: Literal[tuple(KINDS)] = Field("uniform", description="law of masks; bernoulli does not train the gates")
    divergence: Literal["mse", "kl"] = Field("mse", description='"kl" for networks whose outputs are logits')
    leak: Weight = Field(0.01, description="of the two sigmoids")
    attack_steps: int = Field(6, ge=0, description="sign ascents of the adversarial masks")
    attack_size: Weight = 0.25
    attack_scope: Literal["sample", "batch"] = Field("sample", description="what has a set of such masks of its own")
    weight_decay: Weight = Field(0.0, description="AdamW's, of V and U")
    drop_zero_rows: bool = Field(
        False, description="leave out all-zero inputs, exactly, where every site sees zeros on them; one row stands "
                           "for all. What a seed draws then depends on the seeds beside it, which keep as many rows")

    def __init__(self, n_components: int | Mapping[str, int], **options: Any):
        super().__init__(n_components=n_components, **options)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not any(self.coefficients().values()):
            raise ValueError("every coefficient is 0: there is nothing to train")
        if not self.p_from < self.p_to:
            raise ValueError(f"p_from and p_to must lie in [0, 1] in this order, got {self.p_from!r}, {self.p_to!r}")
        return self

    def check_sites(self, sites: Collection[str]) -> None:
        """Refuse factors on sites that are not decomposed."""
        if strange := set(self.site_importance) - set(sites):
            raise ValueError(f"site_importance names {', '.join(sorted(strange))}; the sites are {', '.join(sites)}")

    def coefficients(self) -> dict[str, float]:
        """The terms that count, with their coefficients."""
        return {name: getattr(self, name) for name in TERMS if getattr(self, name)}

    def exponent(self, progress: float) -> float:
        """p after the share `progress` of training."""
        if self.p_final is None or progress <= self.p_from:
            return self.p
        if progress >= self.p_to:
            return self.p_final
        return self.p + (self.p_final - self.p) * (progress - self.p_from) / (self.p_to - self.p_from)
