"""Coders in the files of two other libraries: SAELens, and dictionary_learning.

    save_saelens(coder, "folder")                  # cfg.json and sae_weights.safetensors
    save_dictionary_learning(coder, "folder")      # config.json and ae.pt
    coder = load_saelens("folder")                 # and load_dictionary_learning("folder")

The same latents and reconstructions on both sides, up to rounding: the data's scale is folded into the weights, and a
b_dec that is not subtracted from the input is folded into b_enc. What a layout cannot say is refused, never dropped.
SAELens: W_enc [d_in, d_sae], W_dec [d_sae, d_out]. dictionary_learning: encoder.weight [dict_size, activation_dim],
decoder.weight [activation_dim, dict_size], except in its JumpReLU and Matryoshka classes, which are laid out like
SAELens.
"""
from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.files import write_atomically, write_json
from lib.sparse_coders import foreign_files as files
from lib.sparse_coders.coder import SparseCoder

ARCHITECTURES = {
    "standard": "relu", "gated": "gated", "jumprelu": "jumprelu", "topk": "topk", "abstopk": "abs_topk",
    "transcoder": "relu", "skip_transcoder": "relu", "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
"""SAELens architectures that can be read, with our rule."""
_OWN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
_TORCH = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
_LEVEL = {"k": "k", "threshold": "level"}
CLASSES = {
    "AutoEncoder": ("relu", _TORCH | {"bias": "b_dec"}),
    "AutoEncoderNew": ("relu", _TORCH | {"decoder.bias": "b_dec"}),
    "GatedAutoEncoder": ("gated", {
        "encoder.weight": "W_enc", "decoder.weight": "W_dec", "decoder_bias": "b_dec", "gate_bias": "b_enc",
        "r_mag": "log_scale", "mag_bias": "b_mag"}),
    "JumpReluAutoEncoder": ("jumprelu", _OWN | {"threshold": "threshold"}),
    "AutoEncoderTopK": ("topk", _TORCH | {"b_dec": "b_dec"} | _LEVEL),
    "BatchTopKSAE": ("batch_topk", _TORCH | {"b_dec": "b_dec"} | _LEVEL),
    "MatryoshkaBatchTopKSAE": ("matryoshka", _OWN | _LEVEL | {"group_sizes": "groups"}),
}
"""dictionary_learning classes that can be read: our rule, and their names of our tensors."""
_TRANSPOSED = ("W_enc", "decoder.weight")
"""Their tensors that hold a column per latent where ours hold a row."""


def save_saelens(coder: SparseCoder, folder: str | Path) -> Path:
    """Write cfg.json and sae_weights.safetensors, which SAELens reads with SAE.load_from_disk(folder).

    relu and p_anneal become "standard" (or "transcoder"), batch_topk and matryoshka "jumprelu" with the learned
    threshold, as SAELens itself saves them; topk, abs_topk, gated and jumprelu keep their rule.

    Args:
        coder: any rule but stochastic and matching_pursuit, without context; a transcoder with rule relu, p_anneal,
            jumprelu, batch_topk or matryoshka.
    Returns:
        The folder.
    """
    rule = {"p_anneal": "relu", "batch_topk": "jumprelu", "matryoshka": "jumprelu"}.get(coder.rule, coder.rule)
    name = {ours: theirs for theirs, ours in reversed(ARCHITECTURES.items()) if "coder" not in theirs}.get(rule)
    if coder.is_transcoder and name in ("standard", "jumprelu"):
        parts = [name] * (name == "jumprelu") + ["skip"] * (coder.W_skip is not None) + ["transcoder"]
        name = "_".join(parts)
    elif coder.is_transcoder:
        name = None
    _refuse_export(coder, name, "SAELens")
    values = _values(coder) | ({"threshold": _threshold(coder)} if rule == "jumprelu" else {})
    tensors = _turned(_saelens_layout(rule, coder.W_skip is not None), values)
    config = {"architecture": name, "d_in": coder.d_in, "d_sae": coder.n_latents, "device": "cpu",
              "dtype": str(coder.W_dec.dtype).removeprefix("torch."), "apply_b_dec_to_input": not coder.is_transcoder,
              "normalize_activations": "none", "reshape_activations": "none",
              "metadata": {"sae_lens_version": "6.0.0"}}
    config |= {"d_out": coder.d_out} if coder.is_transcoder else {}
    config |= {"k": coder.options["k"], "rescale_acts_by_decoder_norm": False} if rule.endswith("topk") else {}
    folder = files.made(folder)
    write_atomically(folder / "sae_weights.safetensors", lambda file: save_file(files.plain(tensors), file))
    write_json(folder / "cfg.json", config)
    return folder


def load_saelens(folder: str | Path) -> SparseCoder:
    """The coder in a folder with cfg.json and sae_weights.safetensors, of SAELens 3 to 6.

    Decoder rows keep the lengths they have in the file.
    """
    path, weights = Path(folder) / "cfg.json", Path(folder) / "sae_weights.safetensors"
    config, tensors = files.read_json(path), files.read_tensors(weights, load_file)
    name, k = _saelens_architecture(path, config)
    rule, is_transcoder, has_skip = ARCHITECTURES[name], "transcoder" in name, "skip" in name
    d_in, M = (files.count(path, config, key) for key in ("d_in", "d_sae"))
    d_out = files.count(path, config, "d_out") if is_transcoder else d_in
    t = _read(weights, tensors, _saelens_layout(rule, has_skip), (d_in, M, d_out))
    if config.get("rescale_acts_by_decoder_norm"):  # latents h |w| with decoder w / |w|
        length = t["W_dec"].norm(dim=1)
        t |= {"W_enc": t["W_enc"] * length[:, None], "b_enc": t["b_enc"] * length}
        t["W_dec"] = t["W_dec"] / length[:, None]
    options: dict[str, Any] = {"k": k} if rule.endswith("topk") else {}
    options |= {"d_out": d_out, "skip": has_skip} if is_transcoder else {}
    return _coder(rule, t, options, config.get("apply_b_dec_to_input", True) or is_transcoder)


def save_dictionary_learning(coder: SparseCoder, folder: str | Path) -> Path:
    """Write config.json and ae.pt, which dictionary_learning reads with utils.load_dictionary(folder, device).

    relu and p_anneal become AutoEncoder; topk, batch_topk, matryoshka, gated and jumprelu keep their rule.

    Args:
        coder: an autoencoder without context of one of these rules.
    Returns:
        The folder.
    """
    rule = "relu" if coder.rule == "p_anneal" else coder.rule
    name = {ours: theirs for theirs, (ours, _) in reversed(CLASSES.items())}.get(rule)
    _refuse_export(coder, None if coder.is_transcoder else name, "dictionary_learning")
    values, options, layout = _values(coder), coder.options, CLASSES[name][1]
    if rule == "jumprelu":  # that class never subtracts b_dec
        values["b_enc"] = values["b_enc"] - values["W_enc"] @ values["b_dec"]
    trainer = {"dict_class": name, "activation_dim": coder.d_in, "dict_size": coder.n_latents}
    if "k" in layout:
        level = torch.tensor(-1.0) if rule == "topk" else _threshold(coder)[0].float()
        values |= {"k": torch.tensor(options["k"], dtype=torch.int32), "level": level}
        trainer["k"] = options["k"]
    if rule == "matryoshka":
        ends = [0, *options["groups"]]
        trainer["group_sizes"] = [high - low for low, high in zip(ends, ends[1:], strict=False)]
        values["groups"] = torch.tensor(trainer["group_sizes"])
    tensors = _turned(layout, values)
    folder = files.made(folder)
    write_atomically(folder / "ae.pt", lambda file: torch.save(files.plain(tensors), file))
    write_json(folder / "config.json", {"trainer": trainer})
    return folder


def load_dictionary_learning(folder: str | Path) -> SparseCoder:
    """The coder in a folder with config.json and ae.pt; decoder rows keep the lengths they have in the file."""
    path, weights = Path(folder) / "config.json", Path(folder) / "ae.pt"
    config, tensors = files.read_json(path).get("trainer"), files.read_tensors(weights, files.unpickle)
    config = config if isinstance(config, dict) else {}
    name = config.get("dict_class")
    if name not in CLASSES:
        raise ValueError(f"{path}: trainer.dict_class {name!r} is not one of {', '.join(CLASSES)}")
    (rule, layout), d, M = CLASSES[name], *(files.count(path, config, key) for key in ("activation_dim", "dict_size"))
    t = _read(weights, tensors, layout, (d, M, d))
    options: dict[str, Any] = {}
    level = None
    if "k" in t:
        options["k"], level = int(t.pop("k")), t.pop("level").double()
        if config.get("k", options["k"]) != options["k"]:
            raise ValueError(f"{path}: trainer.k is {config['k']}, k in {weights.name} is {options['k']}")
        level = None if rule == "topk" else level  # theirs encodes by k too
    if level is not None and level < 0:
        raise ValueError(f"{weights}: threshold {float(level):g} was never learned, so the coder cannot encode")
    if "groups" in t:
        options["groups"] = t.pop("groups").long().cumsum(0).tolist()
    return _coder(rule, t, options, name not in ("AutoEncoderNew", "JumpReluAutoEncoder"), level)


def _saelens_layout(rule: str, has_skip: bool) -> dict[str, str]:
    """SAELens's names of our tensors."""
    own = {"gated": {"b_gate": "b_enc", "r_mag": "log_scale", "b_mag": "b_mag"}}.get(rule, {"b_enc": "b_enc"})
    own |= {"threshold": "threshold"} if rule == "jumprelu" else {}
    return {"W_enc": "W_enc", "W_dec": "W_dec", "b_dec": "b_dec"} | own | ({"W_skip": "W_skip"} if has_skip else {})


def _read(
    path: Path, tensors: Mapping[str, Tensor], layout: Mapping[str, str], sizes: tuple[int, int, int]
) -> dict[str, Tensor]:
    """Tensors of a file under our names; sizes are (d_in, n_latents, d_out)."""
    d_in, M, d_out = sizes
    groups = tensors["group_sizes"].numel() if "group_sizes" in tensors else 1
    shapes = {"W_enc": (M, d_in), "W_dec": (M, d_out), "b_dec": (d_out,), "W_skip": (d_out, d_in), "k": (), "level": (),
              "groups": (groups,)}
    wanted = {theirs: shapes.get(ours, (M,)) for theirs, ours in layout.items()}
    wanted = {theirs: shape[::-1] if theirs in _TRANSPOSED else shape for theirs, shape in wanted.items()}
    found = files.checked(path, tensors, wanted)
    return {layout[name]: t.T if name in _TRANSPOSED else t for name, t in found.items()}


def _turned(layout: Mapping[str, str], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names."""
    return {name: values[ours].T if name in _TRANSPOSED else values[ours] for name, ours in layout.items()}


def _values(coder: SparseCoder) -> dict[str, Tensor]:
    """The coder's parameters with its scale folded in."""
    return dict(copy.deepcopy(coder).fold_scale().named_parameters())


def _saelens_architecture(path: Path, config: Mapping[str, Any]) -> tuple[str, int | None]:
    """Architecture and k, or an error for whatever changes the function and is not in this library."""
    name = config.get("architecture", "standard")
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    arguments = config.get("activation_fn_kwargs") or {}
    if name == "standard" and activation == "topk":
        name = "topk"
    if name not in ARCHITECTURES:
        raise ValueError(f"{path}: architecture {name!r} is not one of {', '.join(ARCHITECTURES)}")
    is_transcoder = "transcoder" in name
    heads = "hook_z" if "hook_z" in str(config.get("hook_name", config.get("hook_point", ""))) else "none"
    supported = {
        "activation_fn": (activation, ("relu", "topk") if "topk" in name else ("relu",), "other activations are not"),
        "normalize_activations": (
            config.get("normalize_activations") or "none", ("none",),
            "fold it there first (SAE.fold_activation_norm_scaling_factor); a scale for each sample cannot be"),
        "reshape_activations": (
            config.get("reshape_activations", heads), ("none",), "flatten the heads yourself and set it to none"),
        "finetuning_scaling_factor": (config.get("finetuning_scaling_factor", False), (False,), "fold it into W_dec"),
        "apply_b_dec_to_input": (
            bool(config.get("apply_b_dec_to_input", not is_transcoder)),
            (False,) if is_transcoder else (False, True), "a transcoder cannot subtract what lives in its target"),
    }
    for key, (value, accepted, remedy) in supported.items():
        if value not in accepted:
            raise ValueError(f"{path}: {key} {value!r} is not supported here ({remedy})")
    k = config.get("k", arguments.get("k"))
    if "topk" in name and not isinstance(k, int):
        raise ValueError(f"{path}: k {k!r} is not a whole number")
    return name, k


def _refuse_export(coder: SparseCoder, name: str | None, library: str) -> None:
    if name is None or coder.context:
        kind = "a transcoder" if coder.is_transcoder else "an autoencoder"
        more = f" with context={coder.context}" if coder.context else ""
        raise ValueError(f"{library} has no layout for {kind} of rule {coder.rule}{more}; use coder.save(path)")
    if coder.rule in ("batch_topk", "matryoshka") and coder.inference_threshold < 0:
        raise ValueError(f"this {coder.rule} coder has learned no threshold yet; train it before writing it")


def _threshold(coder: SparseCoder) -> Tensor:
    """What a pre-activation must exceed, [n_latents]; scales leave it as it is, since latents keep their values."""
    if coder.rule == "jumprelu":
        return coder.threshold
    return coder.inference_threshold.to(coder.W_dec.dtype).expand(coder.n_latents)


def _coder(
    rule: str, tensors: dict[str, Tensor], options: dict[str, Any], subtracts: bool, level: Tensor | None = None
) -> SparseCoder:
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
        if level is not None:
            coder.inference_threshold.copy_(level)
        coder.trained_on.fill_(1)  # so that further training keeps scale and b_dec
    return coder
