"""Training the models: what an arm is, and one run that makes one model.

An arm is a kind of model: how strongly it is pressed towards a sheet (alpha), by which factor the sheet shrinks,
whether each layer's units lie on that sheet in an order of their own (permuted), and at which checkpoint it is taken.
"""
from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lib.files import write_atomically
from lib.models.image_models import image_model
from lib.press.runs import reuse
from lib.rng import stream_seed
from lib.studies.topoloss_hypotheses.data import SLUG, Data, pool
from lib.studies.topoloss_hypotheses.module_names import module_names
from lib.topoloss import TopoLoss
from lib.training import Recipe, evaluate, train, weighted

SCALE = 2.0
"""The published loss adds alpha times this times L."""
SNAPSHOTS = (0.5, 0.7, 0.85)
"""Shares of training after which the baseline is kept, to find a checkpoint as accurate as the topographic model."""
LEAST = 100
"""Steps between checkpoints, or a twentieth of training where that is more; writing one takes as long as a step on a
CPU, and as some tens of them on a GPU."""


class Training(Data):
    """What a trained model depends on, beside its arm and seed."""

    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where models and coders are trained")
    model: str = Field(pattern="^(tiny_vit|vit_small)$", description="the main architecture")
    patch: int = Field(ge=1, description="side of a patch")
    width: int = Field(ge=8, description="of the residual stream: the units on the sheet")
    depth: int = Field(ge=2, description="blocks; activations are read after block depth // 2, counted from 0")
    heads: int = Field(ge=1, description="attention heads")
    dropout: float = Field(ge=0, lt=1, description="of embeddings and projections")
    drop_path: float = Field(ge=0, lt=1, description="stochastic depth")
    steps: int = Field(ge=1, description="optimiser steps of every model")
    batch: int = Field(ge=2, description="images per step")
    lr: float = Field(gt=0, description="largest learning rate of AdamW")
    warmup: int = Field(ge=0, description="steps of warm-up")
    schedule: str = Field(pattern="^(cosine|cosine_per_epoch|constant)$", description="of the learning rate")
    augment: tuple[str, ...] = Field(description="what training images go through")


class Arm(NamedTuple):
    """A kind of model."""

    name: str
    alpha: float
    factor: float
    permuted: bool = False
    earlier: bool = False
    model: str = ""
    depth: int = 0


def train_one(params: Training, arm: Arm, seed: int) -> dict[str, Any]:
    """`trained`, kept on disk; only its accuracy."""
    return {"accuracy": reuse(trained, params, tuple(arm), seed)["accuracy"]}


def trained(params: Training, arm: tuple, seed: int, checkpoints: Path | None = None) -> dict[str, Any]:
    """Train one model for a fixed number of steps.

    Args:
        checkpoints: folder of the model on the way and of the snapshots passed, from which a killed training goes on.
    Returns:
        weights: name -> array; accuracy on the test images; history: DataFrame of `lib.training.History`, with pressure
        ρ = |∇ alpha L| / |∇ CE|; of the plain baseline also snapshots, [{step, weights, accuracy}] on the way.
    """
    arm, parts = Arm(*arm), pool(params)
    model = untrained(params, arm, seed).eval()
    topo = TopoLoss(model, module_names(model).layers, arm.factor, permute=seed if arm.permuted else None)
    at = {max(1, round(share * params.steps)) for share in SNAPSHOTS} if arm.name == "α = 0" else set()
    kept, press = _kept(checkpoints, at), weighted(topo, SCALE * arm.alpha)

    def extra(model: nn.Module, step: int) -> Tensor:
        if step in at and model.training:  # before its first step `train` asks too, of the model in eval mode
            kept[step] = _arrays(model)
            if checkpoints:
                write_atomically(_snapshot(checkpoints, step), lambda path: np.savez(path, **kept[step]))
        return press(model, step) if arm.alpha else torch.zeros(())

    history = train(
        model, parts.train.images, parts.train.labels, _recipe(params), stream_seed(params.seed, SLUG, seed), extra,
        log_every=max(1, params.steps // 20), checkpoint=checkpoints and checkpoints / "model.pt",
        checkpoint_every=max(LEAST, params.steps // 20), device=params.device, progress=False,
    )
    weights, accuracy, snapshots = _arrays(model), _accuracy(params, model), []
    for step in sorted(kept):
        restore(model, kept[step])
        snapshots.append({"step": step, "weights": kept[step], "accuracy": _accuracy(params, model)})
    return {"weights": weights, "accuracy": accuracy, "history": history.table, "snapshots": snapshots}


def untrained(params: Training, arm: Arm, seed: int) -> nn.Module:
    """The model of an arm before training; all arms of a seed and shape start alike."""
    data = pool(params).train
    channels = 1 if data.images.ndim == 3 else data.images.shape[-1]
    options: dict[str, Any] = {}
    if arm.model != "resnet18":
        options = {"patch": params.patch, "width": params.width, "depth": arm.depth or params.depth,
                   "heads": params.heads, "dropout": params.dropout, "drop_path": params.drop_path}
    start = stream_seed(params.seed, SLUG, "start", seed)
    return image_model(arm.model or params.model, params.image_size, channels, len(data.classes), start, **options)


def restore(model: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Give a model the weights of another."""
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})


def _recipe(params: Training) -> Recipe:
    return Recipe(steps=params.steps, batch=params.batch, lr=params.lr, warmup=params.warmup,
                  schedule=params.schedule, augment=params.augment,
                  image_size=params.image_size if "random_resized_crop" in params.augment else None)


def _accuracy(params: Training, model: nn.Module) -> float:
    test = pool(params).test
    return evaluate(model, test.images, test.labels, image_size=params.image_size)


def _arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def _kept(folder: Path | None, at: Collection[int]) -> dict[int, dict[str, np.ndarray]]:
    """Weights by step, of the snapshots a killed training left."""
    found = {}
    for step in at if folder else ():
        if _snapshot(folder, step).is_file():
            with np.load(_snapshot(folder, step)) as file:
                found[step] = dict(file)
    return found


def _snapshot(folder: Path, step: int) -> Path:
    return folder / f"step_{step}.npz"
