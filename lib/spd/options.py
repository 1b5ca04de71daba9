"""What one decomposition is: every option of `lib.spd.decompose`, checked when it is made."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from lib.spd.gates import GATES
from lib.spd.masks import KINDS

TERMS = ("faithfulness", "recon", "layerwise", "subset", "unmasked", "ci_masked", "adversarial",
         "adversarial_subset", "hidden", "importance", "l1", "l2")
"""Terms of the loss; `lib.spd.losses.Step` has a method of each name."""


@dataclass(frozen=True)
class SPDConfig:
    """Options of a decomposition, L = sum of coefficient x term.

    Attributes:
        n_components: C, for all sites or by name.
        gate, width: kind of causal importance function and its hidden units.
        steps, batch_size, lr: AdamW without decay, cosine from lr to 0 (or schedule "constant").
        warmup_steps, warmup_lr: steps on the faithfulness loss alone, V and U only, before everything else.
        faithfulness ... l2: coefficients of the terms, see `lib.spd.losses.Step`.
        p, p_final, p_from, p_to: exponent of the importance term, p until the share p_from of training, then linearly
            to p_final, reached at the share p_to (None: p throughout).
        mask: "uniform", "binary" or "bernoulli" (which does not train the gates).
        divergence: "mse", or "kl" for networks whose output are logits.
        leak: of the two sigmoids.
        attack_steps, attack_size, attack_scope: sign ascent of the adversarial masks, one set per "sample" or one for
            the whole "batch".
        weight_decay: AdamW's, of V and U.
        drop_zero_rows: leave out all-zero inputs, exactly, where every site sees zeros on them; one row stands for all.
            Seeds side by side then keep equally many rows, so what a seed draws depends on the seeds beside it.
    """

    n_components: int | Mapping[str, int]
    gate: str = "mlp"
    width: int = 16
    steps: int = 10_000
    batch_size: int = 4096
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup_steps: int = 200
    warmup_lr: float = 1e-2
    faithfulness: float = 0.0
    recon: float = 1.0
    layerwise: float = 1.0
    subset: float = 0.0
    unmasked: float = 0.0
    ci_masked: float = 0.0
    adversarial: float = 0.0
    adversarial_subset: float = 0.0
    hidden: float = 0.0
    importance: float = 3e-3
    l1: float = 0.0
    l2: float = 0.0
    p: float = 1.0
    p_final: float | None = None
    p_from: float = 0.0
    p_to: float = 1.0
    eps: float = 1e-12
    mask: str = "uniform"
    divergence: str = "mse"
    leak: float = 0.01
    attack_steps: int = 6
    attack_size: float = 0.25
    attack_scope: str = "sample"
    weight_decay: float = 0.0
    drop_zero_rows: bool = False

    def __post_init__(self) -> None:
        choices = {"gate": GATES, "mask": KINDS, "divergence": ("mse", "kl"), "schedule": ("cosine", "constant"),
                   "attack_scope": ("sample", "batch")}
        for name, accepted in choices.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(accepted)}")
        least = {"steps": 1, "batch_size": 1, "width": 1, "warmup_steps": 0, "attack_steps": 0}
        for name, low in least.items():
            if not (isinstance(getattr(self, name), int) and getattr(self, name) >= low):
                raise ValueError(f"{name} must be a whole number of at least {low}, got {getattr(self, name)!r}")
        for name in (*TERMS, "lr", "warmup_lr", "weight_decay", "leak", "p", "p_final", "eps", "attack_size"):
            if getattr(self, name) is not None and not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)!r}")
        if not any(self.coefficients().values()):
            raise ValueError("every coefficient is 0: there is nothing to train")
        if not 0 <= self.p_from < self.p_to <= 1:
            raise ValueError(f"p_from and p_to must lie in [0, 1] in this order, got {self.p_from!r}, {self.p_to!r}")

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

    def identity(self) -> dict[str, object]:
        """Every option as a plain value, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: dict(v) if isinstance(v, Mapping) else v for name, v in values.items()}
