"""The units of a class: what they prefer, and what patching them does the published way or side by side on a sheet."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from lib.activations.patching import contrast, patch_effects, top_sets
from lib.activations.sites import Site, unit_activity
from lib.metrics.selectivity import class_means
from lib.metrics.topography import Sheet, mean_pairwise_distance, random_sets
from lib.studies.topoloss_hypotheses.discs import NoMatch, matched_disc
from lib.tensors import as_array


class UnitProfile(NamedTuple):
    """What each unit of a site does on each class."""

    activity: np.ndarray
    """Mean over tokens or places, [n, d]."""
    contrast: np.ndarray
    """(µ_c - µ_other) / σ, [n_classes, d]."""
    means: np.ndarray
    """Mean over the images of a class, [n_classes, d]."""


def unit_profile(site: Site) -> UnitProfile:
    """Activity, contrast and class means of every unit on the images, of every class, of a site."""
    activity, labels = unit_activity(site), as_array(site.labels)
    return UnitProfile(activity, contrast(activity, labels, site.n_classes), class_means(activity, labels))


def published_patching(
    site: Site, values: Tensor, final: np.ndarray, k: int, sheet: Sheet, *, rng: np.random.Generator
) -> pd.DataFrame:
    """The source's ratio and distance: units by their class mean at the end of the model, on the images then patched.

    Args:
        site: where units are patched.
        values: [n_classes, *acts.shape[1:]], of `other_class_means`.
        final: activations at the end of the model for the same images, [n, d']; where d' is not the site's number of
            units (a residual network's last stage) units are selected at the site.
        k: units per class; sheet: (h, w) of the site's units.
        rng: source of the one random set per class.
    Returns:
        Columns published_ratio, published_distance; one row per class.
    Source: TopoSAE, H3 and EXP_019.
    """
    if final.shape[1] != site.n_units:
        final = unit_activity(site)
    sets = top_sets(class_means(final, as_array(site.labels)), k)
    rows = []
    for c, own in enumerate(sets):
        control = random_sets(site.n_units, k, 1, rng)[0]
        rows.append(patch_effects(site, np.stack([own, control]), values, c))
    effect, control = np.array(rows).T
    distance = mean_pairwise_distance(sets, sheet)
    return pd.DataFrame({"published_ratio": effect / control, "published_distance": distance})


def disc_effects(
    site: Site, values: Tensor, scores: np.ndarray, k: int, sheet: Sheet, n: int, *, rng: np.random.Generator,
    tries: int = 50, n_discs: int = 8,
) -> pd.DataFrame:
    """Effect of each class's most selective disc that has scattered equals, and of those.

    Args:
        site, values: as in `published_patching`.
        scores: selectivity of every unit for every class, on other images, [n_classes, d].
        k, sheet, n, rng, tries, n_discs: as in `matched_disc`.
    Returns:
        Columns disc, scattered (mean) and log_disc (log of the ratio, geometric mean of the scattered); one row per
        class, nan where no disc has scattered equals.
    """
    rows = []
    for c, own_scores in enumerate(scores):
        try:
            found = matched_disc(own_scores, k, sheet, n, rng=rng, tries=tries, n_discs=n_discs)
        except NoMatch:
            rows.append([np.nan] * 3)
            continue
        own, *null = patch_effects(site, np.stack([found.disc, *found.scattered]), values, c)
        rows.append([own, np.mean(null), np.log(own) - np.log(null).mean()])
    return pd.DataFrame(rows, columns=["disc", "scattered", "log_disc"])
