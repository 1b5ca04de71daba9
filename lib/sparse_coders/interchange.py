"""Coders in the files of two other libraries: SAELens, and dictionary_learning.

    save_saelens(coder, "folder")                  # cfg.json and sae_weights.safetensors
    save_dictionary_learning(coder, "folder")      # config.json and ae.pt
    coder = load_saelens("folder")                 # and load_dictionary_learning("folder")

The same latents and reconstructions on both sides, up to rounding: the data's scale is folded into the weights, and a
b_dec that is not subtracted from the input is folded into b_enc. What a layout cannot say is refused, never dropped.
A class of theirs is a `Row` here, read and written from the same row.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.files import read_json, write_atomically, write_json
from lib.sparse_coders.coder import SparseCoder


class Row(NamedTuple):
    """A class of another library.

    Attributes:
        rule: ours that it is read as.
        tensors: our names of its tensors, by theirs; beside a coder's own, k, level (BatchTopK's threshold) and groups.
        written: rules of ours that are written as it.
        subtracts: whether it subtracts b_dec from its input, where its configuration does not say.
    """

    rule: str
    tensors: Mapping[str, str]
    written: tuple[str, ...] = ()
    subtracts: bool = True


_OWN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
_TORCH = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
_GATES = {"b_gate": "b_enc", "r_mag": "log_scale", "b_mag": "b_mag"}
_THRESHOLD, _SKIP, _LEVEL = {"threshold": "threshold"}, {"W_skip": "W_skip"}, {"k": "k", "threshold": "level"}
_RELU, _JUMP = ("relu", "p_anneal"), ("jumprelu", "prolu", "batch_topk", "matryoshka")
SAELENS = {
    "standard": Row("relu", _OWN, _RELU),
    "gated": Row("gated", {name: name for name in ("W_enc", "W_dec", "b_dec")} | _GATES, ("gated",)),
    "jumprelu": Row("jumprelu", _OWN | _THRESHOLD, _JUMP),
    "topk": Row("topk", _OWN, ("topk",)),
    "abstopk": Row("abs_topk", _OWN, ("abs_topk",)),
    "transcoder": Row("relu", _OWN, _RELU),
    "skip_transcoder": Row("relu", _OWN | _SKIP, _RELU),
    "jumprelu_transcoder": Row("jumprelu", _OWN | _THRESHOLD, _JUMP),
    "jumprelu_skip_transcoder": Row("jumprelu", _OWN | _THRESHOLD | _SKIP, _JUMP),
}
"""SAELens: architectures."""
DICTIONARY_LEARNING = {
    "AutoEncoder": Row("relu", _TORCH | {"bias": "b_dec"}, _RELU),
    "AutoEncoderNew": Row("relu", _TORCH | {"decoder.bias": "b_dec"}, subtracts=False),
    "GatedAutoEncoder": Row("gated", {
        "encoder.weight": "W_enc", "decoder.weight": "W_dec", "decoder_bias": "b_dec", "gate_bias": "b_enc",
        "r_mag": "log_scale", "mag_bias": "b_mag"}, ("gated",)),
    "JumpReluAutoEncoder": Row("jumprelu", _OWN | _THRESHOLD, ("jumprelu", "prolu"), subtracts=False),
    "AutoEncoderTopK": Row("topk", _TORCH | {"b_dec": "b_dec"} | _LEVEL, ("topk",)),
    "BatchTopKSAE": Row("batch_topk", _TORCH | {"b_dec": "b_dec"} | _LEVEL, ("batch_topk",)),
    "MatryoshkaBatchTopKSAE": Row("matryoshka", _OWN | _LEVEL | {"group_sizes": "groups"}, ("matryoshka",)),
}
"""dictionary_learning: classes."""
_tensors = partial(torch.load, map_location="cpu", weights_only=True)
"""What a .pt file holds; nothing but tensors and plain containers is read."""
_PER_SAMPLE = "constant_norm_rescale"
"""SAELens's name for x / |x| sqrt(d), with recons multiplied back."""
_TRANSPOSED = ("W_enc", "decoder.weight")
"""Their tensors that hold a column per latent where ours hold a row."""


def save_saelens(coder: SparseCoder, folder: str | Path) -> Path:
    """Write cfg.json and sae_weights.safetensors, which SAELens reads with SAE.load_from_disk(folder).

    relu and p_anneal become "standard" (or "transcoder"), batch_topk, matryoshka and prolu "jumprelu" with the learned
    threshold, as SAELens itself saves the first two; topk, abs_topk, gated and jumprelu keep their rule.

    Args:
        coder: any rule but stochastic and matching_pursuit, without context; a transcoder with rule relu, p_anneal,
            jumprelu, prolu, batch_topk or matryoshka.
    Returns:
        The folder.
    """
    name = _class_of(coder, SAELENS, "SAELens")
    config = {"architecture": name, "d_in": coder.d_in, "d_sae": coder.n_latents, "device": "cpu",
              "dtype": str(coder.W_dec.dtype).removeprefix("torch."), "apply_b_dec_to_input": not coder.is_transcoder,
              "normalize_activations": _PER_SAMPLE if coder.per_sample else "none", "reshape_activations": "none",
              "metadata": {"sae_lens_version": "6.0.0"}}
    config |= {"d_out": coder.d_out} if coder.is_transcoder else {}
    config |= {"k": coder.rule.k, "rescale_acts_by_decoder_norm": False} if name.endswith("topk") else {}
    return _write(Path(folder), "cfg.json", config, "sae_weights.safetensors", save_file, _theirs(SAELENS[name], coder))


def load_saelens(folder: str | Path) -> SparseCoder:
    """The coder in a folder with cfg.json and sae_weights.safetensors, of SAELens 3 to 6.

    Decoder rows keep the lengths they have in the file.
    """
    path, weights = Path(folder) / "cfg.json", Path(folder) / "sae_weights.safetensors"
    config, tensors = _read(path, "settings", read_json), _read(weights, "weights", load_file)
    if (tensors.get("scaling_factor", torch.zeros(1)) == 1).all():  # kept by SAELens whether or not it was finetuned
        del tensors["scaling_factor"]
        config |= {"finetuning_scaling_factor": False}
    name, options = _architecture(path, config)
    row, is_transcoder, (d_in, n) = SAELENS[name], "transcoder" in name, _counts(path, config, "d_in", "d_sae")
    if is_transcoder:
        options |= {"d_out": _counts(path, config, "d_out")[0], "skip": "W_skip" in row.tensors}
    t = _ours(weights, tensors, row, (d_in, n, options.get("d_out", d_in)))
    if config.get("rescale_acts_by_decoder_norm"):  # latents h |w| with decoder w / |w|
        length = t["W_dec"].norm(dim=1)
        t |= {"W_enc": t["W_enc"] * length[:, None], "b_enc": t["b_enc"] * length}
        t["W_dec"] = t["W_dec"] / length[:, None].clamp_min(torch.finfo(length.dtype).tiny)
    return _coder(row.rule, t, options, is_transcoder or config.get("apply_b_dec_to_input", True))


def save_dictionary_learning(coder: SparseCoder, folder: str | Path) -> Path:
    """Write config.json and ae.pt, which dictionary_learning reads with utils.load_dictionary(folder, device).

    relu and p_anneal become AutoEncoder, prolu JumpReluAutoEncoder; topk, batch_topk, matryoshka, gated and jumprelu
    keep their rule.

    Args:
        coder: an autoencoder without context of one of these rules.
    Returns:
        The folder.
    """
    name = _class_of(coder, DICTIONARY_LEARNING, "dictionary_learning")
    tensors = _theirs(DICTIONARY_LEARNING[name], coder)
    trainer = {"dict_class": name, "activation_dim": coder.d_in, "dict_size": coder.n_latents}
    trainer |= {key: tensors[key].tolist() for key in ("k", "group_sizes") if key in tensors}
    return _write(Path(folder), "config.json", {"trainer": trainer}, "ae.pt", torch.save, tensors)


def load_dictionary_learning(folder: str | Path) -> SparseCoder:
    """The coder in a folder with config.json and ae.pt; decoder rows keep the lengths they have in the file."""
    path, weights = Path(folder) / "config.json", Path(folder) / "ae.pt"
    config, tensors = _read(path, "settings", read_json).get("trainer"), _read(weights, "weights", _tensors)
    config = config if isinstance(config, dict) else {}
    if (name := config.get("dict_class")) not in DICTIONARY_LEARNING:
        raise ValueError(f"{path}: trainer.dict_class {name!r} is not one of {', '.join(DICTIONARY_LEARNING)}")
    row, (d, n) = DICTIONARY_LEARNING[name], _counts(path, config, "activation_dim", "dict_size")
    if "k" in row.tensors and "k" not in tensors:  # files from before 2024-12
        tensors["k"] = torch.tensor(_counts(path, config, "k")[0])
    if row.rule == "topk":
        tensors.setdefault("threshold", torch.tensor(-1.0))
    elif "level" in row.tensors.values() and "threshold" not in tensors:
        raise ValueError(f"{weights}: threshold is missing: {name} ranked over its batch before 2024-12; give the file "
                         "a threshold, such as the mean over batches of the smallest latent kept")
    t, options = _ours(weights, tensors, row, (d, n, d)), {}
    if "k" in t:
        options["k"] = int(t.pop("k"))
        if config.get("k", options["k"]) != options["k"]:
            raise ValueError(f"{path}: trainer.k is {config['k']}, k in {weights.name} is {options['k']}")
    level = t.pop("level", None)
    if level is not None and row.rule != "topk":  # theirs encodes by k too
        if level < 0:
            raise ValueError(f"{weights}: threshold {float(level):g} was never learned, so the coder cannot encode")
        t["inference_threshold"] = level
    if "groups" in t:
        options["groups"] = t.pop("groups").long().cumsum(0)
    return _coder(row.rule, t, options, row.subtracts)


def _class_of(coder: SparseCoder, rows: Mapping[str, Row], library: str) -> str:
    """The name of the class a coder is written as."""
    rule, shape = coder.rule.name, (coder.is_transcoder, coder.W_skip is not None)
    names = (name for name, row in rows.items()
             if rule in row.written and shape == ("transcoder" in name, "W_skip" in row.tensors))
    own = coder.per_sample and (rows is not SAELENS or coder.is_transcoder)
    if (name := next(names, None)) is None or coder.context or own:
        kind = "a transcoder" if coder.is_transcoder else "an autoencoder"
        more = f" with context={coder.context}" if coder.context else ""
        more += " with per_sample (every sample over its own length)" if own else ""
        raise ValueError(f"{library} has no layout for {kind} of rule {rule}{more}; use coder.save(path)")
    if getattr(coder, "inference_threshold", 0) < 0:
        raise ValueError(f"this {rule} coder has learned no threshold yet; train it before writing it")
    return name


def _theirs(row: Row, coder: SparseCoder) -> dict[str, Tensor]:
    """The tensors of a row, scale folded in: detached, on the CPU, contiguous, none sharing memory."""
    rule, values = coder.rule, dict(copy.deepcopy(coder).fold_scale().named_parameters())
    level = getattr(coder, "inference_threshold", torch.tensor(-1.0))
    values = {"threshold": level.to(coder.W_dec.dtype).expand(coder.n_latents), "level": level.float()} | values
    if rule.name == "prolu":  # JumpReLU of the projection
        values |= {"threshold": (-values["b_enc"]).clamp_min(0), "b_enc": torch.zeros_like(values["b_enc"])}
    values["k"] = torch.tensor(getattr(rule, "k", None) or 0, dtype=torch.int32)
    values["groups"] = torch.tensor([0, *getattr(rule, "groups", ())]).diff()
    if not row.subtracts:
        values["b_enc"] = values["b_enc"] - values["W_enc"] @ values["b_dec"]
    found = {name: values[ours].T if name in _TRANSPOSED else values[ours] for name, ours in row.tensors.items()}
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}


def _ours(path: Path, tensors: Mapping[str, Tensor], row: Row, sizes: tuple[int, int, int]) -> dict[str, Tensor]:
    """A file's tensors under our names: all of the row there, finite, of its shapes; half precision becomes float32.

    Args:
        sizes: d_in, n_latents, d_out.
    """
    d_in, n, d_out = sizes
    groups = (tensors["group_sizes"].numel() if "group_sizes" in tensors else 1,)
    shapes = {"W_enc": (n, d_in), "W_dec": (n, d_out), "b_dec": (d_out,), "W_skip": (d_out, d_in), "k": (), "level": (),
              "groups": groups}
    wanted = {theirs: shapes.get(ours, (n,)) for theirs, ours in row.tensors.items()}
    wanted = {theirs: shape[::-1] if theirs in _TRANSPOSED else shape for theirs, shape in wanted.items()}
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in wanted]
    for name in wanted.keys() & tensors.keys():
        if (shape := tuple(getattr(tensors[name], "shape", "?"))) != wanted[name]:
            problems.append(f"{name} is {shape}, the configuration says {wanted[name]}")
        elif not torch.isfinite(tensors[name]).all():
            problems.append(f"{name} has NaN or infinite values")
    if problems:
        raise ValueError(f"{path}: {'; '.join(sorted(problems))}")
    whole = {name: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for name, t in tensors.items()}
    return {row.tensors[name]: t.T if name in _TRANSPOSED else t for name, t in whole.items()}


def _coder(rule: str, tensors: Mapping[str, Tensor], options: dict[str, Any], subtracts: bool) -> SparseCoder:
    """A coder with these parameters; where b_dec was not subtracted, b_enc is moved so that it can be."""
    dtype = torch.float64 if tensors["W_dec"].dtype == torch.float64 else torch.float32
    t = {name: tensor.double() for name, tensor in tensors.items()}
    if not subtracts:
        shift = t["W_enc"] @ t["b_dec"]
        t["b_enc"] = t["b_enc"] + shift
        if rule == "gated":
            t["b_mag"] = t["b_mag"] + t["log_scale"].exp() * shift
    if rule == "jumprelu":
        t["threshold"] = t["threshold"].clamp_min(0)  # ReLU comes on top there, so below 0 is 0
    (n_latents, d_in) = t["W_enc"].shape
    coder = SparseCoder(d_in, n_latents, rule, dtype=dtype, **options)
    with torch.no_grad():
        for name, value in t.items():
            getattr(coder, name).copy_(value)
        coder.trained_on.fill_(1)  # so that further training keeps scale and b_dec
    return coder


def _architecture(path: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """SAELens's architecture and our options, or an error for whatever changes the function and is not here."""
    name = config.get("architecture", "standard")
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    name = "topk" if (name, activation) == ("standard", "topk") else name
    if name not in SAELENS:
        raise ValueError(f"{path}: architecture {name!r} is not one of {', '.join(SAELENS)}")
    has_k, is_transcoder = "topk" in name, "transcoder" in name
    normalised = config.get("normalize_activations") or "none"
    heads = "hook_z" if "hook_z" in str(config.get("hook_name", config.get("hook_point", ""))) else "none"
    for key, value, accepted, remedy in (
        ("activation_fn", activation, ("relu", "topk") if has_k else ("relu",), "other activations are not"),
        ("normalize_activations", normalised, ("none",) if is_transcoder else ("none", _PER_SAMPLE),
         "fold it there first (SAE.fold_activation_norm_scaling_factor); layer_norm, and a transcoder's scale for each "
         "sample, cannot be"),
        ("reshape_activations", config.get("reshape_activations", heads), ("none",),
         "flatten the heads yourself and set it to none"),
        ("finetuning_scaling_factor", config.get("finetuning_scaling_factor", False), (False,), "fold it into W_dec"),
        ("apply_b_dec_to_input", bool(config.get("apply_b_dec_to_input", not is_transcoder)),
         (False,) if is_transcoder else (False, True), "a transcoder cannot subtract what lives in its target"),
    ):
        if value not in accepted:
            raise ValueError(f"{path}: {key} {value!r} is not supported here ({remedy})")
    k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k"))
    if has_k and not isinstance(k, int):
        raise ValueError(f"{path}: k {k!r} is not a whole number")
    return name, ({"k": k} if has_k else {}) | ({"per_sample": True} if normalised == _PER_SAMPLE else {})


def _write(
    folder: Path, config_name: str, config: Any, name: str, save: Callable[..., Any], tensors: dict[str, Tensor]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / name, lambda file: save(tensors, file))
    write_json(folder / config_name, config)
    return folder


def _read(path: Path, kind: str, read: Callable[[Path], Any]) -> dict[str, Any]:
    """What a file holds, by name."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; give the folder that holds it")
    try:
        found = read(path)
    except Exception as error:  # bytes that are no pickle raise errors of a dozen kinds
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is not a whole file of {kind} ({said}); fetch or save it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, not {kind} by name")
    return found


def _counts(path: Path, config: Mapping[str, Any], *keys: str) -> list[int]:
    """Whole numbers of at least 1 in a configuration."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{path}: {key} {value!r} is not a whole number of at least 1")
    return [config[key] for key in keys]
