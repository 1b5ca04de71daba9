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
CLASSES = {
    "AutoEncoder": "relu", "AutoEncoderNew": "relu", "GatedAutoEncoder": "gated", "JumpReluAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk", "BatchTopKSAE": "batch_topk", "MatryoshkaBatchTopKSAE": "matryoshka",
}
"""dictionary_learning classes that can be read, with our rule."""
_GATED = {"saelens": ("b_gate", "r_mag", "b_mag"), "dictionary_learning": ("gate_bias", "r_mag", "mag_bias")}
"""Their names of our b_enc, log_scale and b_mag."""


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
    folded = copy.deepcopy(coder).fold_scale()
    tensors = {"W_enc": folded.W_enc.T, "W_dec": folded.W_dec, "b_dec": folded.b_dec}
    tensors |= _gate(folded, "saelens") if rule == "gated" else {"b_enc": folded.b_enc}
    if rule == "jumprelu":
        tensors["threshold"] = _threshold(coder)
    if folded.W_skip is not None:
        tensors["W_skip"] = folded.W_skip
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
    shapes = {"W_enc": (d_in, M), "W_dec": (M, d_out), "b_dec": (d_out,)}
    shapes |= dict.fromkeys(_GATED["saelens"] if rule == "gated" else ("b_enc",), (M,))
    shapes |= {"threshold": (M,)} if rule == "jumprelu" else {}
    shapes |= {"W_skip": (d_out, d_in)} if has_skip else {}
    t = files.checked(weights, tensors, shapes)
    t["W_enc"] = t["W_enc"].T
    if config.get("rescale_acts_by_decoder_norm"):  # latents h |w| with decoder w / |w|
        length = t["W_dec"].norm(dim=1)
        t |= {"W_enc": t["W_enc"] * length[:, None], "b_enc": t["b_enc"] * length}
        t["W_dec"] = t["W_dec"] / length[:, None]
    options: dict[str, Any] = {"k": k} if rule.endswith("topk") else {}
    options |= {"d_out": d_out, "skip": has_skip} if is_transcoder else {}
    return _coder(rule, _ours(t, "saelens"), options, config.get("apply_b_dec_to_input", True) or is_transcoder)


def save_dictionary_learning(coder: SparseCoder, folder: str | Path) -> Path:
    """Write config.json and ae.pt, which dictionary_learning reads with utils.load_dictionary(folder, device).

    relu and p_anneal become AutoEncoder; topk, batch_topk, matryoshka, gated and jumprelu keep their rule.

    Args:
        coder: an autoencoder without context of one of these rules.
    Returns:
        The folder.
    """
    rule = "relu" if coder.rule == "p_anneal" else coder.rule
    name = {ours: theirs for theirs, ours in reversed(CLASSES.items())}.get(rule)
    _refuse_export(coder, None if coder.is_transcoder else name, "dictionary_learning")
    c = copy.deepcopy(coder).fold_scale()
    if rule in ("jumprelu", "matryoshka"):
        b_enc = c.b_enc - c.W_enc @ c.b_dec if rule == "jumprelu" else c.b_enc  # that class never subtracts b_dec
        tensors = {"W_enc": c.W_enc.T, "W_dec": c.W_dec, "b_enc": b_enc, "b_dec": c.b_dec}
    else:
        bias = {"relu": "bias", "gated": "decoder_bias"}.get(rule, "b_dec")
        tensors = {"encoder.weight": c.W_enc, "decoder.weight": c.W_dec.T, bias: c.b_dec}
        tensors |= _gate(c, "dictionary_learning") if rule == "gated" else {"encoder.bias": c.b_enc}
    if rule == "jumprelu":
        tensors["threshold"] = c.threshold
    trainer = {"dict_class": name, "activation_dim": c.d_in, "dict_size": c.n_latents}
    if rule.endswith("topk") or rule == "matryoshka":
        level = torch.tensor(-1.0) if rule == "topk" else _threshold(coder)[0].float()
        tensors |= {"k": torch.tensor(c.options["k"], dtype=torch.int32), "threshold": level}
        trainer["k"] = c.options["k"]
    if rule == "matryoshka":
        ends = [0, *c.options["groups"]]
        trainer["group_sizes"] = [high - low for low, high in zip(ends, ends[1:], strict=False)]
        tensors["group_sizes"] = torch.tensor(trainer["group_sizes"])
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
    rule, d, M = CLASSES[name], *(files.count(path, config, key) for key in ("activation_dim", "dict_size"))
    t = files.checked(weights, tensors, _dictionary_learning_shapes(name, d, M, tensors))
    options: dict[str, Any] = {}
    level = None
    if "k" in t:
        options["k"], level = int(t.pop("k")), t.pop("threshold").double()
        if config.get("k", options["k"]) != options["k"]:
            raise ValueError(f"{path}: trainer.k is {config['k']}, k in {weights.name} is {options['k']}")
        level = None if rule == "topk" else level  # theirs encodes by k too
    if level is not None and level < 0:
        raise ValueError(f"{weights}: threshold {float(level):g} was never learned, so the coder cannot encode")
    if "group_sizes" in t:
        options["groups"] = t.pop("group_sizes").long().cumsum(0).tolist()
    for key in {"W_enc", "decoder.weight"} & t.keys():
        t[key] = t[key].T
    subtracts = name not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    return _coder(rule, _ours(t, "dictionary_learning"), options, subtracts, level)


def _dictionary_learning_shapes(name: str, d: int, M: int, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of a class's tensors, by their names."""
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias", "GatedAutoEncoder": "decoder_bias"}
    if name in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE"):
        shapes = {"W_enc": (d, M), "W_dec": (M, d), "b_enc": (M,)}
    else:
        shapes = {"encoder.weight": (M, d), "decoder.weight": (d, M)}
        own = _GATED["dictionary_learning"] if name == "GatedAutoEncoder" else ("encoder.bias",)
        shapes |= dict.fromkeys(own, (M,))
    shapes[bias.get(name, "b_dec")] = (d,)
    if name == "JumpReluAutoEncoder":
        shapes["threshold"] = (M,)
    elif CLASSES[name] in ("topk", "batch_topk", "matryoshka"):
        shapes |= {"k": (), "threshold": ()}
    if name == "MatryoshkaBatchTopKSAE":
        shapes["group_sizes"] = (tensors["group_sizes"].numel() if "group_sizes" in tensors else 1,)
    return shapes


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


def _gate(coder: SparseCoder, library: str) -> dict[str, Tensor]:
    return dict(zip(_GATED[library], (coder.b_enc, coder.log_scale, coder.b_mag), strict=True))


def _ours(tensors: dict[str, Tensor], library: str) -> dict[str, Tensor]:
    """Tensors under our names."""
    names = dict(zip(_GATED[library], ("b_enc", "log_scale", "b_mag"), strict=True))
    names |= {"encoder.weight": "W_enc", "decoder.weight": "W_dec", "encoder.bias": "b_enc"}
    names |= dict.fromkeys(("bias", "decoder.bias", "decoder_bias"), "b_dec")
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


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
