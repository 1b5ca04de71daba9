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

from lib.causal.patching import causal_scores, contrast, effects, top_sets
from lib.causal.sites import Site, open_site, other_class_means, unit_activity
from lib.data import images as image_data
from lib.data.imagenet100 import imagenet100
from lib.data.images import Images
from lib.data.shapes_colours import shapes_colours
from lib.ensembles import device_named
from lib.metrics import spectrum, topography
from lib.metrics.activation_frontier import (
    cost,
    cross_entropy_added,
    latent_selectivity,
    published_coder,
    standard,
    topk_sweep,
)
from lib.metrics.discs import NoMatch, matched_disc, share_reaching
from lib.metrics.monosemanticity import monosemanticity
from lib.metrics.polysemanticity import (
    class_means,
    entropy_selectivity,
    selectivity_report,
)
from lib.metrics.sheet_weights import sheet_weights
from lib.models.image_models import image_model
from lib.models.places import Places, features, places
from lib.params import Params as Base
from lib.rng import numpy_generator, stream_seed
from lib.runs import collect, reuse
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
    """Images by use: coders learn from images the model was trained on, select and test share none with these."""

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
    topo = TopoLoss(model, places(model).layers, arm.factor, permute=seed if arm.permuted else None)
    kept: list[dict[str, Any]] = []
    at = {max(1, round(share * params.steps)) for share in SNAPSHOTS} if arm.name == "α = 0" else set()
    press = weighted(topo, SCALE * arm.alpha)

    def extra(model: nn.Module, step: int) -> Tensor:
        if step in at:
            kept.append({"step": step, "weights": _arrays(model)})
        return press(model, step) if arm.alpha else torch.zeros(())

    recipe = Recipe(steps=params.steps, batch=params.batch, lr=params.lr, warmup=params.warmup,
                    schedule=params.schedule, augment=params.augment,
                    image_size=params.image_size if "random_resized_crop" in params.augment else None)  # fmt: skip
    history = train(model, parts.train.images, parts.train.labels, recipe, stream_seed(params.seed, SLUG, seed), extra,
                    log_every=max(1, params.steps // 20), device=params.device, progress=False)  # fmt: skip
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
    parts, at, rng = splits(params), places(model), numpy_generator(params.seed, SLUG, "measured", seed)
    scored = parts.test.take(np.arange(min(params.scored_images, len(parts.test))))
    site = open_site(model, at.site, _ready(params, model, parts.patch), torch.from_numpy(parts.patch.labels))
    learned, seen = (features(model, part.images, at, params.image_size) for part in (parts.coder, scored))
    coders, published = _coders(params, learned, seen, scored.labels, at, site, seed)
    classes, maps = _classes(params, model, at, site, parts, rng)
    scalars = {"accuracy": known["accuracy"], "step": known["step"]} | published
    h1, by_unit = _units(params, seen, scored.labels, rng)
    scalars |= sheet_weights(model, at.layers, arm.factor) | h1
    for name, layer in {"": at.site, "class_": "class"}.items():
        x = seen[layer].cpu().numpy()
        scalars[f"{name}participation"] = spectrum.participation_ratio(x)
        scalars[f"{name}d95"] = spectrum.principal_dimension(x)
    sheet = sheet_shape(site.n_units)
    scalars["morans_i"] = float(np.nanmean(topography.morans_i(maps["contrast"], sheet)))
    return {"scalars": scalars, "coders": coders, "classes": classes, "history": known["history"],
            "maps": maps | by_unit}


def untrained(params: Params, arm: Arm, seed: int) -> nn.Module:
    """The model of an arm before training; all arms of a seed and shape start alike."""
    data = splits(params).train
    channels = 1 if data.images.ndim == 3 else data.images.shape[-1]
    options: dict[str, Any] = {}
    if arm.model != "resnet18":
        options = {"patch": params.patch, "width": params.width, "depth": arm.depth or params.depth,
                   "heads": params.heads, "dropout": params.dropout, "drop_path": params.drop_path}  # fmt: skip
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
                  rest.take(np.arange(params.test_images)))  # fmt: skip


def _images(params: Params) -> tuple[Images, Images]:
    """Training and test images of the profile's data set."""
    if params.dataset == "shapes":
        sizes = params.generated_images, params.select_images + params.test_images
        made = [numpy_generator(params.seed, SLUG, "shapes", split) for split in ("train", "test")]
        return tuple(shapes_colours(n, params.image_size, rng=rng) for n, rng in zip(sizes, made, strict=True))
    load = imagenet100 if params.dataset == "imagenet100" else getattr(image_data, params.dataset)
    return load("train"), load("test")


def _coders(
    params: Params, learned: dict, seen: dict, labels: np.ndarray, at: Places, site: Site, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Frontiers after every block, one row per coder; and the published coder after the middle one."""
    rows = []
    size = params.expansion, params.k, params.coder_steps, params.coder_batch
    for layer, coder_seed in [(layer, 0) for layer in at.blocks] + [(at.site, s) for s in range(1, params.coder_seeds)]:
        own, scale = stream_seed(params.seed, SLUG, "coder", seed, coder_seed), standard(learned[layer])
        held = scale.apply(seen[layer])
        for coder in topk_sweep(scale.apply(learned[layer]), *size, own):
            row = {"layer": layer, "coder_seed": coder_seed, "k": coder.options["k"]} | cost(coder, held)
            if layer == at.site:
                row |= latent_selectivity(coder, held, labels, np.random.default_rng(own))
                if row["k"] == params.fixed_k:
                    row["ce"] = cross_entropy_added(site, coder, scale)
            rows.append(row)
    own = stream_seed(params.seed, SLUG, "published coder", seed)
    published = published_coder(learned["class"], params.expansion, params.published_epochs, own)
    found = {f"published_{name}": value for name, value in cost(published, seen["class"]).items()}
    return pd.DataFrame(rows).assign(middle=lambda table: table.layer == at.site), found


def _units(
    params: Params, found: dict, labels: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """H1: the published floored score, and scores of non-negative codes beside permuted labels; unit by unit too."""
    final = found["last"].double().cpu().numpy()
    permuted = [class_means(final, rng.permutation(labels)) for _ in range(20)]
    means = class_means(final, labels)
    codes = found["codes"].relu().double().cpu().numpy()
    report = selectivity_report(codes, labels, params.null_draws, rng=rng)
    one_hot = np.eye(means.shape[0])[labels]
    by_unit = {"h1_units": entropy_selectivity(np.maximum(means, 0)),
               "h1_null_units": entropy_selectivity(np.maximum(permuted[0], 0))}  # fmt: skip
    return {f"h1_{name}": float(value) for name, value in report.items()} | {
        "h1_published": float(np.nanmean(entropy_selectivity(means, published=True))),
        "h1_published_null": float(np.nanmean([entropy_selectivity(m, published=True) for m in permuted])),
        "h1_unfloored": float(np.nanmean(by_unit["h1_units"])),
        "h1_monosemanticity": float(np.nanmean(monosemanticity(codes, one_hot))),
    }, by_unit


def _classes(
    params: Params, model: nn.Module, at: Places, site: Site, parts: Splits, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """H3 and EXP_019, one row per class; and the maps of contrast and mean response, [classes, d]."""
    n_classes, k, values = site.n_classes, params.top_units, other_class_means(site)
    split_a = open_site(model, at.site, _ready(params, model, parts.select), torch.from_numpy(parts.select.labels))
    activity, labels = unit_activity(split_a), parts.select.labels
    scores = contrast(activity, labels, n_classes)  # [n_classes, d]
    chosen, sheet = top_sets(scores, k), sheet_shape(site.n_units)
    table = causal_scores(site, chosen, params.random_sets, rng=rng, values=values)
    near = topography.colocation(chosen, sheet, params.location_draws, rng=rng)
    table = table.assign(distance=near.distance, z=near.z, p_closer=near.p_closer, chance=near.null.mean())
    final = features(model, parts.patch.images, at, params.image_size)["last"].double().cpu().numpy()
    table = table.join(_published_patching(site, values, final, parts.patch.labels, k, sheet, rng))
    discs = pd.DataFrame([_disc(site, values, c, scores[c], sheet, params, rng) for c in range(n_classes)])
    profile = topography.correlation_profile(activity, sheet, 20, rng=rng)
    maps = {"contrast": scores, "means": class_means(activity, labels), "profile": profile.correlation}
    return table.join(discs).reset_index(), maps


def _published_patching(
    site: Site, values: Tensor, final: np.ndarray, labels: np.ndarray, k: int, sheet: topography.Sheet,
    rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    """The source's ratio and distance: units by their class mean at the end of the model, on the images patched."""
    if final.shape[1] != site.n_units:  # a residual network's last stage has other units: select at the site
        final = unit_activity(site)
    sets = top_sets(class_means(final, labels), k)
    rows = []
    for c, own in enumerate(sets):
        control = topography.random_sets(site.n_units, k, 1, rng)[0]
        rows.append(effects(site, np.stack([own, control]), values, c))
    effect, control = np.array(rows).T
    distance = topography.mean_pairwise_distance(sets, sheet)
    return pd.DataFrame({"published_ratio": effect / control, "published_distance": distance})


def _disc(
    site: Site, values: Tensor, c: int, scores: np.ndarray, sheet: topography.Sheet, params: Params,
    rng: np.random.Generator,
) -> dict[str, float]:  # fmt: skip
    """Effect of the most selective disc that has scattered equals, and of those; nan where it has none."""
    try:
        found = matched_disc(scores, params.top_units, sheet, params.random_sets, rng=rng, tries=50, n_discs=8)
    except NoMatch:
        return dict.fromkeys(("disc", "scattered", "log_disc", "disc_reached"), float("nan"))
    own, *null = effects(site, np.stack([found.disc, *found.scattered]), values, c)
    log = float(np.log(own) - np.log(null).mean())
    return {"disc": own, "scattered": float(np.mean(null)), "log_disc": log, "disc_reached": share_reaching(own, null)}


def _ready(params: Params, model: nn.Module, data: Images) -> Tensor:
    return prepare(image_tensor(data.images).to(next(model.parameters()).device), params.image_size)


def _accuracy(params: Params, model: nn.Module, parts: Splits) -> float:
    return evaluate(model, parts.test.images, parts.test.labels, image_size=params.image_size)


def _arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()}


def _restore(model: nn.Module, weights: dict[str, np.ndarray]) -> None:
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
