"""One run of everything the topoloss_hypotheses chapter shows: parameters and protocol, plain data out.

`train.trained` makes one model, `measure.measured` says everything the chapter asks of it, `runs` does both for all
arms and seeds. Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd
from pydantic import Field, ValidationInfo, field_validator, model_validator

from lib.press.runs import collect
from lib.studies.topoloss_hypotheses.data import pool
from lib.studies.topoloss_hypotheses.measure import Measuring, matching, measured, splits
from lib.studies.topoloss_hypotheses.train import Arm, train_one
from lib.topoloss import sheet_shape

__all__ = ["Arm", "Params", "arms", "other_arms", "runs", "splits"]


class Params(Measuring):
    """Every knob of the study; the values per profile stand in params/topoloss_hypotheses."""

    profile: str = Field(description="the file these values are from")
    alphas: tuple[float, ...] = Field(min_length=1, description="topo_weight; claims compare 0 with 1")
    factor: float = Field(ge=1, description="by which the sheet shrinks (theirs 8)")
    other_factors: tuple[float, ...] = Field(description="further factors, at topo_weight 1")
    other_depths: tuple[int, ...] = Field(description="further depths, at topo_weight 0 and 1 and permuted")
    resnet: bool = Field(description="train ResNet-18 too, at topo_weight 0 and 1 and permuted, factor 4")
    seeds: int = Field(ge=1, le=100, description="models per arm")
    other_seeds: int = Field(ge=2, le=100, description="models per arm of other factors, depths and ResNet-18")

    @field_validator("alphas")
    @classmethod
    def _rising(cls, alphas: tuple[float, ...]) -> tuple[float, ...]:
        if alphas[0] < 0 or list(alphas) != sorted(set(alphas)):
            raise ValueError("alphas must rise, from 0 or more")
        return alphas

    @field_validator("fixed_k")
    @classmethod
    def _one_of_k(cls, fixed_k: int, info: ValidationInfo) -> int:
        if fixed_k not in info.data.get("k", (fixed_k,)):
            raise ValueError(f"fixed_k must be one of k, {info.data['k']}")
        return fixed_k

    @model_validator(mode="after")
    def _possible(self) -> Self:
        side, drawn = sheet_shape(self.width)[0], self.dataset == "shapes"
        needs = {
            "patch that divides image_size": self.image_size % self.patch == 0,
            "heads that divide width": self.width % self.heads == 0,
            f"factor and other_factors up to {side}, the shorter side of width's sheet":
                max((self.factor, *self.other_factors)) <= side,
            "k from 1 to width times expansion": min(self.k) >= 1 and max(self.k) <= self.width * self.expansion,
            "top_units below width": self.top_units < self.width,
            "generated_images up from batch with dataset: shapes": not drawn or self.generated_images >= self.batch,
            "more select_images, test_images and scored_images, or fewer patch_images, for shapes of every class":
                not drawn or _of_every_class(self),
        }
        if lacking := [need for need, holds in needs.items() if not holds]:
            raise ValueError(f"the study needs {'; '.join(lacking)}")
        return self

    def model_seeds(self, n: int | None = None) -> list[int]:
        """Seeds of `n` models of an arm, by default of the main comparison; those of another root are others."""
        return [1000 * self.seed + i for i in range(n or self.seeds)]


def _of_every_class(params: Params) -> bool:
    """Whether drawn images of every class are there to select units on, to score them on and to patch them on."""
    _, select, rest, test = pool(params.model_copy(update={"image_size": 8, "generated_images": 1}))  # labelled alike
    wanted = (select.labels, 1), (test.labels[: params.scored_images], 1), (rest.labels, params.patch_images)
    return all(np.bincount(labels, minlength=len(test.classes)).min() >= n for labels, n in wanted)


def arms(params: Params) -> list[Arm]:
    """Every kind of model of the main comparison; the controls where topo_weight 0 and 1 are there to be compared."""
    main = [Arm(f"α = {a:g}", a, params.factor) for a in params.alphas]
    controls = [Arm("permuted sheet", 1.0, params.factor, permuted=True),
                Arm("earlier checkpoint", 0.0, params.factor, earlier=True)]
    return main + controls * ({0.0, 1.0} <= set(params.alphas))


def other_arms(params: Params) -> list[Arm]:
    """Arms beside the main comparison: other factors, depths and the residual network."""
    found = [Arm(f"factor {f:g}", 1.0, f) for f in params.other_factors]
    shapes = [(f"depth {d}", params.model, d, params.factor) for d in params.other_depths]
    shapes += [("ResNet-18", "resnet18", 0, 4.0)] * params.resnet
    for name, model, depth, factor in shapes:
        found += [Arm(f"{name}, α = {a:g}", a, factor, model=model, depth=depth) for a in (0.0, 1.0)]
        found.append(Arm(f"{name}, permuted", 1.0, factor, True, model=model, depth=depth))
    return found


def runs(params: Params) -> dict[str, pd.DataFrame]:
    """Every model trained and measured, one at a time.

    Returns:
        scalars: one row per model; coders: one per coder; classes: one per class; history: one per logged step of
        training; all with columns arm, seed. maps: one row per model, columns contrast and means (of the residual
        stream) and pressed and pressed_means (of the pressed layer) [classes, d].
    """
    splits(params)  # without its data nothing starts
    main = [(arm, seed) for arm in arms(params) for seed in params.model_seeds()]
    todo = main + [(arm, seed) for arm in other_arms(params) for seed in params.model_seeds(params.other_seeds)]
    jobs = 1 if params.profile == "smoke" else None
    configs = [{"params": params, "arm": arm, "seed": seed} for arm, seed in todo if not arm.earlier]
    collect(train_one, configs, jobs, "models")
    judged = {(arm, seed): _same_as(params, arm, seed) for arm, seed in todo}
    once = dict.fromkeys((arm, seed) for (_, seed), arm in judged.items())
    configs = [{"params": params, "arm": arm, "seed": seed, "is_main": (arm, seed) in main} for arm, seed in once]
    done = collect(measured, configs, jobs, "measurements")
    rows = dict(zip(once, done.itertuples(), strict=True))
    found: dict[str, pd.DataFrame] = {}
    for kind in ("scalars", "coders", "classes", "history", "maps"):
        tables = []
        for (arm, seed), other in judged.items():
            own = getattr(rows[other, seed], kind, np.nan)
            table = own if isinstance(own, pd.DataFrame) else pd.DataFrame([own] if isinstance(own, dict) else [])
            tables.append(table.assign(arm=arm.name, seed=seed))
        found[kind] = pd.concat(tables, ignore_index=True)
    return found


def _same_as(params: Params, arm: Arm, seed: int) -> Arm:
    """The arm itself, or the plain one where the earlier checkpoint is the plain model's last: nothing to do twice."""
    plain = arm._replace(name="α = 0", earlier=False)
    return plain if arm.earlier and matching(params, plain, seed)["step"] == params.steps else arm
