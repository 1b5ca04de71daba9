"""Measuring a trained model: its units, the latents of sparse coders, what patching does and where units lie."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import nn

from lib.activations.patching import causal_scores, top_sets
from lib.activations.sites import Site, open_site, other_class_means
from lib.data.images import Images
from lib.metrics import spectrum, topography
from lib.press.runs import reuse
from lib.rng import numpy_generator, stream_seed
from lib.studies.topoloss_hypotheses import coders as coding
from lib.studies.topoloss_hypotheses.class_units import UnitProfile, disc_effects, published_patching, unit_profile
from lib.studies.topoloss_hypotheses.data import SLUG, Data, pool
from lib.studies.topoloss_hypotheses.module_names import ModuleNames, module_names
from lib.studies.topoloss_hypotheses.places import placed
from lib.studies.topoloss_hypotheses.readings import readings
from lib.studies.topoloss_hypotheses.sheet_weights import sheet_weights
from lib.studies.topoloss_hypotheses.train import Arm, Training, restore, trained, untrained
from lib.studies.topoloss_hypotheses.unit_scores import unit_scores
from lib.tensors import device_named
from lib.topoloss import sheet_shape
from lib.training import image_tensor, prepare


class Measuring(Training):
    """What the measurements of a model depend on, beside its arm and seed."""

    scored_images: int = Field(ge=10, description="the first of them, on which units and latents are scored")
    patch_images: int = Field(ge=1, description="split B: images per class that units are patched on")
    coder_images: int = Field(ge=32, description="training images that sparse coders learn from")
    expansion: int = Field(ge=1, description="latents per unit (theirs 4)")
    k: tuple[int, ...] = Field(min_length=2, description="active latents per image of the swept TopK coders")
    fixed_k: int = Field(ge=1, description="the one at which dead latents and cross-entropy are compared")
    coder_seeds: int = Field(ge=1, description="coders per model and k")
    coder_steps: int = Field(ge=1, description="steps of each")
    coder_batch: int = Field(ge=2, description="activations per step")
    published_epochs: int = Field(ge=1, description="passes of the published L1 coder (theirs 50)")
    top_units: int = Field(ge=2, description="units patched per class (theirs 16)")
    random_sets: int = Field(ge=2, description="random sets they are compared with (theirs 1)")
    location_draws: int = Field(ge=10, description="random sets that distances on the sheet are compared with")
    null_draws: int = Field(ge=2, description="permutations of the labels")


class Splits(NamedTuple):
    """Images by use: coders learn from training images; select (split A) and test share none; patch (B) is in test."""

    train: Images
    coder: Images
    select: Images
    patch: Images
    test: Images


def splits(params: Measuring) -> Splits:
    """The images of a profile by use.

    Raises:
        DatasetUnavailable: the data set is not there and not to be had; the message gives the command.
        ValueError: it has too few images.
    """
    train, select, rest, test = pool(params)
    by_class = [np.flatnonzero(rest.labels == c)[: params.patch_images] for c in range(len(rest.classes))]
    if (least := min(map(len, by_class))) < params.patch_images:
        raise ValueError(f"{params.dataset} has {least} test images of a class left for split B, too few for this "
                         f"profile: it patches {params.patch_images}")
    some = numpy_generator(params.seed, SLUG, "coder images").permutation(len(train))[: params.coder_images]
    return Splits(train, train.take(some), select, rest.take(np.concatenate(by_class)), test)


def restored(params: Training, arm: Arm, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """A trained model, or its earlier checkpoint, in eval mode, and what is known of its training."""
    plain = arm._replace(name="α = 0", earlier=False)
    done = reuse(trained, params, tuple(plain if arm.earlier else arm), seed)
    chosen = matching(params, plain, seed) if arm.earlier else done | {"step": params.steps}
    model = untrained(params, arm, seed).to(device_named(params.device))
    restore(model, chosen["weights"])
    known = {"accuracy": chosen["accuracy"], "step": chosen["step"]}
    return model.eval(), known | {"history": done["history"]}


def matching(params: Training, plain: Arm, seed: int) -> dict[str, Any]:
    """The plain model's snapshot, or end, whose accuracy is nearest to that of the model at topo_weight 1."""
    done = reuse(trained, params, tuple(plain), seed)
    goal = reuse(trained, params, tuple(plain._replace(name="α = 1", alpha=1.0)), seed)["accuracy"]
    return min([done | {"step": params.steps}, *done["snapshots"]], key=lambda own: abs(own["accuracy"] - goal))


def measured(params: Measuring, arm: Arm, seed: int, is_main: bool = True) -> dict[str, Any]:
    """Everything the study asks of one trained model; keys as in `protocol.runs`.

    Killed, it starts again and trains its coders anew: half of its 8 CPU-seconds at the quick profile.

    Args:
        is_main: whether the arm is of the main comparison; of others no coder is trained, no disc patched.
    """
    model, known = restored(params, arm, seed)
    parts, at, rng = splits(params), module_names(model), numpy_generator(params.seed, SLUG, "measured", seed)
    scored = parts.test.take(np.arange(min(params.scored_images, len(parts.test))))
    site = _opened(params, model, at.site, parts.patch)
    seen = readings(model, scored.images, at, params.image_size)
    classes, maps = _classes(params, model, at, site, parts, is_main, rng)
    scalars = {"accuracy": known["accuracy"], "step": known["step"]} | sheet_weights(model, at.layers, arm.factor)
    for name, layer in {"": at.site, "class_": "class"}.items():
        x = seen[layer].cpu().numpy()
        scalars[f"{name}participation"] = spectrum.participation_ratio(x)
        scalars[f"{name}d95"] = spectrum.principal_dimension(x)
    found = {"classes": classes, "history": known["history"], "maps": maps}
    if is_main:
        found["coders"], published = _coders(params, readings(model, parts.coder.images, at, params.image_size), seen,
                                             scored.labels, at, site, seed)
        final, codes = (a.double().cpu().numpy() for a in (seen["last"], seen["codes"].relu()))
        h1 = unit_scores(final, codes, scored.labels, params.null_draws, rng=rng)
        scalars |= published | {f"h1_{name}": value for name, value in h1.items()}
    scalars["d95_null"] = spectrum.principal_dimension(spectrum.unrelated(seen[at.site].cpu().numpy(), rng))
    lie = {"stream": maps["contrast"]}
    if hasattr(model, "blocks"):
        pressed = profile(params, model, f"{at.site}.attn.proj")
        maps |= {"pressed": pressed.contrast, "pressed_means": pressed.means}
        lie["pressed"] = pressed.contrast
    for where, contrast in lie.items():
        read = placed(contrast, params.top_units, sheet_shape(site.n_units), params.location_draws, rng=rng)
        scalars |= {f"{where}_{key}": value for key, value in read.items()}
    return found | {"scalars": scalars}


def profile(params: Data, model: nn.Module, module: str) -> UnitProfile:
    """What the units of a module of a trained model do on split A."""
    return unit_profile(_opened(params, model, module, pool(params).select))


def _coders(
    params: Measuring, learned: dict, seen: dict, labels: np.ndarray, at: ModuleNames, site: Site, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Frontiers after the middle block, one row per coder; and the published coder of its class token."""
    rows, scale = [], coding.standard(learned[at.site])
    x, held = scale.apply(learned[at.site]), scale.apply(seen[at.site])
    for coder_seed in range(params.coder_seeds):
        own = stream_seed(params.seed, SLUG, "coder", seed, coder_seed)
        for coder in coding.topk_sweep(x, params.expansion, params.k, params.coder_steps, params.coder_batch, own):
            row = {"coder_seed": coder_seed, "k": coder.rule.k} | coding.cost(coder, held)
            row |= coding.latent_selectivity(coder, held, labels, np.random.default_rng(own))
            if row["k"] == params.fixed_k:
                row["ce"] = coding.cross_entropy_added(site, coder, scale)
            rows.append(row)
    own = stream_seed(params.seed, SLUG, "published coder", seed)
    coder = coding.published_coder(learned["class"], params.expansion, params.published_epochs, own)
    return pd.DataFrame(rows), {f"published_{name}": x for name, x in coding.cost(coder, seen["class"]).items()}


def _classes(
    params: Measuring, model: nn.Module, at: ModuleNames, site: Site, parts: Splits, is_main: bool,
    rng: np.random.Generator,
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
    if is_main:
        table = table.join(disc_effects(site, values, units.contrast, k, sheet, params.random_sets, rng=rng))
    return table.reset_index(), {"contrast": units.contrast, "means": units.means}


def _opened(params: Data, model: nn.Module, module: str, data: Images) -> Site:
    images = prepare(image_tensor(data.images).to(next(model.parameters()).device), params.image_size)
    return open_site(model, module, images, torch.from_numpy(data.labels))
