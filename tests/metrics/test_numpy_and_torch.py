"""Every metric reads an array of NumPy and a tensor of torch alike, in a graph or not, and copes with what has length
0; no function is left out."""
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import torch

import lib.metrics
from lib.metrics.nulls import NullCannotMove
from lib.rng import numpy_generator

PUBLIC = {f"{module.name}.{name}": function for module in pkgutil.iter_modules(lib.metrics.__path__)
          for name, function in vars(importlib.import_module(f"lib.metrics.{module.name}")).items()
          if inspect.isfunction(function) and function.__module__ == f"lib.metrics.{module.name}" and name[0] != "_"}
ARRAYS = {name: function for name, function in PUBLIC.items() if "ArrayLike" in str(function.__annotations__)}
draws = numpy_generator(0, "alike")
W, X, Y = (draws.normal(size=shape) for shape in ((2, 5), (40, 6), (40, 6)))
LABELS, ONES = np.arange(40) % 3, draws.random(40)
LATENTS, MEANS = np.maximum(X, 0), np.abs(draws.normal(size=(3, 6)))
FAR = 9 * np.eye(3)[LABELS] + Y[:, :3]
PARENT = np.array([-1, 0, -1, -1, 2, -1])
MAPS = draws.normal(size=(2, 12))
TOPOLOGY = {"sheet": (3, 4)}


def rng():
    return {"rng": numpy_generator(1)}


CALLS = {
    "monosemanticity.monosemanticity": lambda f, a: f(a(LATENTS), a(Y)),
    "monosemanticity.monosemanticity_null": lambda f, a: f(a(LATENTS), a(Y), n=5, **rng()),
    "nulls.against_null": lambda f, a: f(1.0, a(ONES)),
    "polysemanticity.best_clusters": lambda f, a: f(a(X)),
    "polysemanticity.one_cloud": lambda f, a: f(a(X), **rng()),
    "polysemanticity.silhouette_null": lambda f, a: f(a(X), 3, **rng()),
    "polysemanticity.polysemanticity_index": lambda f, a: f(a(LATENTS), a(FAR), a(LABELS), 9, 2, **rng()),
    "polytopes.polytopes": lambda f, a: f(a(W)),
    "recovery.cosines": lambda f, a: f(a(W.T), a(W.T)),
    "recovery.match_features": lambda f, a: f(a(W.T), a(W.T)),
    "recovery.recovery_at": lambda f, a: f(a(ONES)),
    "recovery.mmcs": lambda f, a: f(a(W.T), a(W.T)),
    "recovery.uniqueness": lambda f, a: f(a(W.T), a(W.T)),
    "recovery.random_dictionary_null": lambda f, a: f(a(W.T), 5, n=4, **rng()),
    "recovery.against_random_dictionary": lambda f, a: f(a(W.T), a(W.T), n=4, **rng()),
    "recovery.matched_scores": lambda f, a: f(a(LATENTS), PUBLIC["recovery.match_features"](X[:6], Y[:6])),
    "recovery.detection": lambda f, a: f(a(LATENTS), a(X > 0.5)),
    "recovery.absorption": lambda f, a: f(a(LATENTS), a(LATENTS), a(PARENT)),
    "selectivity.class_means": lambda f, a: f(a(LATENTS), a(LABELS)),
    "selectivity.entropy_selectivity": lambda f, a: f(a(MEANS)),
    "selectivity.class_selectivity_index": lambda f, a: f(a(MEANS)),
    "selectivity.peak_share": lambda f, a: f(a(MEANS)),
    "selectivity.class_auroc": lambda f, a: f(a(LATENTS), a(LABELS)),
    "selectivity.silent_units": lambda f, a: f(a(LATENTS)),
    "selectivity.label_permutation_null": lambda f, a: f(
        a(LATENTS), a(LABELS), PUBLIC["selectivity.peak_share"], 5, **rng()),
    "selectivity.selectivity_report": lambda f, a: f(a(LATENTS), a(LABELS), 5, **rng()),
    "similarity.linear_cka": lambda f, a: f(a(X), a(Y)),
    "similarity.procrustes_similarity": lambda f, a: f(a(X), a(Y)),
    "similarity.rsa": lambda f, a: f(a(X), a(Y)),
    "sparsity.fvu": lambda f, a: f(a(X), a(Y)),
    "sparsity.l0": lambda f, a: f(a(LATENTS)),
    "sparsity.l1": lambda f, a: f(a(LATENTS)),
    "sparsity.samples_since_fired": lambda f, a: f(a(LATENTS)),
    "sparsity.dead_fraction": lambda f, a: f(a(LABELS), 2),
    "sparsity.shrinkage": lambda f, a: f(a(X), a(X + 0.1 * Y)),
    "spectrum.effective_rank": lambda f, a: f(a(X)),
    "spectrum.variances": lambda f, a: f(a(X)),
    "spectrum.participation_ratio": lambda f, a: f(a(X)),
    "spectrum.principal_dimension": lambda f, a: f(a(X)),
    "spectrum.unrelated": lambda f, a: f(a(X), **rng()),
    "statistics.bootstrap_interval": lambda f, a: f(a(ONES), n_resamples=50, **rng()),
    "statistics.t_interval": lambda f, a: f(a(ONES)),
    "statistics.mean_interval": lambda f, a: f(a(ONES)),
    "statistics.paired_difference": lambda f, a: f(a(ONES), a(ONES**2), **rng()),
    "statistics.hierarchical_bootstrap": lambda f, a: f(a(ONES), a(LABELS), n_resamples=50, **rng()),
    "statistics.paired_permutation_test": lambda f, a: f(a(ONES[:8]), a(ONES[8:16]), **rng()),
    "statistics.permutation_test": lambda f, a: f(a(ONES[:5]), a(ONES[5:9]), **rng()),
    "statistics.holm": lambda f, a: f(a(ONES)),
    "statistics.paired_dz": lambda f, a: f(a(ONES), a(ONES**2)),
    "statistics.sample": lambda f, a: f(a(ONES), "x"),
    **{f"superposition.{name}": lambda f, a: f(a(W)) for name in (
        "feature_norms", "unit_columns", "gram", "interference", "feature_dimensionality", "dimensions_per_feature",
        "is_represented", "n_represented")},
    "superposition_theory.phase_losses": lambda f, a: f(a(ONES), a(ONES)),
    "superposition_theory.predicted_phase": lambda f, a: f(a(ONES), a(ONES)),
    "superposition_theory.measured_phase": lambda f, a: f(a(W)),
    "tokens.firing_rates": lambda f, a: f(a(LATENTS)),
    "tokens.top_purity": lambda f, a: f(a(LATENTS), a(LABELS), 5),
    "tokens.firings": lambda f, a: list(f(a(LATENTS), a(LABELS), 5)),
    "tokens.permuted_tokens_null": lambda f, a: f(
        lambda own, ids: PUBLIC["tokens.top_purity"](own, ids, 5), a(LATENTS), a(LABELS), 3, **rng()),
    "topography.mean_pairwise_distance": lambda f, a: f(a(LABELS[:3][None]), **TOPOLOGY),
    "topography.colocation": lambda f, a: f(a(LABELS[:3][None]), n=20, **TOPOLOGY, **rng()),
    "topography.morans_i": lambda f, a: f(a(MAPS), **TOPOLOGY),
    "topography.morans_i_null": lambda f, a: f(a(MAPS), n=5, **TOPOLOGY, **rng()),
    "topography.correlation_profile": lambda f, a: f(a(np.hstack([X, Y])), n=5, **TOPOLOGY, **rng()),
    "topography.disc": lambda f, a: f(a(np.array([1, 5])), k=3, **TOPOLOGY),
}


def plain(found):
    """Anything a metric gives, as nested lists of arrays."""
    if isinstance(found, dict):
        return [plain(part) for part in found.values()]
    if isinstance(found, (tuple, list)):
        return [plain(part) for part in found]
    return found if isinstance(found, str) else np.asarray(found.detach() if isinstance(found, torch.Tensor) else found)


def same(first, second):
    if isinstance(first, list):
        assert len(first) == len(second)
        return [same(*pair) for pair in zip(first, second, strict=True)]
    assert first == second if isinstance(first, str) else np.allclose(first, second, equal_nan=True)


def in_a_graph(values):
    tensor = torch.from_numpy(np.array(values))
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("given", [torch.from_numpy, in_a_graph], ids=["tensor", "in a graph"])
def test_a_tensor_is_read_as_an_array_is(name, given):
    same(plain(CALLS[name](PUBLIC[name], np.array)), plain(CALLS[name](PUBLIC[name], lambda v: given(np.array(v)))))


def test_no_metric_of_arrays_is_left_out():
    assert ARRAYS.keys() - CALLS.keys() == set() and CALLS.keys() <= ARRAYS.keys()


def emptied(part):
    """What sets a part of every matrix, or all values of every array, to one value."""
    def spoil(values, value=0.0):
        values = np.array(values)
        if values.dtype.kind == "f" and (part == () or values.ndim == 2):
            values[part] = value
        return values

    return spoil


SPOILT = {"a unit": emptied((slice(None), 0)), "a sample": emptied(0), "everything": emptied(()),
          "all alike": lambda values: emptied(())(values, 1.0)}
INFINITE = {("superposition.dimensions_per_feature", "everything")}  # and says so
UNDEFINED = {  # where a value is NaN, which each says: a unit, pair or map that has none
    "monosemanticity.monosemanticity", "polysemanticity.polysemanticity_index", "recovery.detection",
    "recovery.absorption", "selectivity.entropy_selectivity", "selectivity.class_selectivity_index",
    "selectivity.peak_share", "selectivity.label_permutation_null", "tokens.top_purity",
    "topography.morans_i", "topography.morans_i_null"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("what", SPOILT)
def test_a_length_or_a_spread_of_0_is_refused_in_words_or_does_no_harm(name, what):
    try:
        found = plain(CALLS[name](PUBLIC[name], SPOILT[what]))
    except ValueError as refused:
        assert type(refused) in (ValueError, NullCannotMove) and "do not fit" not in str(refused)
        return
    values = np.hstack([np.ravel(part) for part in leaves(found) if np.asarray(part).dtype.kind == "f"] or [0.0])
    assert np.isinf(values).any() == ((name, what) in INFINITE)
    assert not np.isnan(values).any() or name in UNDEFINED


def leaves(found):
    return [leaf for part in found for leaf in leaves(part)] if isinstance(found, list) else [found]
