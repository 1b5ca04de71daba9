"""One run of everything the topoloss_hypotheses chapter shows: parameters and protocol, plain data out.

An arm is a kind of model: how strongly it is pressed towards a sheet (alpha), by which factor the sheet shrinks,
whether each layer's units lie on that sheet in an order of their own (permuted), and at which checkpoint it is taken.
`trained` makes one model, `measured` says everything the chapter asks of it, `runs` does both for all arms and seeds.
Comparisons and conclusions belong to the chapter.
"""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from lib.activations.patching import causal_scores, top_sets
from lib.activations.sites import Site, open_site, other_class_means
from lib.data.images import Images, load
from lib.data.shapes_colours import shapes_colours
from lib.metrics import spectrum, topography
from lib.models.image_models import image_model
from lib.params import Params as Base
from lib.press.runs import collect, reuse
from lib.rng import numpy_generator, stream_seed
from lib.studies.topoloss_hypotheses import coders as coding
from lib.studies.topoloss_hypotheses.class_units import UnitProfile, disc_effects, published_patching, unit_profile
from lib.studies.topoloss_hypotheses.module_names import ModuleNames, module_names, readings
from lib.studies.topoloss_hypotheses.sheet_weights import sheet_weights
from lib.studies.topoloss_hypotheses.unit_scores import unit_scores
from lib.tensors import device_named
from lib.topoloss import TopoLoss, sheet_shape
from lib.training import Recipe, evaluate, image_tensor, prepare, train, weighted

SLUG = "topoloss_hypotheses"
SCALE = 2.0
"""The published loss adds alpha times this times L."""
SNAPSHOTS = (0.5, 0.7, 0.85)
"""Shares of training after which the baseline is kept, to find a checkpoint as accurate as the topographic model."""


class Params(Base):
    """Every knob of the study; the values per profile stand in params/topoloss_hypotheses."""

    profile: str = Field(pattern="^(smoke|quick|full|paper)$", description="the file these values are from")
    seed: int = Field(ge=0, description="root of every random stream")
    device: str = Field(pattern="^(auto|cpu|cuda)$", description="where models and coders are trained")
    dataset: str = Field(pattern="^(shapes|fashion_mnist|cifar10|imagenet100)$", description="labelled images")
    generated_images: int = Field(ge=0, description="training images of shapes; the others have a fixed number")
    model: str = Field(pattern="^(tiny_vit|vit_small)$", description="the main architecture")
    image_size: int = Field(ge=8, description="side of the images the model sees")
    patch: int = Field(ge=1, description="side of a patch")
    width: int = Field(ge=8, description="of the residual stream: the units on the sheet")
    depth: int = Field(ge=2, description="blocks; activations are read after block depth // 2, counted from 0")
    heads: int = Field(ge=1, description="attention heads")
    dropout: float = Field(ge=0, lt=1, description="of embeddings and projections")
    drop_path: float = Field(ge=0, lt=1, description="stochastic depth")
    alphas: tuple[float, ...] = Field(min_length=2, description="topo_weight; 0 and 1 among them")
    factor: float = Field(ge=1, description="by which the sheet shrinks (theirs 8)")
    other_factors: tuple[float, ...] = Field(description="further factors, at topo_weight 1")
    other_depths: tuple[int, ...] = Field(description="further depths, at topo_weight 0 and 1 and permuted")
    resnet: bool = Field(description="train ResNet-18 too, at topo_weight 0 and 1 and permuted, factor 4")
    seeds: int = Field(ge=2, le=100, description="models per arm")
    other_seeds: int = Field(ge=2, le=100, description="models per arm of other factors, depths and ResNet-18")
    steps: int = Field(ge=1, description="optimiser steps of every model")
    batch: int = Field(ge=2, description="images per step")
    lr: float = Field(gt=0, description="largest learning rate of AdamW")
    warmup: int = Field(ge=0, description="steps of warm-up")
    schedule: str = Field(pattern="^(cosine|cosine_per_epoch|constant)$", description="of the learning rate")
    augment: tuple[str, ...] = Field(description="what training images go through")
    test_images: int = Field(ge=10, description="images that judge accuracy")
    scored_images: int = Field(ge=10, description="the first of them, on which units and latents are scored")
    select_images: int = Field(ge=10, description="split A: images units are selected on")
    patch_images: int = Field(ge=1, description="split B: images per class that units are patched on")
    coder_images: int = Field(ge=32, description="training images that sparse coders learn from")
    expansion: int = Field(ge=1, description="latents per unit (theirs 4)")
    k: tuple[int, ...] = Field(min_length=2, description="active latents per image of the swept TopK coders")
    fixed_k: int = Field(ge=1, description="the one at which dead latents and cross-entropy are compared")
    coder_seeds: int = Field(ge=1, description="coders per model and k, after the middle block")
    coder_steps: int = Field(ge=1, description="steps of each")
    coder_batch: int = Field(ge=2, description="activations per step")
    published_epochs: int = Field(ge=1, description="passes of the published L1 coder (theirs 50)")
    top_units: int = Field(ge=2, description="units patched per class (theirs 16)")
    random_sets: int = Field(ge=2, description="random sets they are compared with (theirs 1)")
    location_draws: int = Field(ge=2, description="random sets that distances on the sheet are compared with")
    null_draws: int = Field(ge=2, description="permutations of the labels")


class Arm(NamedTuple):
    """A kind of model."""

    name: str
    alpha: float
    factor: float
    permuted: bool = False
    earlier: bool = False
    model: str = ""
    depth: int = 0


class Splits(NamedTuple):
    """Images by use: coders learn from training images; select (split A) and test share none; patch (B) is in test."""

    train: Images
    coder: Images
    select: Images
    patch: Images
    test: Images


def arms(params: Params) -> list[Arm]:
    """Every kind of model of a profile; the first are those of the main comparison."""
    main = [Arm(f"α = {a:g}", a, params.factor) for a in params.alphas]
    main.append(Arm("permuted sheet", 1.0, params.factor, permuted=True))
    main.append(Arm("earlier checkpoint", 0.0, params.factor, earlier=True))
    if 1.0 not in params.alphas or params.alphas[0] != 0 or list(params.alphas) != sorted(set(params.alphas)):
        raise ValueError(f"alphas must rise from 0 and hold 1, got {params.alphas}")
    return main


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
        training; all with columns arm, alpha, seed. maps: one row per model, columns contrast and means [classes, d],
        profile [distances], h1_units and h1_null_units [d].
    """
    splits(params)  # without its data nothing starts
    todo = [(arm, seed) for arm in arms(params) for seed in range(params.seeds)]
    todo += [(arm, seed) for arm in other_arms(params) for seed in range(params.other_seeds)]
    jobs = 1 if params.profile == "smoke" else None
    collect(train_one, [_config(params, arm, seed) for arm, seed in todo if not arm.earlier], jobs, "models")
    judged = {(arm, seed): _same_as(params, arm, seed) for arm, seed in todo}
    once = dict.fromkeys((arm, seed) for (_, seed), arm in judged.items())
    done = collect(measured, [_config(params, arm, seed) for arm, seed in once], jobs, "measurements")
    rows = dict(zip(once, done.itertuples(), strict=True))
    found: dict[str, pd.DataFrame] = {}
    for kind in ("scalars", "coders", "classes", "history", "maps"):
        tables = []
        for (arm, seed), other in judged.items():
            own = getattr(rows[other, seed], kind)
            table = own if isinstance(own, pd.DataFrame) else pd.DataFrame([dict(own)])
            tables.append(table.assign(arm=arm.name, alpha=arm.alpha, seed=seed))
        found[kind] = pd.concat(tables, ignore_index=True)
    return found


def _config(params: Params, arm: Arm, seed: int) -> dict[str, Any]:
    return {"params": params, "arm": arm, "seed": seed}


def _same_as(params: Params, arm: Arm, seed: int) -> Arm:
    """The arm itself, or the plain one where the earlier checkpoint is the plain model's last: nothing to do twice."""
    plain = arm._replace(name="α = 0", earlier=False)
    return plain if arm.earlier and _matching(params, plain, seed)["step"] == params.steps else arm


def train_one(params: Params, arm: Arm, seed: int) -> dict[str, Any]:
    """`trained`, kept on disk; only its accuracy."""
    return {"accuracy": reuse(trained, params, tuple(arm), seed)["accuracy"]}


def trained(params: Params, arm: tuple, seed: int) -> dict[str, Any]:
    """Train one model for a fixed number of steps.

    Returns:
        weights: name -> array; accuracy on the test images; history: DataFrame of `lib.training.History`, with pressure
        ρ = |∇ alpha L| / |∇ CE|; of the plain baseline also snapshots, [{step, accuracy, weights}] on the way.
    """
    arm, parts = Arm(*arm), splits(params)
    model = untrained(params, arm, seed)
    topo = TopoLoss(model, module_names(model).layers, arm.factor, permute=seed if arm.permuted else None)
    kept: list[dict[str, Any]] = []
    at = {max(1, round(share * params.steps)) for share in SNAPSHOTS} if arm.name == "α = 0" else set()
    press = weighted(topo, SCALE * arm.alpha)

    def extra(model: nn.Module, step: int) -> Tensor:
        if step in at:
            kept.append({"step": step, "weights": _arrays(model)})
        return press(model, step) if arm.alpha else torch.zeros(())

    recipe = Recipe(steps=params.steps, batch=params.batch, lr=params.lr, warmup=params.warmup,
                    schedule=params.schedule, augment=params.augment,
                    image_size=params.image_size if "random_resized_crop" in params.augment else None)
    history = train(model, parts.train.images, parts.train.labels, recipe, stream_seed(params.seed, SLUG, seed), extra,
                    log_every=max(1, params.steps // 20), device=params.device, progress=False)
    weights, accuracy = _arrays(model), _accuracy(params, model, parts)
    for snapshot in kept:
        _restore(model, snapshot["weights"])
        snapshot["accuracy"] = _accuracy(params, model, parts)
    return {"weights": weights, "accuracy": accuracy, "history": history.table, "snapshots": kept}


def restored(params: Params, arm: Arm, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """A trained model, or its earlier checkpoint, in eval mode, and what is known of its training."""
    plain = arm._replace(name="α = 0", earlier=False)
    done = reuse(trained, params, tuple(plain if arm.earlier else arm), seed)
    chosen = _matching(params, plain, seed) if arm.earlier else done | {"step": params.steps}
    model = untrained(params, arm, seed).to(device_named(params.device))
    _restore(model, chosen["weights"])
    known = {"accuracy": chosen["accuracy"], "step": chosen["step"]}
    return model.eval(), known | {"history": done["history"]}


def _matching(params: Params, plain: Arm, seed: int) -> dict[str, Any]:
    """The plain model's snapshot, or end, whose accuracy is nearest to that of the model at topo_weight 1."""
    done = reuse(trained, params, tuple(plain), seed)
    goal = reuse(trained, params, tuple(plain._replace(name="α = 1", alpha=1.0)), seed)["accuracy"]
    return min([done | {"step": params.steps}, *done["snapshots"]], key=lambda own: abs(own["accuracy"] - goal))


def measured(params: Params, arm: Arm, seed: int) -> dict[str, Any]:
    """Everything the chapter asks of one trained model; keys as in `runs`."""
    model, known = restored(params, arm, seed)
    parts, at, rng = splits(params), module_names(model), numpy_generator(params.seed, SLUG, "measured", seed)
    scored = parts.test.take(np.arange(min(params.scored_images, len(parts.test))))
    site = _opened(params, model, at.site, parts.patch)
    learned, seen = (readings(model, part.images, at, params.image_size) for part in (parts.coder, scored))
    coders, published = _coders(params, learned, seen, scored.labels, at, site, seed)
    classes, maps = _classes(params, model, at, site, parts, rng)
    scalars = {"accuracy": known["accuracy"], "step": known["step"]} | published
    final, codes = (a.double().cpu().numpy() for a in (seen["last"], seen["codes"].relu()))
    h1, by_unit = unit_scores(final, codes, scored.labels, params.null_draws, rng=rng)
    scalars |= sheet_weights(model, at.layers, arm.factor) | {f"h1_{name}": value for name, value in h1.items()}
    for name, layer in {"": at.site, "class_": "class"}.items():
        x = seen[layer].cpu().numpy()
        scalars[f"{name}participation"] = spectrum.participation_ratio(x)
        scalars[f"{name}d95"] = spectrum.principal_dimension(x)
    scalars["morans_i"] = float(np.nanmean(topography.morans_i(maps["contrast"], sheet_shape(site.n_units))))
    return {"scalars": scalars, "coders": coders, "classes": classes, "history": known["history"],
            "maps": maps | {f"h1_{name}": values for name, values in by_unit.items()}}


def untrained(params: Params, arm: Arm, seed: int) -> nn.Module:
    """The model of an arm before training; all arms of a seed and shape start alike."""
    data = splits(params).train
    channels = 1 if data.images.ndim == 3 else data.images.shape[-1]
    options: dict[str, Any] = {}
    if arm.model != "resnet18":
        options = {"patch": params.patch, "width": params.width, "depth": arm.depth or params.depth,
                   "heads": params.heads, "dropout": params.dropout, "drop_path": params.drop_path}
    start = stream_seed(params.seed, SLUG, "start", seed)
    return image_model(arm.model or params.model, params.image_size, channels, len(data.classes), start, **options)


@functools.lru_cache(maxsize=1)
def splits(params: Params) -> Splits:
    """The images of a profile, the same for every model.

    Raises:
        DatasetUnavailable: the data set is not there and not to be had; the message gives the command.
        ValueError: it has too few images.
    """
    shown, tested = _images(params)
    order = numpy_generator(params.seed, SLUG, "test").permutation(len(tested))
    select, rest = tested.take(order[: params.select_images]), tested.take(order[params.select_images :])
    by_class = [np.flatnonzero(rest.labels == c)[: params.patch_images] for c in range(len(rest.classes))]
    if len(rest) < params.test_images or min(map(len, by_class)) < params.patch_images:
        raise ValueError(f"{params.dataset} has {len(shown)} and {len(tested)} images, too few for this profile")
    some = numpy_generator(params.seed, SLUG, "coder images").permutation(len(shown))[: params.coder_images]
    return Splits(shown, shown.take(some), select, rest.take(np.concatenate(by_class)),
                  rest.take(np.arange(params.test_images)))


def _images(params: Params) -> tuple[Images, Images]:
    """Training and test images of the profile's data set."""
    if params.dataset == "shapes":
        sizes = params.generated_images, params.select_images + params.test_images
        made = [numpy_generator(params.seed, SLUG, "shapes", split) for split in ("train", "test")]
        return tuple(shapes_colours(n, params.image_size, rng=rng) for n, rng in zip(sizes, made, strict=True))
    return load(params.dataset, "train"), load(params.dataset, "test")


def _coders(
    params: Params, learned: dict, seen: dict, labels: np.ndarray, at: ModuleNames, site: Site, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Frontiers after every block, one row per coder; and the published coder after the middle one."""
    rows = []
    size = params.expansion, params.k, params.coder_steps, params.coder_batch
    for layer, coder_seed in [(layer, 0) for layer in at.blocks] + [(at.site, s) for s in range(1, params.coder_seeds)]:
        own, scale = stream_seed(params.seed, SLUG, "coder", seed, coder_seed), coding.standard(learned[layer])
        held = scale.apply(seen[layer])
        for coder in coding.topk_sweep(scale.apply(learned[layer]), *size, own):
            row = {"layer": layer, "coder_seed": coder_seed, "k": coder.options["k"]} | coding.cost(coder, held)
            if layer == at.site:
                row |= coding.latent_selectivity(coder, held, labels, np.random.default_rng(own))
                if row["k"] == params.fixed_k:
                    row["ce"] = coding.cross_entropy_added(site, coder, scale)
            rows.append(row)
    own = stream_seed(params.seed, SLUG, "published coder", seed)
    coder = coding.published_coder(learned["class"], params.expansion, params.published_epochs, own)
    published = {f"published_{name}": value for name, value in coding.cost(coder, seen["class"]).items()}
    return pd.DataFrame(rows).assign(middle=lambda table: table.layer == at.site), published


def _classes(
    params: Params, model: nn.Module, at: ModuleNames, site: Site, parts: Splits, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """H3 and EXP_019, one row per class; and the maps of contrast and mean response, [classes, d]."""
    k, values, sheet = params.top_units, other_class_means(site), sheet_shape(site.n_units)
    units = profile(params, model, at.site)
    chosen = top_sets(units.contrast, k)
    table = causal_scores(site, chosen, params.random_sets, rng=rng, values=values)
    near = topography.colocation(chosen, sheet, params.location_draws, rng=rng)
    table = table.assign(distance=near.distance, z=near.z, p_closer=near.p_closer, chance=near.null.mean())
    final = readings(model, parts.patch.images, at, params.image_size)["last"].double().cpu().numpy()
    table = table.join(published_patching(site, values, final, k, sheet, rng=rng))
    table = table.join(disc_effects(site, values, units.contrast, k, sheet, params.random_sets, rng=rng))
    near_alike = topography.correlation_profile(units.activity, sheet, 20, rng=rng)
    maps = {"contrast": units.contrast, "means": units.means, "profile": near_alike.correlation}
    return table.reset_index(), maps


def profile(params: Params, model: nn.Module, module: str) -> UnitProfile:
    """What the units of a module of a trained model do on split A."""
    return unit_profile(_opened(params, model, module, splits(params).select))


def _opened(params: Params, model: nn.Module, module: str, data: Images) -> Site:
    images = prepare(image_tensor(data.images).to(next(model.parameters()).device), params.image_size)
    return open_site(model, module, images, torch.from_numpy(data.labels))


def _accuracy(params: Params, model: nn.Module, parts: Splits) -> float:
    return evaluate(model, parts.test.images, parts.test.labels, image_size=params.image_size)


def _arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def _restore(model: nn.Module, weights: dict[str, np.ndarray]) -> None:
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
